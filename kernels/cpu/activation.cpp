#include "kernels/activation.h"

#include <algorithm>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {
namespace {

// f(x) and f'(x) by kind.
template <Activation Kind, class T>
RF_INLINE T value(T x) {
  if constexpr (Kind == Activation::silu) return x * sigmoid(x);
  if constexpr (Kind == Activation::gelu) return x * normal_cdf(x);
  if constexpr (Kind == Activation::quick_gelu) return x * sigmoid(T(1.702) * x);
  if constexpr (Kind == Activation::relu) return x < T(0) ? T(0) : x;
}
template <Activation Kind, class T>
RF_INLINE T slope(T x) {
  if constexpr (Kind == Activation::silu) {
    const T s = sigmoid(x);
    return s * (T(1) + x * (T(1) - s));
  }
  if constexpr (Kind == Activation::gelu) return normal_cdf(x) + x * normal_pdf(x);
  if constexpr (Kind == Activation::quick_gelu) {
    const T s = sigmoid(T(1.702) * x);
    return s * (T(1) + T(1.702) * x * (T(1) - s));
  }
  if constexpr (Kind == Activation::relu) return x > T(0) ? T(1) : T(0);
}

template <Activation Kind, class T>
RF_INLINE void forward_loop(T* y, const T* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = value<Kind>(x[i]);
}
template <Activation Kind, class T>
RF_INLINE void backward_loop(T* dx, const T* dy, const T* x, int64_t n, bool accumulate) {
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dx[i] += dy[i] * slope<Kind>(x[i]);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * slope<Kind>(x[i]);
  }
}

template <class T>
RF_INLINE void forward_kinds(T* y, const T* x, int64_t n, Activation kind) {
  switch (kind) {
    case Activation::silu:
      return forward_loop<Activation::silu>(y, x, n);
    case Activation::gelu:
      return forward_loop<Activation::gelu>(y, x, n);
    case Activation::quick_gelu:
      return forward_loop<Activation::quick_gelu>(y, x, n);
    case Activation::relu:
      return forward_loop<Activation::relu>(y, x, n);
  }
}
template <class T>
RF_INLINE void backward_kinds(T* dx, const T* dy, const T* x, int64_t n, Activation kind,
                              bool accumulate) {
  switch (kind) {
    case Activation::silu:
      return backward_loop<Activation::silu>(dx, dy, x, n, accumulate);
    case Activation::gelu:
      return backward_loop<Activation::gelu>(dx, dy, x, n, accumulate);
    case Activation::quick_gelu:
      return backward_loop<Activation::quick_gelu>(dx, dy, x, n, accumulate);
    case Activation::relu:
      return backward_loop<Activation::relu>(dx, dy, x, n, accumulate);
  }
}

RF_CLONES void forward_span(float* y, const float* x, int64_t n, Activation kind) {
  forward_kinds(y, x, n, kind);
}
void forward_span(double* y, const double* x, int64_t n, Activation kind) {
  forward_kinds(y, x, n, kind);
}
RF_CLONES void backward_span(float* dx, const float* dy, const float* x, int64_t n, Activation kind,
                             bool accumulate) {
  backward_kinds(dx, dy, x, n, kind, accumulate);
}
void backward_span(double* dx, const double* dy, const double* x, int64_t n, Activation kind,
                   bool accumulate) {
  backward_kinds(dx, dy, x, n, kind, accumulate);
}

// y = a gelu(b); da = dy gelu(b), db = dy a gelu'(b).
template <class T>
RF_INLINE void geglu_forward_body(T* y, const T* x, int64_t d) {
#pragma omp simd
  for (int64_t i = 0; i < d; ++i) y[i] = x[i] * value<Activation::gelu>(x[d + i]);
}
template <bool Accumulate, class T>
RF_INLINE void geglu_backward_body(T* da, T* db, const T* dy, const T* a, const T* b, int64_t d) {
#pragma omp simd
  for (int64_t i = 0; i < d; ++i) {
    const T phi = normal_cdf(b[i]);
    const T ga = dy[i] * b[i] * phi, gb = dy[i] * a[i] * (phi + b[i] * normal_pdf(b[i]));
    da[i] = Accumulate ? da[i] + ga : ga;
    db[i] = Accumulate ? db[i] + gb : gb;
  }
}
template <class T>
RF_INLINE void geglu_backward_modes(T* dx, const T* dy, const T* x, int64_t d, bool accumulate) {
  if (accumulate) {
    geglu_backward_body<true>(dx, dx + d, dy, x, x + d, d);
  } else {
    geglu_backward_body<false>(dx, dx + d, dy, x, x + d, d);
  }
}
RF_CLONES void geglu_forward_row(float* y, const float* x, int64_t d) {
  geglu_forward_body(y, x, d);
}
void geglu_forward_row(double* y, const double* x, int64_t d) {
  geglu_forward_body(y, x, d);
}
RF_CLONES void geglu_backward_row(float* dx, const float* dy, const float* x, int64_t d,
                                  bool accumulate) {
  geglu_backward_modes(dx, dy, x, d, accumulate);
}
void geglu_backward_row(double* dx, const double* dy, const double* x, int64_t d, bool accumulate) {
  geglu_backward_modes(dx, dy, x, d, accumulate);
}

template <class T>
RF_INLINE void softmax_forward_body(T* y, const T* x, int64_t d) {
  T top = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < d; ++i) top = x[i] > top ? x[i] : top;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < d; ++i) {
    const T e = exp_fast(x[i] - top);
    y[i] = e;
    sum += e;
  }
  const T inverse = T(1) / sum;
#pragma omp simd
  for (int64_t i = 0; i < d; ++i) y[i] *= inverse;
}
// dx = y (dy - sum(y dy))
template <class T>
RF_INLINE void softmax_backward_body(T* dx, const T* dy, const T* y, int64_t d, bool accumulate) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < d; ++i) sum += y[i] * dy[i];
#pragma omp simd
  for (int64_t i = 0; i < d; ++i) {
    const T g = y[i] * (dy[i] - sum);
    dx[i] = accumulate ? dx[i] + g : g;
  }
}
RF_CLONES void softmax_forward_row(float* y, const float* x, int64_t d) {
  softmax_forward_body(y, x, d);
}
void softmax_forward_row(double* y, const double* x, int64_t d) {
  softmax_forward_body(y, x, d);
}
RF_CLONES void softmax_backward_row(float* dx, const float* dy, const float* y, int64_t d,
                                    bool accumulate) {
  softmax_backward_body(dx, dy, y, d, accumulate);
}
void softmax_backward_row(double* dx, const double* dy, const double* y, int64_t d,
                          bool accumulate) {
  softmax_backward_body(dx, dy, y, d, accumulate);
}

// fn(row) for every row of x, split over threads; `cost` per element.
template <class F>
void each_row(In x, int64_t cost, F&& fn) {
  parallel_for(x.rows(), grain_of(x.columns() * cost), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) fn(row);
  });
}

}  // namespace

void activation_forward(Exec&, Out y, In x, Activation kind) {
  dispatch_real(x.dtype(), "activation_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* py = y.data<T>();
    const T* px = x.data<T>();
    if (x.dense() && y.dense())
      return parallel_for(x.numel(), grain_of(4), [&](int64_t begin, int64_t end) {
        forward_span(py + begin, px + begin, end - begin, kind);
      });
    const int64_t d = x.columns(), sy = y.row_stride(), sx = x.row_stride();
    each_row(x, 4, [&](int64_t row) { forward_span(py + row * sy, px + row * sx, d, kind); });
  });
}

void activation_backward(Exec&, GradOut dx, In dy, In x, Activation kind) {
  dispatch_real(x.dtype(), "activation_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* to = dx.tensor.data<T>();
    const T* py = dy.data<T>();
    const T* px = x.data<T>();
    const bool add = dx.accumulate();
    if (x.dense() && dy.dense() && dx.tensor.dense())
      return parallel_for(x.numel(), grain_of(8), [&](int64_t begin, int64_t end) {
        backward_span(to + begin, py + begin, px + begin, end - begin, kind, add);
      });
    const int64_t d = x.columns(), st = dx.tensor.row_stride(), sy = dy.row_stride(),
                  sx = x.row_stride();
    each_row(x, 8, [&](int64_t row) {
      backward_span(to + row * st, py + row * sy, px + row * sx, d, kind, add);
    });
  });
}

void geglu_forward(Exec&, Out y, In x) {
  dispatch_real(y.dtype(), "geglu_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* py = y.data<T>();
    const T* px = x.data<T>();
    const int64_t d = y.columns(), sy = y.row_stride(), sx = x.row_stride();
    each_row(y, 8, [&](int64_t row) { geglu_forward_row(py + row * sy, px + row * sx, d); });
  });
}

void geglu_backward(Exec&, GradOut dx, In dy, In x) {
  dispatch_real(dy.dtype(), "geglu_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* to = dx.tensor.data<T>();
    const T* py = dy.data<T>();
    const T* px = x.data<T>();
    const int64_t d = dy.columns(), st = dx.tensor.row_stride(), sy = dy.row_stride(),
                  sx = x.row_stride();
    each_row(dy, 12, [&](int64_t row) {
      geglu_backward_row(to + row * st, py + row * sy, px + row * sx, d, dx.accumulate());
    });
  });
}

void softmax_forward(Exec&, Out y, In x) {
  dispatch_real(x.dtype(), "softmax_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* py = y.data<T>();
    const T* px = x.data<T>();
    const int64_t d = x.columns(), sy = y.row_stride(), sx = x.row_stride();
    each_row(x, 4, [&](int64_t row) { softmax_forward_row(py + row * sy, px + row * sx, d); });
  });
}

void softmax_backward(Exec&, GradOut dx, In dy, In y) {
  dispatch_real(y.dtype(), "softmax_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* to = dx.tensor.data<T>();
    const T* pg = dy.data<T>();
    const T* py = y.data<T>();
    const int64_t d = y.columns(), st = dx.tensor.row_stride(), sg = dy.row_stride(),
                  sy = y.row_stride();
    each_row(y, 2, [&](int64_t row) {
      softmax_backward_row(to + row * st, pg + row * sg, py + row * sy, d, dx.accumulate());
    });
  });
}

}  // namespace realfake::cpu
