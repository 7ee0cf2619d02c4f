#include "kernels/diffusion.h"

#include <cmath>

#include "kernels/backend.h"
#include "kernels/cpu/spans.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {

namespace {

template <class T>
RF_INLINE void combine_loop(int64_t n, T* y, const T* x, const T* e, T a, T b) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = a * x[i] + b * e[i];
}
RF_CLONES void combine_span(int64_t n, float* y, const float* x, const float* e, float a, float b) {
  combine_loop(n, y, x, e, a, b);
}
void combine_span(int64_t n, double* y, const double* x, const double* e, double a, double b) {
  combine_loop(n, y, x, e, a, b);
}

// `cond` and `noise` may be null.
template <class T>
struct StepNumbers {
  T guidance, cx, ce, cn;
};
template <class T>
RF_INLINE void guided_loop(int64_t n, T* y, const T* x, const T* uncond, const T* cond,
                           const T* noise, StepNumbers<T> k) {
  if (cond != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i)
      y[i] = k.cx * x[i] + k.ce * (uncond[i] + k.guidance * (cond[i] - uncond[i]));
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = k.cx * x[i] + k.ce * uncond[i];
  }
  if (noise != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] += k.cn * noise[i];
  }
}
RF_CLONES void guided_span(int64_t n, float* y, const float* x, const float* uncond,
                           const float* cond, const float* noise, StepNumbers<float> k) {
  guided_loop(n, y, x, uncond, cond, noise, k);
}
void guided_span(int64_t n, double* y, const double* x, const double* uncond, const double* cond,
                 const double* noise, StepNumbers<double> k) {
  guided_loop(n, y, x, uncond, cond, noise, k);
}

template <class T>
T clamp_logvar(T v) {
  return std::clamp(v, T(-30), T(20));
}

}  // namespace

void combine_samples(Exec&, Out y, In x, In e, In a, In b) {
  if (y.numel() == 0) return;
  dispatch_real(y.dtype(), "combine_samples", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t per = y.numel() / y.dim(0);
    parallel_for(y.numel(), grain_of(1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end;) {
        const int64_t n = i / per, stop = std::min(end, (n + 1) * per);
        combine_span(stop - i, y.data<T>() + i, x.data<T>() + i, e.data<T>() + i, a.data<T>()[n],
                     b.data<T>()[n]);
        i = stop;
      }
    });
  });
}

void posterior_sample_forward(Exec&, Out z, In moments, In e, double factor) {
  dispatch_real(z.dtype(), "posterior_sample_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t C = z.columns();
    parallel_for(z.rows(), grain_of(C * 16), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* mu = moments.data<T>() + r * 2 * C;
        const T* noise = e.data<T>() + r * C;
        T* to = z.data<T>() + r * C;
        for (int64_t c = 0; c < C; ++c)
          to[c] = T(factor) * (mu[c] + std::exp(clamp_logvar(mu[C + c]) / 2) * noise[c]);
      }
    });
  });
}

void posterior_sample_backward(Exec&, GradOut dmoments, In dz, In moments, In e, double factor) {
  if (!dmoments.wanted()) return;
  dispatch_real(dz.dtype(), "posterior_sample_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t C = dz.columns();
    parallel_for(dz.rows(), grain_of(C * 16), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T* logvar = moments.data<T>() + r * 2 * C + C;
        const T* noise = e.data<T>() + r * C;
        const T* g = dz.data<T>() + r * C;
        T* to = dmoments.tensor.data<T>() + r * 2 * C;
        for (int64_t c = 0; c < C; ++c) {
          const bool inside = clamp_logvar(logvar[c]) == logvar[c];
          const T dmu = T(factor) * g[c];
          const T dlogvar = inside ? dmu * noise[c] * std::exp(logvar[c] / 2) / 2 : T(0);
          to[c] = dmoments.accumulate() ? to[c] + dmu : dmu;
          to[C + c] = dmoments.accumulate() ? to[C + c] + dlogvar : dlogvar;
        }
      }
    });
  });
}

void guided_step(Exec&, Out y, In x, In model_output, In noise, double guidance, double cx,
                 double ce, double cn) {
  dispatch_real(y.dtype(), "guided_step", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* uncond = model_output.data<T>();
    const T* cond = model_output.numel() == y.numel() ? nullptr : uncond + y.numel();
    const T* noise_data = noise.defined() ? noise.data<T>() : nullptr;
    const StepNumbers<T> k{T(guidance), T(cx), T(ce), T(cn)};
    parallel_for(y.numel(), grain_of(2), [&](int64_t begin, int64_t end) {
      // Pieces that stay in cache between the two loops. y may be x, so the noise comes second.
      constexpr int64_t piece = 1 << 12;
      for (int64_t i = begin; i < end; i += piece)
        guided_span(std::min(piece, end - i), y.data<T>() + i, x.data<T>() + i, uncond + i,
                    cond ? cond + i : nullptr, noise_data ? noise_data + i : nullptr, k);
    });
  });
}

}  // namespace realfake::cpu
