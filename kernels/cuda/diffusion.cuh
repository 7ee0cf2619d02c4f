#pragma once
// Kernels of kernels/diffusion.h.
#include "kernels/cuda/access.cuh"

namespace realfake::RF_BACKEND {

// Grid (elements, samples).
template <class T>
RF_KERNEL void combine_samples_kernel(Rows<T> y, Rows<T> x, Rows<T> e, const T* a, const T* b,
                                      int64_t samples, int64_t per_sample) {
  for (int64_t n = blockIdx.y; n < samples; n += gridDim.y) {
    const float an = static_cast<float>(a[n]), bn = static_cast<float>(b[n]);
    for (int64_t i = grid_first(); i < per_sample; i += grid_step()) {
      const int64_t at = n * per_sample + i;
      element(y, at) = static_cast<T>(an * static_cast<float>(element(x, at)) +
                                      bn * static_cast<float>(element(e, at)));
    }
  }
}

template <class T>
RF_KERNEL void posterior_sample_forward_kernel(Rows<T> z, Rows<T> moments, Rows<T> e,
                                               float factor) {
  for (int64_t i = grid_first(); i < z.rows * z.columns; i += grid_step()) {
    const int64_t row = i / z.columns, c = i - row * z.columns;
    const T* m = moments.data + row * moments.stride;
    const float v = static_cast<float>(m[z.columns + c]);
    const float logvar = v < -30.0f ? -30.0f : v > 20.0f ? 20.0f : v;
    z.data[row * z.stride + c] = static_cast<T>(
        factor * (static_cast<float>(m[c]) +
                  expf(0.5f * logvar) * static_cast<float>(e.data[row * e.stride + c])));
  }
}

// dmu = factor dz;  dlogvar = factor dz e exp(logvar/2) / 2, 0 where logvar was clamped.
template <class T>
RF_KERNEL void posterior_sample_backward_kernel(Rows<T> dmoments, Rows<T> dz, Rows<T> moments,
                                                Rows<T> e, float factor, bool accumulate) {
  for (int64_t i = grid_first(); i < dz.rows * dz.columns; i += grid_step()) {
    const int64_t row = i / dz.columns, c = i - row * dz.columns;
    const float d = factor * static_cast<float>(dz.data[row * dz.stride + c]);
    const float logvar = static_cast<float>(moments.data[row * moments.stride + dz.columns + c]);
    const float noise = static_cast<float>(e.data[row * e.stride + c]);
    const bool clamped = logvar < -30.0f || logvar > 20.0f;
    T* to = dmoments.data + row * dmoments.stride;
    store_gradient(to[c], d, accumulate);
    store_gradient(to[dz.columns + c], clamped ? 0.0f : 0.5f * d * noise * expf(0.5f * logvar),
                   accumulate);
  }
}

// `guided`: model_output is [uncond; cond], the second half `count` elements after the first.
// noise.data may be null.
template <class T>
RF_KERNEL void guided_step_kernel(Rows<T> y, Rows<T> x, Rows<T> model_output, Rows<T> noise,
                                  bool guided, float guidance, float cx, float ce, float cn) {
  const int64_t count = y.rows * y.columns;
  for (int64_t i = grid_first(); i < count; i += grid_step()) {
    float e = static_cast<float>(element(model_output, i));
    if (guided) e += guidance * (static_cast<float>(element(model_output, count + i)) - e);
    float v = cx * static_cast<float>(element(x, i)) + ce * e;
    if (noise.data) v += cn * static_cast<float>(element(noise, i));
    element(y, i) = static_cast<T>(v);
  }
}

}  // namespace realfake::RF_BACKEND
