#include "kernels/loss.h"

#include <cmath>

#include "kernels/backend.h"
#include "kernels/cpu/spans.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {

namespace {

// y (+)= alpha (a - b)
template <class T>
RF_INLINE void difference_loop(int64_t n, T* y, const T* a, const T* b, T alpha, bool accumulate) {
  if (accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] += alpha * (a[i] - b[i]);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = alpha * (a[i] - b[i]);
  }
}
RF_CLONES void difference_span(int64_t n, float* y, const float* a, const float* b, float alpha,
                               bool accumulate) {
  difference_loop(n, y, a, b, alpha, accumulate);
}
void difference_span(int64_t n, double* y, const double* a, const double* b, double alpha,
                     bool accumulate) {
  difference_loop(n, y, a, b, alpha, accumulate);
}

template <class T>
T weight(const Tensor& w, int64_t n) {
  return w.defined() ? w.data<T>()[n] : T(1);
}
// Elements per sample, of a tensor known not to be empty.
int64_t sample_size(const Tensor& a) {
  return a.numel() / a.dim(0);
}

}  // namespace

void weighted_mse_forward(Exec&, Out loss, In a, In b, In w) {
  dispatch_real(a.dtype(), "weighted_mse_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = a.dim(0), P = sample_size(a);
    const T *ad = a.data<T>(), *bd = b.data<T>();
    const double total = chunked_sum(a.numel(), [&](int64_t begin, int64_t count) {
      double sum = 0;
      for (int64_t i = begin; i < begin + count;) {
        const int64_t n = i / P, stop = std::min(begin + count, (n + 1) * P);
        sum += double(weight<T>(w, n)) * squared_distance_span(stop - i, ad + i, bd + i);
        i = stop;
      }
      return sum;
    });
    store_scalar(loss, total / static_cast<double>(N) / static_cast<double>(P));
  });
}

void weighted_mse_backward(Exec&, GradOut da, In a, In b, In w, double dloss) {
  if (!da.wanted()) return;
  dispatch_real(a.dtype(), "weighted_mse_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t P = sample_size(a);
    const double factor = 2 * dloss / static_cast<double>(a.numel());
    parallel_for(a.numel(), grain_of(1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end;) {
        const int64_t n = i / P, stop = std::min(end, (n + 1) * P);
        difference_span(stop - i, da.tensor.data<T>() + i, a.data<T>() + i, b.data<T>() + i,
                        T(factor * double(weight<T>(w, n))), da.accumulate());
        i = stop;
      }
    });
  });
}

void matching_sum_forward(Exec&, Out loss, Out diff, In a, In b, In w) {
  dispatch_real(a.dtype(), "matching_sum_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = a.dim(0), P = sample_size(a);
    T* to = diff.data<T>();
    parallel_for(P, grain_of(N), [&](int64_t begin, int64_t end) {
      for (int64_t n = 0; n < N; ++n)
        difference_span(end - begin, to + begin, a.data<T>() + n * P + begin,
                        b.data<T>() + n * P + begin, weight<T>(w, n), n > 0);
    });
    const double total =
        chunked_sum(P, [&](int64_t begin, int64_t n) { return sum_squares_span(n, to + begin); });
    store_scalar(loss, total / static_cast<double>(P));
  });
}

void matching_sum_backward(Exec&, GradOut da, In diff, In w, double dloss) {
  if (!da.wanted()) return;
  dispatch_real(diff.dtype(), "matching_sum_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t P = diff.numel(), N = da.tensor.dim(0);
    const T* from = diff.data<T>();
    parallel_for(N * P, grain_of(1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end;) {
        const int64_t n = i / P, stop = std::min(end, (n + 1) * P);
        const T factor = T(2 * dloss / static_cast<double>(P) * double(weight<T>(w, n)));
        T* to = da.tensor.data<T>() + i;
        const T* d = from + i - n * P;
        for (int64_t k = 0; k < stop - i; ++k)
          to[k] = factor * d[k] + (da.accumulate() ? to[k] : T(0));
        i = stop;
      }
    });
  });
}

namespace {

constexpr double mmd_widths[] = {0.25, 0.5, 1, 2, 4};

// s^2 of the kernels: the mean squared distance over pairs i < j. 0 when all vectors are equal.
template <class T>
double mean_distance(const T* dist, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = i + 1; j < count; ++j) sum += double(dist[i * count + j]);
  return sum / (static_cast<double>(count) * static_cast<double>(count - 1) / 2);
}
// The mean of the five kernels at squared distance d, and its derivative by d.
double mmd_kernel(double d, double s2) {
  if (s2 <= 0) return 1;
  double sum = 0;
  for (double f : mmd_widths) sum += std::exp(-d / (2 * f * s2));
  return sum / std::size(mmd_widths);
}
double mmd_slope(double d, double s2) {
  if (s2 <= 0) return 0;
  double sum = 0;
  for (double f : mmd_widths) sum -= std::exp(-d / (2 * f * s2)) / (2 * f * s2);
  return sum / std::size(mmd_widths);
}

}  // namespace

void mmd_rbf_forward(Exec&, Out loss, Out dist, In a, In b) {
  dispatch_real(a.dtype(), "mmd_rbf_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = a.dim(0), M = 2 * N, P = sample_size(a);
    const auto vector = [&](int64_t i) {
      return i < N ? a.data<T>() + i * P : b.data<T>() + (i - N) * P;
    };
    T* d = dist.data<T>();
    parallel_for(M * M, grain_of(P), [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const int64_t i = k / M, j = k % M;
        if (i > j) continue;
        d[i * M + j] = d[j * M + i] =
            i == j ? T(0) : T(squared_distance_span(P, vector(i), vector(j)));
      }
    });
    const double s2 = mean_distance(d, M);
    double same = 0, cross = 0;
    for (int64_t i = 0; i < N; ++i)
      for (int64_t j = 0; j < N; ++j) {
        if (i != j)
          same +=
              mmd_kernel(double(d[i * M + j]), s2) + mmd_kernel(double(d[(N + i) * M + N + j]), s2);
        cross += mmd_kernel(double(d[i * M + N + j]), s2);
      }
    const double n = static_cast<double>(N);
    store_scalar(loss, same / (n * (n - 1)) - 2 * cross / (n * n));
  });
}

void mmd_rbf_backward(Exec&, GradOut da, In a, In b, In dist, double dloss) {
  if (!da.wanted()) return;
  dispatch_real(a.dtype(), "mmd_rbf_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = a.dim(0), M = 2 * N, P = sample_size(a);
    const T* d = dist.data<T>();
    const double s2 = mean_distance(d, M), n = static_cast<double>(N);
    // Each pair of a's counts twice, and d/da |a - x|^2 = 2 (a - x).
    const double of_same = 4 * dloss / (n * (n - 1)), of_cross = -4 * dloss / (n * n);
    parallel_for(N, grain_of(M * P), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* ai = a.data<T>() + i * P;
        T* to = da.tensor.data<T>() + i * P;
        if (!da.accumulate()) std::fill_n(to, P, T(0));
        for (int64_t j = 0; j < N; ++j) {
          if (j != i)
            difference_span(P, to, ai, a.data<T>() + j * P,
                            T(of_same * mmd_slope(double(d[i * M + j]), s2)), true);
          difference_span(P, to, ai, b.data<T>() + j * P,
                          T(of_cross * mmd_slope(double(d[i * M + N + j]), s2)), true);
        }
      }
    });
  });
}

void cross_entropy_forward(Exec&, Out loss, Out probs, In logits, In target, double smoothing) {
  dispatch_real(logits.dtype(), "cross_entropy_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = logits.dim(0), K = logits.dim(1);
    std::vector<double> part(static_cast<size_t>(N));
    parallel_for(N, grain_of(K * 16), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const T* x = logits.data<T>() + n * K;
        const T* t = target.data<T>() + n * K;
        T* p = probs.data<T>() + n * K;
        const double top = double(*std::max_element(x, x + K));
        double sum = 0;
        for (int64_t k = 0; k < K; ++k) sum += std::exp(double(x[k]) - top);
        const double log_sum = top + std::log(sum);
        double row = 0;
        for (int64_t k = 0; k < K; ++k) {
          const double log_p = double(x[k]) - log_sum;
          p[k] = T(std::exp(log_p));
          const double q = (1 - smoothing) * double(t[k]) + smoothing / static_cast<double>(K);
          if (q != 0) row -= q * log_p;  // 0 log 0 is 0
        }
        part[static_cast<size_t>(n)] = row;
      }
    });
    double total = 0;
    for (double row : part) total += row;
    store_scalar(loss, total / static_cast<double>(N));
  });
}

void cross_entropy_backward(Exec&, GradOut dlogits, In probs, In target, double smoothing,
                            double dloss) {
  if (!dlogits.wanted()) return;
  dispatch_real(probs.dtype(), "cross_entropy_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = probs.dim(0), K = probs.dim(1);
    const double factor = dloss / static_cast<double>(N);
    parallel_for(N, grain_of(K), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const T* p = probs.data<T>() + n * K;
        const T* t = target.data<T>() + n * K;
        T* to = dlogits.tensor.data<T>() + n * K;
        double mass = 0;  // 1 unless the target is no distribution
        for (int64_t k = 0; k < K; ++k) mass += double(t[k]);
        mass = (1 - smoothing) * mass + smoothing;
        for (int64_t k = 0; k < K; ++k) {
          const double q = (1 - smoothing) * double(t[k]) + smoothing / static_cast<double>(K);
          const T g = T(factor * (mass * double(p[k]) - q));
          to[k] = dlogits.accumulate() ? to[k] + g : g;
        }
      }
    });
  });
}

void one_hot(Exec&, Out target, In labels) {
  dispatch_real(target.dtype(), "one_hot", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = target.dim(0), K = target.dim(1);
    T* to = target.data<T>();
    std::fill_n(to, N * K, T(0));
    for (int64_t n = 0; n < N; ++n) to[n * K + labels.data<int64_t>()[n]] = T(1);
  });
}

namespace {
constexpr double logvar_low = -30, logvar_high = 20;
}

void kl_forward(Exec&, Out loss, In moments) {
  dispatch_real(moments.dtype(), "kl_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t C = moments.columns() / 2;
    const T* from = moments.data<T>();
    const double total = chunked_sum(moments.numel() / 2, [&](int64_t begin, int64_t count) {
      double sum = 0;
      for (int64_t i = begin; i < begin + count; ++i) {
        const T* row = from + i / C * 2 * C + i % C;
        const double mu = double(row[0]);
        const double logvar = std::clamp(double(row[C]), logvar_low, logvar_high);
        sum += 0.5 * (mu * mu + std::exp(logvar) - 1 - logvar);
      }
      return sum;
    });
    store_scalar(loss, total / static_cast<double>(moments.numel() / 2));
  });
}

void kl_backward(Exec&, GradOut dmoments, In moments, double dloss) {
  if (!dmoments.wanted()) return;
  dispatch_real(moments.dtype(), "kl_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t C = moments.columns() / 2;
    const double factor = dloss / static_cast<double>(moments.numel() / 2);
    parallel_for(moments.rows(), grain_of(C * 16), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* row = moments.data<T>() + r * 2 * C;
        T* to = dmoments.tensor.data<T>() + r * 2 * C;
        for (int64_t c = 0; c < C; ++c) {
          const double logvar = double(row[C + c]);
          const bool inside = logvar >= logvar_low && logvar <= logvar_high;
          const T dmu = T(factor * double(row[c]));
          const T dlogvar = inside ? T(factor * 0.5 * (std::exp(logvar) - 1)) : T(0);
          to[c] = dmoments.accumulate() ? to[c] + dmu : dmu;
          to[C + c] = dmoments.accumulate() ? to[C + c] + dlogvar : dlogvar;
        }
      }
    });
  });
}

}  // namespace realfake::cpu
