#include "kernels/embedding.h"

#include <cmath>
#include <cstring>

#include "kernels/backend.h"
#include "kernels/cpu/spans.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {

void embedding_forward(Exec&, Out y, In table, In ids) {
  dispatch_real(y.dtype(), "embedding_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t D = table.dim(1);
    const T* from = table.data<T>();
    const int64_t* id = ids.data<int64_t>();
    T* to = y.data<T>();
    parallel_for(ids.numel(), grain_of(D), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::memcpy(to + i * D, from + id[i] * D, static_cast<size_t>(D) * sizeof(T));
    });
  });
}

void embedding_backward(Exec&, GradOut dtable, In dy, In ids) {
  if (!dtable.wanted()) return;
  dispatch_real(dy.dtype(), "embedding_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t D = dtable.tensor.dim(1), count = ids.numel();
    const T* from = dy.data<T>();
    const int64_t* id = ids.data<int64_t>();
    T* to = dtable.tensor.data<T>();
    if (!dtable.accumulate())
      for_spans_of([&](int64_t, int64_t begin, int64_t n) { std::fill_n(to + begin, n, T(0)); },
                   dtable.tensor);
    // Threads share the columns, so that equal ids add up in their order.
    parallel_for(D, grain_of(count), [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < count; ++i) {
        T* row = to + id[i] * D;
        for (int64_t d = begin; d < end; ++d) row[d] += from[i * D + d];
      }
    });
  });
}

void timestep_embedding(Exec&, Out y, In t, bool flip_sin_to_cos, double shift) {
  dispatch_real(y.dtype(), "timestep_embedding", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = y.dim(0), half = y.dim(1) / 2;
    const int64_t* step = t.data<int64_t>();
    T* to = y.data<T>();
    for (int64_t i = 0; i < half; ++i) {
      // The angle is rounded to f32 at each step in f64 too: it is what the networks were trained
      // with, and at t = 999 the rounding is 1e-4 of the result's scale.
      const float exponent = -9.21034037197618f * static_cast<float>(i) /
                             static_cast<float>(static_cast<double>(half) - shift);
      const float frequency = static_cast<float>(std::exp(static_cast<double>(exponent)));
      for (int64_t n = 0; n < N; ++n) {
        const double angle = static_cast<double>(static_cast<float>(step[n]) * frequency);
        T* row = to + n * 2 * half;
        row[flip_sin_to_cos ? half + i : i] = T(std::sin(angle));
        row[flip_sin_to_cos ? i : half + i] = T(std::cos(angle));
      }
    }
  });
}

void add_positions(Exec&, Out y, In x, In pos) {
  dispatch_real(y.dtype(), "add_positions", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t B = x.dim(0), per = x.dim(1) * x.dim(2);
    const T* from = x.data<T>();
    const T* p = pos.data<T>();
    T* to = y.data<T>();
    parallel_for(B, grain_of(per), [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
#pragma omp simd
        for (int64_t i = 0; i < per; ++i) to[b * per + i] = from[b * per + i] + p[i];
      }
    });
  });
}

namespace {
template <class T>
RF_INLINE void accumulate_loop(int64_t n, T* y, const T* x) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}
RF_CLONES void accumulate_span(int64_t n, float* y, const float* x) {
  accumulate_loop(n, y, x);
}
void accumulate_span(int64_t n, double* y, const double* x) {
  accumulate_loop(n, y, x);
}
}  // namespace

void sum_leading(Exec&, GradOut out, In x) {
  if (!out.wanted()) return;
  dispatch_real(x.dtype(), "sum_leading", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t B = x.dim(0), per = out.tensor.numel();
    const T* from = x.data<T>();
    T* to = out.tensor.data<T>();
    // Summed in a tile that stays in cache, then written or added.
    constexpr int64_t tile = 2048;
    parallel_for((per + tile - 1) / tile, grain_of(B * tile), [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const int64_t first = k * tile, n = std::min(tile, per - first);
        T sum[tile] = {};
        for (int64_t b = 0; b < B; ++b) accumulate_span(n, sum, from + b * per + first);
        if (out.accumulate())
          accumulate_span(n, to + first, sum);
        else
          std::copy_n(sum, n, to + first);
      }
    });
  });
}

void gather_tokens_forward(Exec&, Out y, In x, In index) {
  dispatch_real(y.dtype(), "gather_tokens_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = x.dim(0), tokens = x.dim(1), D = x.dim(2);
    for (int64_t n = 0; n < N; ++n)
      std::copy_n(x.data<T>() + (n * tokens + index.data<int64_t>()[n]) * D, D,
                  y.data<T>() + n * D);
  });
}

void gather_tokens_backward(Exec&, GradOut dx, In dy, In index) {
  if (!dx.wanted()) return;
  dispatch_real(dy.dtype(), "gather_tokens_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = dy.dim(0), tokens = dx.tensor.dim(1), D = dy.dim(1);
    T* to = dx.tensor.data<T>();
    if (!dx.accumulate()) std::fill_n(to, dx.tensor.numel(), T(0));
    for (int64_t n = 0; n < N; ++n)
      accumulate_span(D, to + (n * tokens + index.data<int64_t>()[n]) * D, dy.data<T>() + n * D);
  });
}

}  // namespace realfake::cpu
