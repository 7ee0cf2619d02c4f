#pragma once
// Loops that the normalisations share, over a block: `rows` rows of `c` adjacent channels, every
// statistic and parameter given per channel. Column sums run in T over few rows, then in double.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/parallel.h"
#include "kernels/ops.h"

namespace realfake::cpu {

constexpr int64_t rows_in_t = 32;

enum class Act { none, silu, relu };

template <class T>
struct Matrix {  // rows `stride` apart
  T* data = nullptr;
  int64_t stride = 0;
  T* row(int64_t i) const { return data + i * stride; }
};
template <class T>
Matrix<T> matrix(In x, int64_t row = 0, int64_t column = 0) {
  return {x.data<std::remove_const_t<T>>() + row * x.row_stride() + column, x.row_stride()};
}

// What a channel's elements go through: xhat = (x - mean) rstd, z = xhat gamma + beta [+ residual],
// y = act(z).
template <class T>
struct Channels {
  const T *mean, *rstd, *gamma, *beta;
};

// sums[c] += sum over rows of x, or of (x - mean)^2 when `mean` is given.   part (c) is scratch.
// y = act(z); `residual` may be null.
// sums[c] += sum dz xhat, sums[c + C] += sum dz.   part (2c) is scratch; y is the mask of ReLU.
// dx = rstd (gamma dz - shift - xhat slope), dresidual = dz; either may be left out (null).
// For float compiled once per instruction set (norm_blocks.cpp).
#define REALFAKE_NORM_LOOPS(T)                                                                     \
  void block_sums(double* sums, T* part, Matrix<const T> x, const T* mean, int64_t rows,           \
                  int64_t c);                                                                      \
  void block_apply(Act act, Matrix<T> y, Matrix<const T> x, Matrix<const T> residual,              \
                   const Channels<T>& ch, int64_t rows, int64_t c);                                \
  void block_grad_sums(Act act, double* sums, T* part, Matrix<const T> dy, Matrix<const T> x,      \
                       Matrix<const T> y, const Channels<T>& ch, int64_t rows, int64_t c);         \
  void block_grad(Act act, Matrix<T> dx, bool add_dx, Matrix<T> dr, bool add_dr,                   \
                  Matrix<const T> dy, Matrix<const T> x, Matrix<const T> y, const Channels<T>& ch, \
                  const T* shift, const T* slope, int64_t rows, int64_t c);
REALFAKE_NORM_LOOPS(float)
REALFAKE_NORM_LOOPS(double)
#undef REALFAKE_NORM_LOOPS

// Writes or adds column sums.
template <class T>
void store(const GradOut& out, const double* sums, int64_t c) {
  if (!out.wanted()) return;
  T* to = out.tensor.data<T>();
  for (int64_t j = 0; j < c; ++j)
    to[j] = static_cast<T>(out.accumulate() ? static_cast<double>(to[j]) + sums[j] : sums[j]);
}

// Adds the chunks' partial sums (count, c), in order, into the first.
inline void fold(double* partial, int64_t count, int64_t c) {
  for (int64_t i = 1; i < count; ++i)
    for (int64_t j = 0; j < c; ++j) partial[j] += partial[i * c + j];
}

// Column sums over all rows, in chunks fixed by the size: fn(sums of the chunk, first row, rows).
template <class F>
double* chunked_sums(int64_t rows, int64_t c, int64_t sums_per_channel, F&& fn) {
  const Chunks chunks(rows, rows_in_t);
  const int64_t width = sums_per_channel * c;
  double* partial = scratch<double, 52>(chunks.count * width);
  parallel_for(chunks.count, grain_of(rows / chunks.count * c * 2), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      std::fill_n(partial + i * width, width, 0.0);
      fn(partial + i * width, chunks.begin(i), chunks.end(i) - chunks.begin(i));
    }
  });
  fold(partial, chunks.count, width);
  return partial;
}

}  // namespace realfake::cpu
