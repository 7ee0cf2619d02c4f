#include "kernels/normalization.h"

#include <algorithm>
#include <cmath>

#include "kernels/backend.h"
#include "kernels/cpu/norm_blocks.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {
namespace {

// ---- group norm

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
