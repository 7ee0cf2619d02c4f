#include "kernels/elementwise.h"

#include <cstring>

#include "kernels/backend.h"
#include "kernels/cpu/spans.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {

namespace {

// y may be an input in all of these: equal addresses, so `simd` holds.
template <class T>
RF_INLINE void add_loop(int64_t n, T* y, const T* a, const T* b, T alpha, T beta) {
  if (alpha == T(1) && beta == T(1)) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = alpha * a[i] + beta * b[i];
  }
}
RF_CLONES void add_span(int64_t n, float* y, const float* a, const float* b, float alpha,
                        float beta) {
  add_loop(n, y, a, b, alpha, beta);
}
void add_span(int64_t n, double* y, const double* a, const double* b, double alpha, double beta) {
  add_loop(n, y, a, b, alpha, beta);
}

template <class T>
RF_INLINE void scale_loop(int64_t n, T* y, const T* x, T alpha, bool accumulate) {
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] += alpha * x[i];
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = alpha * x[i];
  }
}
RF_CLONES void scale_span(int64_t n, float* y, const float* x, float alpha, bool accumulate) {
  scale_loop(n, y, x, alpha, accumulate);
}
void scale_span(int64_t n, double* y, const double* x, double alpha, bool accumulate) {
  scale_loop(n, y, x, alpha, accumulate);
}

template <class T>
RF_INLINE void multiply_loop(int64_t n, T* y, const T* a, const T* b, bool accumulate) {
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] += a[i] * b[i];
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
  }
}
RF_CLONES void multiply_span(int64_t n, float* y, const float* a, const float* b, bool accumulate) {
  multiply_loop(n, y, a, b, accumulate);
}
void multiply_span(int64_t n, double* y, const double* a, const double* b, bool accumulate) {
  multiply_loop(n, y, a, b, accumulate);
}

// Rows of one sample: y[r] = x[r] + v.
template <class T>
RF_INLINE void add_vector_loop(Matrix<T> y, Matrix<T> x, const T* v) {
  for (int64_t r = 0; r < y.rows; ++r) {
    T* to = y.row(r);
    const T* from = x.row(r);
#pragma omp simd
    for (int64_t c = 0; c < y.columns; ++c) to[c] = from[c] + v[c];
  }
}
RF_CLONES void add_vector(Matrix<float> y, Matrix<float> x, const float* v) {
  add_vector_loop(y, x, v);
}
void add_vector(Matrix<double> y, Matrix<double> x, const double* v) {
  add_vector_loop(y, x, v);
}

}  // namespace

void fill(Exec&, Out y, double value) {
  const auto fill_as = [&](auto v) {
    using T = decltype(v);
    T* data = static_cast<T*>(y.raw());
    for_spans_of([&](int64_t row, int64_t column,
                     int64_t n) { std::fill_n(data + row * y.row_stride() + column, n, v); },
                 y);
  };
  switch (y.dtype()) {
    case DType::f32:
      return fill_as(static_cast<float>(value));
    case DType::f64:
      return fill_as(value);
    case DType::f16:
      return fill_as(f32_to_f16(static_cast<float>(value)));
    case DType::bf16:
      return fill_as(f32_to_bf16(static_cast<float>(value)));
    case DType::i32:
      return fill_as(static_cast<int32_t>(value));
    case DType::i64:
      return fill_as(static_cast<int64_t>(value));
    case DType::u8:
      return fill_as(static_cast<uint8_t>(value));
  }
}

void copy(Exec&, Out y, In x) {
  const int64_t size = static_cast<int64_t>(size_of(x.dtype()));
  char* to = static_cast<char*>(y.raw());
  const char* from = static_cast<const char*>(x.raw());
  for_spans_of(
      [&](int64_t row, int64_t column, int64_t n) {
        std::memcpy(to + (row * y.row_stride() + column) * size,
                    from + (row * x.row_stride() + column) * size, static_cast<size_t>(n * size));
      },
      y, x);
}

void add(Exec&, Out y, In a, In b, double alpha, double beta) {
  dispatch_real(y.dtype(), "add", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Matrix<T> ym = matrix_of<T>(y), am = matrix_of<T>(a), bm = matrix_of<T>(b);
    for_spans_of(
        [&](int64_t row, int64_t column, int64_t n) {
          add_span(n, ym.at(row, column), am.at(row, column), bm.at(row, column), T(alpha),
                   T(beta));
        },
        y, a, b);
  });
}

void scale(Exec&, Out y, In x, double alpha, bool accumulate) {
  dispatch_real(y.dtype(), "scale", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Matrix<T> ym = matrix_of<T>(y), xm = matrix_of<T>(x);
    for_spans_of(
        [&](int64_t row, int64_t column, int64_t n) {
          scale_span(n, ym.at(row, column), xm.at(row, column), T(alpha), accumulate);
        },
        y, x);
  });
}

void multiply(Exec&, Out y, In a, In b, bool accumulate) {
  dispatch_real(y.dtype(), "multiply", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Matrix<T> ym = matrix_of<T>(y), am = matrix_of<T>(a), bm = matrix_of<T>(b);
    for_spans_of(
        [&](int64_t row, int64_t column, int64_t n) {
          multiply_span(n, ym.at(row, column), am.at(row, column), bm.at(row, column), accumulate);
        },
        y, a, b);
  });
}

void add_broadcast(Exec&, Out y, In x, In v) {
  if (y.numel() == 0) return;
  dispatch_real(y.dtype(), "add_broadcast", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Matrix<T> ym = matrix_of<T>(y), xm = matrix_of<T>(x), vm = matrix_of<T>(v);
    const int64_t middle = ym.rows / vm.rows, C = ym.columns;
    parallel_for(ym.rows, grain_of(C), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end;) {
        const int64_t n = r / middle, stop = std::min(end, (n + 1) * middle);
        add_vector(Matrix<T>{ym.row(r), stop - r, C, ym.stride},
                   Matrix<T>{xm.row(r), stop - r, C, xm.stride}, vm.row(n));
        r = stop;
      }
    });
  });
}

void sum_middle(Exec&, GradOut dv, In x) {
  if (!dv.wanted()) return;
  dispatch_real(x.dtype(), "sum_middle", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Matrix<T> xm = matrix_of<T>(x), vm = matrix_of<T>(dv.tensor);
    const int64_t N = vm.rows, C = vm.columns;
    if (N == 0 || C == 0) return;
    const int64_t middle = xm.rows / N, blocks = (C + sum_columns - 1) / sum_columns;
    parallel_for(N * blocks, grain_of(middle * std::min(C, sum_columns)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const int64_t n = i / blocks, c0 = i % blocks * sum_columns;
                     const int64_t count = std::min(sum_columns, C - c0);
                     double sums[sum_columns] = {};
                     sum_rows(middle, count, xm.at(n * middle, c0), xm.stride, sums);
                     T* to = vm.at(n, c0);
                     for (int64_t c = 0; c < count; ++c)
                       to[c] = T(sums[c]) + (dv.accumulate() ? to[c] : T(0));
                   }
                 });
  });
}

void scale_samples(Exec&, Out y, In x, In s, bool accumulate) {
  if (y.numel() == 0) return;
  dispatch_real(y.dtype(), "scale_samples", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* factor = s.data<T>();
    Matrix<T> ym = matrix_of<T>(y), xm = matrix_of<T>(x);
    if (y.rank() == 1) {  // samples of one element
      ym = {ym.data, ym.columns, 1, 1};
      xm = {xm.data, xm.columns, 1, 1};
    }
    const int64_t per = ym.rows / s.numel();
    parallel_for(ym.rows, grain_of(ym.columns), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        scale_span(ym.columns, ym.row(r), xm.row(r), factor[r / per], accumulate);
    });
  });
}

namespace {

// Storage of each dtype and its value as float or double.
template <DType D, class S>
struct Stored {
  using Storage = S;
  static double load(S v) { return static_cast<double>(v); }
  static S store(double v) { return static_cast<S>(v); }
};
template <>
struct Stored<DType::f16, uint16_t> {
  using Storage = uint16_t;
  static float load(uint16_t v) { return f16_to_f32(v); }
  static uint16_t store(float v) { return f32_to_f16(v); }
};
template <>
struct Stored<DType::bf16, uint16_t> {
  using Storage = uint16_t;
  static float load(uint16_t v) { return bf16_to_f32(v); }
  static uint16_t store(float v) { return f32_to_bf16(v); }
};
template <>
struct Stored<DType::f32, float> {
  using Storage = float;
  static float load(float v) { return v; }
  static float store(float v) { return v; }
};

template <class From, class To>
void cast_as(Out y, In x) {
  using F = typename From::Storage;
  using S = typename To::Storage;
  const F* from = static_cast<const F*>(x.raw());
  S* to = static_cast<S*>(y.raw());
  for_spans_of(
      [&](int64_t row, int64_t column, int64_t n) {
        const F* f = from + row * x.row_stride() + column;
        S* t = to + row * y.row_stride() + column;
        using Parameter =
            std::conditional_t<std::is_same_v<To, Stored<DType::f64, double>>, double, float>;
        for (int64_t i = 0; i < n; ++i) t[i] = To::store(static_cast<Parameter>(From::load(f[i])));
      },
      y, x);
}

template <class To>
void cast_to(Out y, In x) {
  switch (x.dtype()) {
    case DType::f32:
      return cast_as<Stored<DType::f32, float>, To>(y, x);
    case DType::f64:
      return cast_as<Stored<DType::f64, double>, To>(y, x);
    case DType::f16:
      return cast_as<Stored<DType::f16, uint16_t>, To>(y, x);
    case DType::bf16:
      return cast_as<Stored<DType::bf16, uint16_t>, To>(y, x);
    case DType::i32:
      return cast_as<Stored<DType::i32, int32_t>, To>(y, x);
    case DType::i64:
      return cast_as<Stored<DType::i64, int64_t>, To>(y, x);
    case DType::u8:
      return cast_as<Stored<DType::u8, uint8_t>, To>(y, x);
  }
}

}  // namespace

void cast(Exec& ex, Out y, In x) {
  if (y.dtype() == x.dtype()) return cpu::copy(ex, y, x);
  switch (y.dtype()) {
    case DType::f32:
      return cast_to<Stored<DType::f32, float>>(y, x);
    case DType::f64:
      return cast_to<Stored<DType::f64, double>>(y, x);
    case DType::f16:
      return cast_to<Stored<DType::f16, uint16_t>>(y, x);
    case DType::bf16:
      return cast_to<Stored<DType::bf16, uint16_t>>(y, x);
    default:
      throw ContractError("[cast] expected y of a floating dtype");
  }
}

}  // namespace realfake::cpu
