#include "kernels/optimizer.h"

#include <cmath>

#include "kernels/backend.h"
#include "kernels/cpu/spans.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {

namespace {

// Pieces of many tensors, so that threads share one loop whatever the sizes.
struct Piece {
  size_t tensor;
  int64_t begin, count;
};
template <class Sizes>
std::vector<Piece> pieces_of(size_t tensors, Sizes&& size) {
  constexpr int64_t length = 1 << 14;
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tensors; ++i) {
    const int64_t n = size(i);
    for (int64_t begin = 0; begin < n; begin += length)
      pieces.push_back({i, begin, std::min(length, n - begin)});
  }
  return pieces;
}
template <class F>
void for_pieces(const std::vector<Piece>& pieces, F&& fn) {
  int64_t total = 0;
  for (const Piece& p : pieces) total += p.count;
  const int64_t count = static_cast<int64_t>(pieces.size());
  parallel_for(count, grain_of(total / std::max<int64_t>(1, count)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) fn(pieces[static_cast<size_t>(i)], i);
               });
}

// The numbers of one AdamW step, in T.
template <class T>
struct AdamWNumbers {
  T keep, beta1, rest1, beta2, rest2, eps, step_size, root2, grad_scale;
};
template <class T>
RF_INLINE void adamw_loop(int64_t n, T* p, const T* g, T* m, T* v, AdamWNumbers<T> k) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T gi = g[i] * k.grad_scale;
    m[i] = k.beta1 * m[i] + k.rest1 * gi;
    v[i] = k.beta2 * v[i] + k.rest2 * gi * gi;
    p[i] = k.keep * p[i] - k.step_size * m[i] / (std::sqrt(v[i]) / k.root2 + k.eps);
  }
}
RF_CLONES void adamw_span(int64_t n, float* p, const float* g, float* m, float* v,
                          AdamWNumbers<float> k) {
  adamw_loop(n, p, g, m, v, k);
}
void adamw_span(int64_t n, double* p, const double* g, double* m, double* v,
                AdamWNumbers<double> k) {
  adamw_loop(n, p, g, m, v, k);
}

template <class T>
struct SgdNumbers {
  T lr, momentum, decay, grad_scale;
  bool first, nesterov;
};
template <class T>
RF_INLINE void sgd_loop(int64_t n, T* p, const T* g, T* buffer, SgdNumbers<T> k) {
  const T of_gradient = k.nesterov ? T(1) : T(0), of_buffer = k.nesterov ? k.momentum : T(1);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T gi = g[i] * k.grad_scale + k.decay * p[i];
    const T b = k.first ? gi : k.momentum * buffer[i] + gi;
    buffer[i] = b;
    p[i] -= k.lr * (of_gradient * gi + of_buffer * b);
  }
}
RF_CLONES void sgd_span(int64_t n, float* p, const float* g, float* buffer, SgdNumbers<float> k) {
  sgd_loop(n, p, g, buffer, k);
}
void sgd_span(int64_t n, double* p, const double* g, double* buffer, SgdNumbers<double> k) {
  sgd_loop(n, p, g, buffer, k);
}

template <class T>
RF_INLINE void ema_loop(int64_t n, T* average, const T* value, T decay, T rest) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) average[i] = decay * average[i] + rest * value[i];
}
RF_CLONES void ema_span(int64_t n, float* average, const float* value, float decay, float rest) {
  ema_loop(n, average, value, decay, rest);
}
void ema_span(int64_t n, double* average, const double* value, double decay, double rest) {
  ema_loop(n, average, value, decay, rest);
}

}  // namespace

void adamw_step(Exec&, const std::vector<AdamWTensor>& tensors, AdamWParams params, int64_t step,
                double grad_scale) {
  const double correction1 = 1 - std::pow(params.beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(params.beta2, static_cast<double>(step));
  const auto pieces = pieces_of(tensors.size(), [&](size_t i) { return tensors[i].param.numel(); });
  for_pieces(pieces, [&](const Piece& piece, int64_t) {
    const AdamWTensor& t = tensors[piece.tensor];
    dispatch_real(t.param.dtype(), "adamw_step", [&](auto tag) {
      using T = typename decltype(tag)::type;
      const AdamWNumbers<T> numbers{T(t.decay ? 1 - params.lr * params.weight_decay : 1),
                                    T(params.beta1),
                                    T(1 - params.beta1),
                                    T(params.beta2),
                                    T(1 - params.beta2),
                                    T(params.eps),
                                    T(params.lr / correction1),
                                    T(std::sqrt(correction2)),
                                    T(grad_scale)};
      adamw_span(piece.count, t.param.data<T>() + piece.begin, t.grad.data<T>() + piece.begin,
                 t.m.data<T>() + piece.begin, t.v.data<T>() + piece.begin, numbers);
    });
  });
}

void sgd_step(Exec&, const std::vector<SgdTensor>& tensors, SgdParams params, int64_t step,
              double grad_scale) {
  const auto pieces = pieces_of(tensors.size(), [&](size_t i) { return tensors[i].param.numel(); });
  for_pieces(pieces, [&](const Piece& piece, int64_t) {
    const SgdTensor& t = tensors[piece.tensor];
    dispatch_real(t.param.dtype(), "sgd_step", [&](auto tag) {
      using T = typename decltype(tag)::type;
      const SgdNumbers<T> numbers{
          T(params.lr),  T(params.momentum), T(t.decay ? params.weight_decay : 0),
          T(grad_scale), step == 1,          params.nesterov};
      sgd_span(piece.count, t.param.data<T>() + piece.begin, t.grad.data<T>() + piece.begin,
               t.buffer.data<T>() + piece.begin, numbers);
    });
  });
}

double global_norm(Exec&, const std::vector<Tensor>& tensors) {
  const auto pieces = pieces_of(tensors.size(), [&](size_t i) { return tensors[i].numel(); });
  std::vector<double> part(pieces.size());
  for_pieces(pieces, [&](const Piece& piece, int64_t i) {
    dispatch_real(tensors[piece.tensor].dtype(), "global_norm", [&](auto tag) {
      using T = typename decltype(tag)::type;
      part[static_cast<size_t>(i)] =
          sum_squares_span(piece.count, tensors[piece.tensor].data<T>() + piece.begin);
    });
  });
  double total = 0;
  for (double p : part) total += p;
  return std::sqrt(total);
}

void ema_update(Exec&, const std::vector<Tensor>& average, const std::vector<Tensor>& value,
                double decay) {
  const auto pieces = pieces_of(average.size(), [&](size_t i) { return average[i].numel(); });
  for_pieces(pieces, [&](const Piece& piece, int64_t) {
    dispatch_real(average[piece.tensor].dtype(), "ema_update", [&](auto tag) {
      using T = typename decltype(tag)::type;
      ema_span(piece.count, average[piece.tensor].data<T>() + piece.begin,
               value[piece.tensor].data<T>() + piece.begin, T(decay), T(1 - decay));
    });
  });
}

}  // namespace realfake::cpu
