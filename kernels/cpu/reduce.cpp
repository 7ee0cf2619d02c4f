#include "kernels/reduce.h"

#include <cmath>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/spans.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {

namespace {

constexpr int lanes = 16;

// Sum of term(i) over i < n in 16 lanes, the lanes added in order: the same for every instruction
// set.
template <class F>
RF_INLINE double lane_sum(int64_t n, F&& term) {
  double lane[lanes] = {};
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
#pragma omp simd
    for (int j = 0; j < lanes; ++j) lane[j] += term(i + j);
  }
  for (; i < n; ++i) lane[i % lanes] += term(i);
  double total = 0;
  for (int j = 0; j < lanes; ++j) total += lane[j];
  return total;
}

template <class T>
RF_INLINE double sum_loop(int64_t n, const T* x) {
  return lane_sum(
      n, [=](int64_t i) __attribute__((always_inline)) { return double(x[i]); });
}
template <class T>
RF_INLINE double sum_squares_loop(int64_t n, const T* x) {
  return lane_sum(
      n, [=](int64_t i) __attribute__((always_inline)) { return double(x[i]) * double(x[i]); });
}
template <class T>
RF_INLINE double squared_distance_loop(int64_t n, const T* a, const T* b) {
  return lane_sum(
      n, [=](int64_t i) __attribute__((always_inline)) {
        const double d = double(a[i] - b[i]);
        return d * d;
      });
}

template <class T>
RF_INLINE void sum_rows_loop(int64_t rows, int64_t columns, const T* x, int64_t stride,
                             double* sums) {
  constexpr int64_t block = 16;
  for (int64_t first = 0; first < rows; first += block) {
    T part[sum_columns] = {};
    const int64_t last = std::min(rows, first + block);
    for (int64_t r = first; r < last; ++r) {
      const T* row = x + r * stride;
#pragma omp simd
      for (int64_t c = 0; c < columns; ++c) part[c] += row[c];
    }
    for (int64_t c = 0; c < columns; ++c) sums[c] += double(part[c]);
  }
}

// Largest |x|; the maximum is the same in any order. NaN never wins.
RF_CLONES float max_abs_span(int64_t n, const float* x) {
  float best = 0;
#pragma omp simd reduction(max : best)
  for (int64_t i = 0; i < n; ++i) best = std::fabs(x[i]) > best ? std::fabs(x[i]) : best;
  return best;
}
double max_abs_span(int64_t n, const double* x) {
  double best = 0;
  for (int64_t i = 0; i < n; ++i) best = std::fabs(x[i]) > best ? std::fabs(x[i]) : best;
  return best;
}

RF_CLONES int64_t count_nonfinite_span(int64_t n, const float* x) {
  int64_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < n; ++i)
    count += std::fabs(x[i]) <= std::numeric_limits<float>::max() ? 0 : 1;
  return count;
}
int64_t count_nonfinite_span(int64_t n, const double* x) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += std::isfinite(x[i]) ? 0 : 1;
  return count;
}

}  // namespace

RF_CLONES double sum_span(int64_t n, const float* x) {
  return sum_loop(n, x);
}
double sum_span(int64_t n, const double* x) {
  return sum_loop(n, x);
}
RF_CLONES double sum_squares_span(int64_t n, const float* x) {
  return sum_squares_loop(n, x);
}
double sum_squares_span(int64_t n, const double* x) {
  return sum_squares_loop(n, x);
}
RF_CLONES double squared_distance_span(int64_t n, const float* a, const float* b) {
  return squared_distance_loop(n, a, b);
}
double squared_distance_span(int64_t n, const double* a, const double* b) {
  return squared_distance_loop(n, a, b);
}
RF_CLONES void sum_rows(int64_t rows, int64_t columns, const float* x, int64_t stride,
                        double* sums) {
  sum_rows_loop(rows, columns, x, stride, sums);
}
void sum_rows(int64_t rows, int64_t columns, const double* x, int64_t stride, double* sums) {
  sum_rows_loop(rows, columns, x, stride, sums);
}

void column_sum(Exec&, GradOut out, In x) {
  if (!out.wanted()) return;
  dispatch_real(x.dtype(), "column_sum", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Matrix<T> xm = matrix_of<T>(x);
    T* to = out.tensor.data<T>();
    const int64_t C = xm.columns, blocks = (C + sum_columns - 1) / sum_columns;
    if (C == 0) return;
    const Chunks chunks(xm.rows, 256);
    std::vector<double> part(static_cast<size_t>(chunks.count * C));
    parallel_for(chunks.count * blocks, grain_of(xm.rows / chunks.count * std::min(C, sum_columns)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const int64_t k = i / blocks, c0 = i % blocks * sum_columns;
                     sum_rows(chunks.end(k) - chunks.begin(k), std::min(sum_columns, C - c0),
                              xm.at(chunks.begin(k), c0), xm.stride, part.data() + k * C + c0);
                   }
                 });
    for (int64_t c = 0; c < C; ++c) {
      double total = 0;
      for (int64_t k = 0; k < chunks.count; ++k) total += part[static_cast<size_t>(k * C + c)];
      to[c] = T(total) + (out.accumulate() ? to[c] : T(0));
    }
  });
}

void sum_all(Exec&, Out out, In x) {
  dispatch_real(x.dtype(), "sum_all", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = x.data<T>();
    store_scalar(out, chunked_sum(x.numel(), [&](int64_t begin, int64_t n) {
                   return sum_span(n, data + begin);
                 }));
  });
}

void sum_squares(Exec&, Out out, In x) {
  dispatch_real(x.dtype(), "sum_squares", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = x.data<T>();
    store_scalar(out, chunked_sum(x.numel(), [&](int64_t begin, int64_t n) {
                   return sum_squares_span(n, data + begin);
                 }));
  });
}

void max_abs(Exec&, Out out, In x) {
  dispatch_real(x.dtype(), "max_abs", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = x.data<T>();
    const Chunks chunks(x.numel(), 1 << 15);
    T part[64] = {};
    parallel_for(chunks.count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        part[i] = max_abs_span(chunks.end(i) - chunks.begin(i), data + chunks.begin(i));
    });
    store_scalar(out, *std::max_element(part, part + chunks.count));
  });
}

void count_nonfinite(Exec&, Out out, In x) {
  dispatch_real(x.dtype(), "count_nonfinite", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = x.data<T>();
    const Chunks chunks(x.numel(), 1 << 15);
    int64_t part[64] = {};
    parallel_for(chunks.count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        part[i] = count_nonfinite_span(chunks.end(i) - chunks.begin(i), data + chunks.begin(i));
    });
    int64_t total = 0, first = -1;
    for (int64_t i = 0; i < chunks.count; ++i) {
      if (part[i] != 0 && first < 0)
        for (first = chunks.begin(i); std::isfinite(data[first]);) ++first;
      total += part[i];
    }
    out.data<int64_t>()[0] = total;
    out.data<int64_t>()[1] = first;
  });
}

void argmax_rows(Exec&, Out out, In x) {
  dispatch_real(x.dtype(), "argmax_rows", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Matrix<T> xm = matrix_of<T>(x);
    int64_t* to = out.data<int64_t>();
    parallel_for(xm.rows, grain_of(xm.columns), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* row = xm.row(r);
        int64_t best = 0;
        for (int64_t c = 1; c < xm.columns; ++c)
          if (row[c] > row[best]) best = c;
        to[r] = best;
      }
    });
  });
}

}  // namespace realfake::cpu
