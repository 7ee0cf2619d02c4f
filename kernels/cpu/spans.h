#pragma once
// How the lighter ops walk memory: spans of a row-strided matrix, and sums in a fixed order.
#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/tensor.h"

namespace realfake::cpu {

// fn(row, column, count) over all elements: dense tensors as one long row cut anywhere, strided
// ones row by row. Elements of a span lie side by side at data + row * row_stride + column.
template <class F>
void for_spans(int64_t rows, int64_t columns, bool dense, F&& fn) {
  if (dense) {
    parallel_for(rows * columns, grain_of(1),
                 [&](int64_t begin, int64_t end) { fn(int64_t{0}, begin, end - begin); });
  } else {
    parallel_for(rows, grain_of(columns), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) fn(row, int64_t{0}, columns);
    });
  }
}
template <class F, class... More>
void for_spans_of(F&& fn, const Tensor& first, const More&... more) {
  for_spans(first.rows(), first.columns(), (first.dense() && ... && more.dense()), fn);
}

// A row-major matrix with strided rows.
template <class T>
struct Matrix {
  T* data;
  int64_t rows, columns, stride;
  T* row(int64_t r) const { return data + r * stride; }
  T* at(int64_t r, int64_t c) const { return data + r * stride + c; }
};
template <class T>
Matrix<T> matrix_of(const Tensor& t) {
  return {t.data<T>(), t.rows(), t.columns(), t.row_stride()};
}

// Sums of one span, lanes in f64 added in a fixed order.
double sum_span(int64_t n, const float* x);
double sum_span(int64_t n, const double* x);
double sum_squares_span(int64_t n, const float* x);
double sum_squares_span(int64_t n, const double* x);
double squared_distance_span(int64_t n, const float* a, const float* b);
double squared_distance_span(int64_t n, const double* a, const double* b);

// sums[c] += sum over rows of x[r, c], c < columns <= sum_columns; f32 per 16 rows, f64 across.
constexpr int64_t sum_columns = 256;
void sum_rows(int64_t rows, int64_t columns, const float* x, int64_t stride, double* sums);
void sum_rows(int64_t rows, int64_t columns, const double* x, int64_t stride, double* sums);

// Total of span(begin, count) -> double over fixed chunks of n elements, added in order.
template <class F>
double chunked_sum(int64_t n, F&& span) {
  const Chunks chunks(n, 1 << 13);
  double part[64];
  parallel_for(chunks.count, std::max<int64_t>(1, grain_of(n / chunks.count)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i)
                   part[i] = span(chunks.begin(i), chunks.end(i) - chunks.begin(i));
               });
  double total = 0;
  for (int64_t i = 0; i < chunks.count; ++i) total += part[i];
  return total;
}

// The scalar result of a loss or reduction.
inline void store_scalar(const Tensor& out, double value) {
  if (out.dtype() == DType::f32)
    *out.data<float>() = static_cast<float>(value);
  else
    *out.data<double>() = value;
}

}  // namespace realfake::cpu
