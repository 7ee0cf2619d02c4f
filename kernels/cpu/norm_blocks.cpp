#include "kernels/cpu/norm_blocks.h"

#include "kernels/cpu/vector.h"

namespace realfake::cpu {
namespace {

// sums[c] += sum over rows of x, or of (x - mean)^2 when `mean` is given.   part (c) is scratch.
template <class T>
RF_INLINE void sums_body(double* sums, T* part, Matrix<const T> x, const T* mean, int64_t rows,
                         int64_t c) {
  for (int64_t first = 0; first < rows; first += rows_in_t) {
    const int64_t last = first + rows_in_t < rows ? first + rows_in_t : rows;
    for (int64_t j = 0; j < c; ++j) part[j] = 0;
    for (int64_t i = first; i < last; ++i) {
      const T* px = x.row(i);
      if (mean) {
#pragma omp simd
        for (int64_t j = 0; j < c; ++j) part[j] += (px[j] - mean[j]) * (px[j] - mean[j]);
      } else {
#pragma omp simd
        for (int64_t j = 0; j < c; ++j) part[j] += px[j];
      }
    }
#pragma omp simd
    for (int64_t j = 0; j < c; ++j) sums[j] += static_cast<double>(part[j]);
  }
}

template <Act A, bool Residual, class T>
RF_INLINE void apply_body(Matrix<T> y, Matrix<const T> x, Matrix<const T> residual,
                          const Channels<T>& ch, int64_t rows, int64_t c) {
  const T *mean = ch.mean, *rstd = ch.rstd, *gamma = ch.gamma, *beta = ch.beta;
  for (int64_t i = 0; i < rows; ++i) {
    T* py = y.row(i);
    const T* px = x.row(i);
    const T* pr = Residual ? residual.row(i) : px;
#pragma omp simd
    for (int64_t j = 0; j < c; ++j) {
      T z = (px[j] - mean[j]) * rstd[j] * gamma[j] + beta[j];
      if constexpr (Residual) z += pr[j];
      if constexpr (A == Act::silu) z = z * sigmoid(z);
      if constexpr (A == Act::relu) z = z < T(0) ? T(0) : z;
      py[j] = z;
    }
  }
}

// dz from dy; `mask` is y for ReLU.
template <Act A, class T>
RF_INLINE T through_act(T dy, T xhat, T gamma, T beta, T mask) {
  if constexpr (A == Act::silu) {
    const T z = xhat * gamma + beta, s = sigmoid(z);
    return dy * s * (T(1) + z * (T(1) - s));
  }
  if constexpr (A == Act::relu) return mask > T(0) ? dy : T(0);
  return dy;
}

// sums[c] += sum dz xhat, sums[c + C] += sum dz.   part (2c) is scratch.
template <Act A, class T>
RF_INLINE void grad_sums_body(double* sums, T* part, Matrix<const T> dy, Matrix<const T> x,
                              Matrix<const T> y, const Channels<T>& ch, int64_t rows, int64_t c) {
  for (int64_t first = 0; first < rows; first += rows_in_t) {
    const int64_t last = first + rows_in_t < rows ? first + rows_in_t : rows;
    for (int64_t j = 0; j < 2 * c; ++j) part[j] = 0;
    for (int64_t i = first; i < last; ++i) {
      const T *pg = dy.row(i), *px = x.row(i);
      const T* py = A == Act::relu ? y.row(i) : px;
#pragma omp simd
      for (int64_t j = 0; j < c; ++j) {
        const T xhat = (px[j] - ch.mean[j]) * ch.rstd[j];
        const T dz =
            through_act<A>(pg[j], xhat, ch.gamma[j], A == Act::silu ? ch.beta[j] : T(0), py[j]);
        part[j] += dz * xhat;
        part[c + j] += dz;
      }
    }
#pragma omp simd
    for (int64_t j = 0; j < 2 * c; ++j) sums[j] += static_cast<double>(part[j]);
  }
}

template <Act A, bool Add, class T>
RF_INLINE void grad_row(T* dx, const T* dy, const T* x, const T* y, const Channels<T>& ch,
                        const T* shift, const T* slope, int64_t c) {
#pragma omp simd
  for (int64_t j = 0; j < c; ++j) {
    const T xhat = (x[j] - ch.mean[j]) * ch.rstd[j];
    const T dz = through_act<A>(dy[j], xhat, ch.gamma[j], A == Act::silu ? ch.beta[j] : T(0), y[j]);
    const T g = ch.rstd[j] * (ch.gamma[j] * dz - shift[j] - xhat * slope[j]);
    dx[j] = Add ? dx[j] + g : g;
  }
}

// dx = rstd (gamma dz - shift - xhat slope), dresidual = dz; either may be left out (null).
template <Act A, class T>
RF_INLINE void grad_body(Matrix<T> dx, bool add_dx, Matrix<T> dr, bool add_dr, Matrix<const T> dy,
                         Matrix<const T> x, Matrix<const T> y, const Channels<T>& ch,
                         const T* shift, const T* slope, int64_t rows, int64_t c) {
  for (int64_t i = 0; i < rows; ++i) {
    const T *pg = dy.row(i), *px = x.row(i);
    const T* py = A == Act::relu ? y.row(i) : px;
    if (dx.data && add_dx) grad_row<A, true>(dx.row(i), pg, px, py, ch, shift, slope, c);
    if (dx.data && !add_dx) grad_row<A, false>(dx.row(i), pg, px, py, ch, shift, slope, c);
    if (dr.data) {
      T* to = dr.row(i);
#pragma omp simd
      for (int64_t j = 0; j < c; ++j) {
        const T dz = A == Act::relu ? (py[j] > T(0) ? pg[j] : T(0)) : pg[j];
        to[j] = add_dr ? to[j] + dz : dz;
      }
    }
  }
}

template <class T>
RF_INLINE void apply_acts(Act act, Matrix<T> y, Matrix<const T> x, Matrix<const T> residual,
                          const Channels<T>& ch, int64_t rows, int64_t c) {
  switch (act) {
    case Act::none:
      if (residual.data) return apply_body<Act::none, true>(y, x, residual, ch, rows, c);
      return apply_body<Act::none, false>(y, x, residual, ch, rows, c);
    case Act::relu:
      if (residual.data) return apply_body<Act::relu, true>(y, x, residual, ch, rows, c);
      return apply_body<Act::relu, false>(y, x, residual, ch, rows, c);
    case Act::silu:
      return apply_body<Act::silu, false>(y, x, residual, ch, rows, c);
  }
}
template <class T>
RF_INLINE void grad_sums_acts(Act act, double* sums, T* part, Matrix<const T> dy, Matrix<const T> x,
                              Matrix<const T> y, const Channels<T>& ch, int64_t rows, int64_t c) {
  switch (act) {
    case Act::none:
      return grad_sums_body<Act::none>(sums, part, dy, x, y, ch, rows, c);
    case Act::silu:
      return grad_sums_body<Act::silu>(sums, part, dy, x, y, ch, rows, c);
    case Act::relu:
      return grad_sums_body<Act::relu>(sums, part, dy, x, y, ch, rows, c);
  }
}
template <class T>
RF_INLINE void grad_acts(Act act, Matrix<T> dx, bool add_dx, Matrix<T> dr, bool add_dr,
                         Matrix<const T> dy, Matrix<const T> x, Matrix<const T> y,
                         const Channels<T>& ch, const T* shift, const T* slope, int64_t rows,
                         int64_t c) {
  switch (act) {
    case Act::none:
      return grad_body<Act::none>(dx, add_dx, dr, add_dr, dy, x, y, ch, shift, slope, rows, c);
    case Act::silu:
      return grad_body<Act::silu>(dx, add_dx, dr, add_dr, dy, x, y, ch, shift, slope, rows, c);
    case Act::relu:
      return grad_body<Act::relu>(dx, add_dx, dr, add_dr, dy, x, y, ch, shift, slope, rows, c);
  }
}

}  // namespace

// The cloned float loops, and the same for double.
#define REALFAKE_NORM_LOOPS(T, CLONES)                                                          \
  CLONES void block_sums(double* sums, T* part, Matrix<const T> x, const T* mean, int64_t rows, \
                         int64_t c) {                                                           \
    sums_body(sums, part, x, mean, rows, c);                                                    \
  }                                                                                             \
  CLONES void block_apply(Act act, Matrix<T> y, Matrix<const T> x, Matrix<const T> residual,    \
                          const Channels<T>& ch, int64_t rows, int64_t c) {                     \
    apply_acts(act, y, x, residual, ch, rows, c);                                               \
  }                                                                                             \
  CLONES void block_grad_sums(Act act, double* sums, T* part, Matrix<const T> dy,               \
                              Matrix<const T> x, Matrix<const T> y, const Channels<T>& ch,      \
                              int64_t rows, int64_t c) {                                        \
    grad_sums_acts(act, sums, part, dy, x, y, ch, rows, c);                                     \
  }                                                                                             \
  CLONES void block_grad(Act act, Matrix<T> dx, bool add_dx, Matrix<T> dr, bool add_dr,         \
                         Matrix<const T> dy, Matrix<const T> x, Matrix<const T> y,              \
                         const Channels<T>& ch, const T* shift, const T* slope, int64_t rows,   \
                         int64_t c) {                                                           \
    grad_acts(act, dx, add_dx, dr, add_dr, dy, x, y, ch, shift, slope, rows, c);                \
  }
REALFAKE_NORM_LOOPS(float, RF_CLONES)
REALFAKE_NORM_LOOPS(double, )
#undef REALFAKE_NORM_LOOPS

}  // namespace realfake::cpu
