#include "kernels/normalization.h"

#include <algorithm>
#include <cmath>

#include "kernels/backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {
namespace {

// Group and batch norm share loops over a block: `rows` rows of `c` adjacent channels, every
// statistic and parameter given per channel. Column sums run in T over few rows, then in double.
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

// Writes or adds column sums.
template <class T>
void store(const GradOut& out, const double* sums, int64_t c) {
  if (!out.wanted()) return;
  T* to = out.tensor.data<T>();
  for (int64_t j = 0; j < c; ++j)
    to[j] = static_cast<T>(out.accumulate() ? static_cast<double>(to[j]) + sums[j] : sums[j]);
}

// Adds the chunks' partial sums (count, c), in order, into the first.
void fold(double* partial, int64_t count, int64_t c) {
  for (int64_t i = 1; i < count; ++i)
    for (int64_t j = 0; j < c; ++j) partial[j] += partial[i * c + j];
}

// ---- group norm
// -------------------------------------------------------------------------------------

// Samples are tasks; with few samples their groups are shared out too. A channel's sums do not
// depend on the cut.
struct GroupTasks {
  GroupTasks(In x, int64_t groups)
      : n(x.dim(0)), c(x.columns()), rows(x.rows() / n), groups(groups), width(c / groups) {
    constexpr int64_t enough = 16, narrow = 16;  // tasks; channels of a task
    const int64_t wide_enough = std::max<int64_t>(1, c / narrow);
    cuts = std::clamp<int64_t>(std::min(enough / n, wide_enough), 1, groups);
  }
  int64_t grain(int64_t cost) const { return grain_of(rows * c / cuts * cost); }
  int64_t n, c, rows, groups, width, cuts;
};

// Expands statistics per group to channels.
template <class T>
void spread(T* to, const T* per_group, int64_t groups, int64_t width) {
  for (int64_t g = 0; g < groups; ++g) std::fill_n(to + g * width, width, per_group[g]);
}

template <class T>
void group_mean(T* to, const double* sums, int64_t groups, int64_t width, int64_t rows) {
  for (int64_t g = 0; g < groups; ++g) {
    double sum = 0;
    for (int64_t j = 0; j < width; ++j) sum += sums[g * width + j];
    to[g] = static_cast<T>(sum / static_cast<double>(width * rows));
  }
}

template <class T>
void group_norm_task(const GroupTasks& t, int64_t task, Out y, Out mean, Out rstd, In x, In gamma,
                     In beta, double eps, bool silu) {
  const int64_t n = task / t.cuts, cut = task % t.cuts;
  const int64_t g0 = t.groups * cut / t.cuts, groups = t.groups * (cut + 1) / t.cuts - g0;
  const int64_t c0 = g0 * t.width, c = groups * t.width;
  T* part = scratch<T, 50>(3 * c);
  T *means = part + c, *rstds = part + 2 * c;
  double* sums = scratch<double, 51>(c);
  T* pm = mean.data<T>() + n * t.groups + g0;
  T* ps = rstd.data<T>() + n * t.groups + g0;
  const auto px = matrix<const T>(x, n * t.rows, c0);
  std::fill_n(sums, c, 0.0);
  block_sums(sums, part, px, static_cast<const T*>(nullptr), t.rows, c);
  group_mean(pm, sums, groups, t.width, t.rows);
  spread(means, pm, groups, t.width);
  std::fill_n(sums, c, 0.0);
  block_sums(sums, part, px, means, t.rows, c);
  group_mean(ps, sums, groups, t.width, t.rows);
  for (int64_t g = 0; g < groups; ++g)
    ps[g] = static_cast<T>(1 / std::sqrt(static_cast<double>(ps[g]) + eps));
  spread(rstds, ps, groups, t.width);
  const Channels<T> ch{means, rstds, gamma.data<T>() + c0, beta.data<T>() + c0};
  block_apply(silu ? Act::silu : Act::none, matrix<T>(y, n * t.rows, c0), px, {}, ch, t.rows, c);
}

// sums (N,2,C): each task writes its channels' sum dz xhat and sum dz.
template <class T>
void group_norm_grad_task(const GroupTasks& t, int64_t task, double* sums, const GradOut& dx, In dy,
                          In x, In mean, In rstd, In gamma, In beta, bool silu) {
  const int64_t n = task / t.cuts, cut = task % t.cuts;
  const int64_t g0 = t.groups * cut / t.cuts, groups = t.groups * (cut + 1) / t.cuts - g0;
  const int64_t c0 = g0 * t.width, c = groups * t.width;
  T* part = scratch<T, 50>(6 * c);
  T *means = part + 2 * c, *rstds = part + 3 * c, *shift = part + 4 * c, *slope = part + 5 * c;
  double* own = scratch<double, 51>(2 * c);
  spread(means, mean.data<T>() + n * t.groups + g0, groups, t.width);
  spread(rstds, rstd.data<T>() + n * t.groups + g0, groups, t.width);
  const Channels<T> ch{means, rstds, gamma.data<T>() + c0, beta.data<T>() + c0};
  const Act act = silu ? Act::silu : Act::none;
  const auto px = matrix<const T>(x, n * t.rows, c0), pg = matrix<const T>(dy, n * t.rows, c0);
  std::fill_n(own, 2 * c, 0.0);
  block_grad_sums(act, own, part, pg, px, {}, ch, t.rows, c);
  std::copy_n(own, c, sums + n * 2 * t.c + c0);
  std::copy_n(own + c, c, sums + n * 2 * t.c + t.c + c0);
  if (!dx.wanted()) return;
  for (int64_t g = 0; g < groups; ++g) {
    double a = 0, b = 0;
    for (int64_t j = g * t.width; j < (g + 1) * t.width; ++j) {
      a += static_cast<double>(ch.gamma[j]) * own[c + j];
      b += static_cast<double>(ch.gamma[j]) * own[j];
    }
    const auto count = static_cast<double>(t.width * t.rows);
    std::fill_n(shift + g * t.width, t.width, static_cast<T>(a / count));
    std::fill_n(slope + g * t.width, t.width, static_cast<T>(b / count));
  }
  block_grad(act, matrix<T>(dx.tensor, n * t.rows, c0), dx.accumulate(), Matrix<T>{}, false, pg, px,
             {}, ch, shift, slope, t.rows, c);
}

// ---- layer norm and l2 normalisation: one row at a time
// ---------------------------------------------

template <class T>
RF_INLINE void layer_norm_body(T* y, T* mean, T* rstd, const T* x, const T* gamma, const T* beta,
                               double eps, int64_t d) {
  T sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < d; ++j) sum += x[j];
  const T m = sum / static_cast<T>(d);
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < d; ++j) squares += (x[j] - m) * (x[j] - m);
  const T s = T(1) / std::sqrt(squares / static_cast<T>(d) + static_cast<T>(eps));
#pragma omp simd
  for (int64_t j = 0; j < d; ++j) y[j] = (x[j] - m) * s * gamma[j] + beta[j];
  *mean = m;
  *rstd = s;
}

// dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma.   dx may be null.  part (2d) += dy
// xhat, dy.
template <class T>
RF_INLINE void layer_norm_grad_body(T* dx, bool add, T* part, const T* dy, const T* x, T mean,
                                    T rstd, const T* gamma, int64_t d) {
  if (dx) {
    T a = 0, b = 0;
#pragma omp simd reduction(+ : a, b)
    for (int64_t j = 0; j < d; ++j) {
      a += dy[j] * gamma[j];
      b += dy[j] * gamma[j] * ((x[j] - mean) * rstd);
    }
    a /= static_cast<T>(d);
    b /= static_cast<T>(d);
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) {
      const T g = rstd * (dy[j] * gamma[j] - a - (x[j] - mean) * rstd * b);
      dx[j] = add ? dx[j] + g : g;
    }
  }
  if (part) {
#pragma omp simd
    for (int64_t j = 0; j < d; ++j) {
      part[j] += dy[j] * ((x[j] - mean) * rstd);
      part[d + j] += dy[j];
    }
  }
}

template <class T>
RF_INLINE T dot_body(const T* a, const T* b, int64_t d) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < d; ++j) sum += a[j] * b[j];
  return sum;
}

#define REALFAKE_ROW_LOOPS(T, CLONES)                                                           \
  CLONES void layer_norm_row(T* y, T* mean, T* rstd, const T* x, const T* gamma, const T* beta, \
                             double eps, int64_t d) {                                           \
    layer_norm_body(y, mean, rstd, x, gamma, beta, eps, d);                                     \
  }                                                                                             \
  CLONES void layer_norm_grad_row(T* dx, bool add, T* part, const T* dy, const T* x, T mean,    \
                                  T rstd, const T* gamma, int64_t d) {                          \
    layer_norm_grad_body(dx, add, part, dy, x, mean, rstd, gamma, d);                           \
  }                                                                                             \
  CLONES T dot(const T* a, const T* b, int64_t d) {                                             \
    return dot_body(a, b, d);                                                                   \
  }
REALFAKE_ROW_LOOPS(float, RF_CLONES)
REALFAKE_ROW_LOOPS(double, )
#undef REALFAKE_ROW_LOOPS

// ---- batch norm
// -------------------------------------------------------------------------------------

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

template <class T>
void batch_norm_apply(Out y, In x, In residual, const Channels<T>& ch, bool relu) {
  const int64_t c = x.columns();
  parallel_for(x.rows(), grain_of(c * 2), [&](int64_t begin, int64_t end) {
    Matrix<const T> add;
    if (residual.defined()) add = matrix<const T>(residual, begin);
    block_apply(relu ? Act::relu : Act::none, matrix<T>(y, begin), matrix<const T>(x, begin), add,
                ch, end - begin, c);
  });
}

}  // namespace

void group_norm_forward(Exec&, Out y, Out mean, Out rstd, In x, In gamma, In beta, int64_t groups,
                        double eps, bool silu) {
  const GroupTasks t(x, groups);
  dispatch_real(x.dtype(), "group_norm_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_for(t.n * t.cuts, t.grain(silu ? 8 : 4), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        group_norm_task<T>(t, i, y, mean, rstd, x, gamma, beta, eps, silu);
    });
  });
}

void group_norm_backward(Exec&, GradOut dx, GradOut dgamma, GradOut dbeta, In dy, In x, In mean,
                         In rstd, In gamma, In beta, int64_t groups, bool silu) {
  const GroupTasks t(x, groups);
  dispatch_real(x.dtype(), "group_norm_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    double* sums = scratch<double, 53>(t.n * 2 * t.c);
    parallel_for(t.n * t.cuts, t.grain(silu ? 16 : 6), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        group_norm_grad_task<T>(t, i, sums, dx, dy, x, mean, rstd, gamma, beta, silu);
    });
    if (!dgamma.wanted() && !dbeta.wanted()) return;
    fold(sums, t.n, 2 * t.c);
    store<T>(dgamma, sums, t.c);
    store<T>(dbeta, sums + t.c, t.c);
  });
}

void layer_norm_forward(Exec&, Out y, Out mean, Out rstd, In x, In gamma, In beta, double eps) {
  dispatch_real(x.dtype(), "layer_norm_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto px = matrix<const T>(x);
    const auto py = matrix<T>(y);
    T *pm = mean.data<T>(), *ps = rstd.data<T>();
    const T *pg = gamma.data<T>(), *pb = beta.data<T>();
    const int64_t d = x.columns();
    parallel_for(x.rows(), grain_of(d * 2), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        layer_norm_row(py.row(i), pm + i, ps + i, px.row(i), pg, pb, eps, d);
    });
  });
}

void layer_norm_backward(Exec&, GradOut dx, GradOut dgamma, GradOut dbeta, In dy, In x, In mean,
                         In rstd, In gamma) {
  dispatch_real(x.dtype(), "layer_norm_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto px = matrix<const T>(x), pg = matrix<const T>(dy);
    Matrix<T> to;
    if (dx.wanted()) to = matrix<T>(dx.tensor);
    const T *pm = mean.data<T>(), *ps = rstd.data<T>(), *pw = gamma.data<T>();
    const int64_t d = x.columns();
    const bool parameters = dgamma.wanted() || dbeta.wanted();
    const auto rows = [&](double* sums, int64_t first, int64_t count) {
      T* part = parameters ? scratch<T, 50>(2 * d) : nullptr;
      if (part) std::fill_n(part, 2 * d, T(0));
      for (int64_t k = 0; k < count; ++k) {
        const int64_t i = first + k;
        layer_norm_grad_row(to.data ? to.row(i) : nullptr, dx.accumulate(), part, pg.row(i),
                            px.row(i), pm[i], ps[i], pw, d);
        if (part && (k % rows_in_t == rows_in_t - 1 || k == count - 1)) {
          for (int64_t j = 0; j < 2 * d; ++j) sums[j] += static_cast<double>(part[j]);
          std::fill_n(part, 2 * d, T(0));
        }
      }
    };
    const double* sums = chunked_sums(x.rows(), d, 2, rows);
    store<T>(dgamma, sums, d);
    store<T>(dbeta, sums + d, d);
  });
}

void batch_norm_forward(Exec&, Out y, Out mean, Out rstd, Out running_mean, Out running_var, In x,
                        In gamma, In beta, In residual, double eps, double momentum, bool relu) {
  dispatch_real(x.dtype(), "batch_norm_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t c = x.columns(), rows = x.rows();
    const auto count = static_cast<double>(rows);
    T *pm = mean.data<T>(), *ps = rstd.data<T>();
    T *rm = running_mean.data<T>(), *rv = running_var.data<T>();
    const auto sums_of = [&](const T* centre) {
      return chunked_sums(rows, c, 1, [&](double* sums, int64_t first, int64_t n) {
        block_sums(sums, scratch<T, 50>(c), matrix<const T>(x, first), centre, n, c);
      });
    };
    const auto blend = [&](T& running, double batch) {
      running = static_cast<T>((1 - momentum) * static_cast<double>(running) + momentum * batch);
    };
    const double* sums = sums_of(nullptr);
    for (int64_t j = 0; j < c; ++j) {
      pm[j] = static_cast<T>(sums[j] / count);
      blend(rm[j], sums[j] / count);
    }
    sums = sums_of(pm);
    for (int64_t j = 0; j < c; ++j) {
      ps[j] = static_cast<T>(1 / std::sqrt(sums[j] / count + eps));
      blend(rv[j], sums[j] / std::max(count - 1, 1.0));
    }
    batch_norm_apply<T>(y, x, residual, {pm, ps, gamma.data<T>(), beta.data<T>()}, relu);
  });
}

void batch_norm_backward(Exec&, GradOut dx, GradOut dgamma, GradOut dbeta, GradOut dresidual, In dy,
                         In x, In y, In mean, In rstd, In gamma, bool relu) {
  dispatch_real(x.dtype(), "batch_norm_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t c = x.columns(), rows = x.rows();
    const Act act = relu ? Act::relu : Act::none;
    const Channels<T> ch{mean.data<T>(), rstd.data<T>(), gamma.data<T>(), nullptr};
    const auto mask = [&](int64_t row) {
      return relu ? matrix<const T>(y, row) : Matrix<const T>{};
    };
    const double* sums = chunked_sums(rows, c, 2, [&](double* own, int64_t first, int64_t n) {
      block_grad_sums(act, own, scratch<T, 50>(2 * c), matrix<const T>(dy, first),
                      matrix<const T>(x, first), mask(first), ch, n, c);
    });
    T* shift = scratch<T, 54>(2 * c);
    T* slope = shift + c;
    for (int64_t j = 0; j < c; ++j) {
      const double g = static_cast<double>(ch.gamma[j]) / static_cast<double>(rows);
      slope[j] = static_cast<T>(g * sums[j]);
      shift[j] = static_cast<T>(g * sums[c + j]);
    }
    store<T>(dgamma, sums, c);
    store<T>(dbeta, sums + c, c);
    if (!dx.wanted() && !dresidual.wanted()) return;
    parallel_for(rows, grain_of(c * 4), [&](int64_t begin, int64_t end) {
      Matrix<T> to, to_residual;
      if (dx.wanted()) to = matrix<T>(dx.tensor, begin);
      if (dresidual.wanted()) to_residual = matrix<T>(dresidual.tensor, begin);
      block_grad(act, to, dx.accumulate(), to_residual, dresidual.accumulate(),
                 matrix<const T>(dy, begin), matrix<const T>(x, begin), mask(begin), ch, shift,
                 slope, end - begin, c);
    });
  });
}

void batch_norm_inference(Exec&, Out y, In running_mean, In running_var, In x, In gamma, In beta,
                          In residual, double eps, bool relu) {
  dispatch_real(x.dtype(), "batch_norm_inference", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t c = x.columns();
    T* rstds = scratch<T, 54>(c);
    const T* var = running_var.data<T>();
    for (int64_t j = 0; j < c; ++j)
      rstds[j] = static_cast<T>(1 / std::sqrt(static_cast<double>(var[j]) + eps));
    batch_norm_apply<T>(y, x, residual,
                        {running_mean.data<T>(), rstds, gamma.data<T>(), beta.data<T>()}, relu);
  });
}

// The norm is stored as it is; the floor of 1e-12 applies where it divides.
void l2_normalize_forward(Exec&, Out y, Out norm, In x) {
  dispatch_real(x.dtype(), "l2_normalize_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto px = matrix<const T>(x);
    const auto py = matrix<T>(y);
    T* pn = norm.data<T>();
    const int64_t d = x.columns();
    parallel_for(x.rows(), grain_of(d * 2), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        pn[i] = std::sqrt(dot(px.row(i), px.row(i), d));
        const T inverse = T(1) / std::max(pn[i], static_cast<T>(1e-12));
        for (int64_t j = 0; j < d; ++j) py.row(i)[j] = px.row(i)[j] * inverse;
      }
    });
  });
}

void l2_normalize_backward(Exec&, GradOut dx, In dy, In y, In norm) {
  dispatch_real(dy.dtype(), "l2_normalize_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto pg = matrix<const T>(dy), py = matrix<const T>(y);
    const auto to = matrix<T>(dx.tensor);
    const T* pn = norm.data<T>();
    const int64_t d = dy.columns();
    const T floor = static_cast<T>(1e-12);
    parallel_for(dy.rows(), grain_of(d * 3), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        // Below the floor the divisor is a constant.
        const T along = pn[i] > floor ? dot(pg.row(i), py.row(i), d) : T(0);
        const T inverse = T(1) / std::max(pn[i], floor);
        for (int64_t j = 0; j < d; ++j) {
          const T g = (pg.row(i)[j] - py.row(i)[j] * along) * inverse;
          to.row(i)[j] = dx.accumulate() ? to.row(i)[j] + g : g;
        }
      }
    });
  });
}

}  // namespace realfake::cpu
