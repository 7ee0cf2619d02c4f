#pragma once
// Kernels of kernels/loss.h. Scalars are sums in two stages of fixed order: a partial per block in
// `partial` (f64), then sum_partials_kernel.
#include "kernels/cuda/access.cuh"

namespace realfake::RF_BACKEND {

// partial[block] = sum of w_n (a - b)^2 over the block's elements.  Grid (elements, samples).
template <class T>
RF_KERNEL void weighted_mse_forward_kernel(double* partial, Rows<T> a, Rows<T> b, const T* w,
                                           int64_t samples, int64_t per_sample) {
  RF_SHARED(double, scratch, kWarp);
  double sum = 0;
  for (int64_t n = blockIdx.y; n < samples; n += gridDim.y) {
    float squares = 0;
    for (int64_t i = grid_first(); i < per_sample; i += grid_step()) {
      const int64_t at = n * per_sample + i;
      const float d = static_cast<float>(element(a, at)) - static_cast<float>(element(b, at));
      squares += d * d;
    }
    sum += static_cast<double>(w ? static_cast<float>(w[n]) * squares : squares);
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

// da = factor w_n (a - b),  factor = 2 dloss / (N P).
template <class T>
RF_KERNEL void weighted_mse_backward_kernel(Rows<T> da, Rows<T> a, Rows<T> b, const T* w,
                                            int64_t samples, int64_t per_sample, float factor,
                                            bool accumulate) {
  for (int64_t n = blockIdx.y; n < samples; n += gridDim.y) {
    const float scale = w ? factor * static_cast<float>(w[n]) : factor;
    for (int64_t i = grid_first(); i < per_sample; i += grid_step()) {
      const int64_t at = n * per_sample + i;
      const float d = static_cast<float>(element(a, at)) - static_cast<float>(element(b, at));
      store_gradient(element(da, at), scale * d, accumulate);
    }
  }
}

// diff (P) = sum_n w_n (a_n - b_n);  partial[block] = its squares.
template <class T>
RF_KERNEL void matching_sum_forward_kernel(double* partial, Rows<T> diff, Rows<T> a, Rows<T> b,
                                           const T* w, int64_t samples, int64_t per_sample) {
  RF_SHARED(double, scratch, kWarp);
  double squares = 0;
  for (int64_t i = grid_first(); i < per_sample; i += grid_step()) {
    float sum = 0;
    for (int64_t n = 0; n < samples; ++n) {
      const int64_t at = n * per_sample + i;
      const float d = static_cast<float>(element(a, at)) - static_cast<float>(element(b, at));
      sum += w ? static_cast<float>(w[n]) * d : d;
    }
    element(diff, i) = static_cast<T>(sum);
    squares += static_cast<double>(sum) * static_cast<double>(sum);
  }
  squares = block_sum(squares, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = squares;
}

// da_n = factor w_n diff,  factor = 2 dloss / P.
template <class T>
RF_KERNEL void matching_sum_backward_kernel(Rows<T> da, Rows<T> diff, const T* w, int64_t samples,
                                            int64_t per_sample, float factor, bool accumulate) {
  for (int64_t n = blockIdx.y; n < samples; n += gridDim.y) {
    const float scale = w ? factor * static_cast<float>(w[n]) : factor;
    for (int64_t i = grid_first(); i < per_sample; i += grid_step())
      store_gradient(element(da, n * per_sample + i), scale * static_cast<float>(element(diff, i)),
                     accumulate);
  }
}

// Vector v < N is sample v of a, the others are b's. Element e of it:
template <class T>
RF_DEVICE float mmd_element(const Rows<T>& a, const Rows<T>& b, int64_t samples, int64_t per_sample,
                            int64_t v, int64_t e) {
  return static_cast<float>(v < samples ? element(a, v * per_sample + e)
                                        : element(b, (v - samples) * per_sample + e));
}

// dist (2N,2N): one block for each pair i < j, which writes both halves.
template <class T>
RF_KERNEL void mmd_distance_kernel(Rows<T> dist, Rows<T> a, Rows<T> b, int64_t samples,
                                   int64_t per_sample) {
  RF_SHARED(double, scratch, kWarp);
  const int64_t vectors = 2 * samples;
  for (int64_t i = blockIdx.y; i < vectors; i += gridDim.y)
    for (int64_t j = blockIdx.x; j < vectors; j += gridDim.x) {
      if (j < i) continue;  // the same for the whole block
      float squares = 0;
      for (int64_t e = threadIdx.x; e < per_sample; e += blockDim.x) {
        const float d = mmd_element(a, b, samples, per_sample, i, e) -
                        mmd_element(a, b, samples, per_sample, j, e);
        squares += d * d;
      }
      const double sum = block_sum(static_cast<double>(squares), scratch);
      if (threadIdx.x == 0) {
        dist.data[i * dist.stride + j] = static_cast<T>(sum);
        dist.data[j * dist.stride + i] = static_cast<T>(sum);
      }
    }
}

// 1 / (2 s^2), s^2 the mean of d^2 over pairs i < j; 0 when all vectors are equal (every kernel is
// then 1).
template <class T>
RF_DEVICE double mmd_half_inverse_width(const Rows<T>& dist, double* scratch) {
  const int64_t vectors = dist.columns;
  double sum = 0;
  for (int64_t k = threadIdx.x; k < vectors * vectors; k += blockDim.x) {
    const int64_t i = k / vectors, j = k - i * vectors;
    if (i < j) sum += static_cast<double>(dist.data[i * dist.stride + j]);
  }
  sum = block_sum(sum, scratch);
  const double pairs = static_cast<double>(vectors * (vectors - 1) / 2);
  return sum > 0 ? pairs / (2 * sum) : sum < 0 || sum == 0 ? 0.0 : sum;  // a NaN stays one
}

// mean over f of k = exp(-d h / f), or of its derivative by d.
RF_DEVICE double mmd_kernel_value(double d, double h, bool derivative) {
  double sum = 0;
  for (double f = 0.25; f <= 4; f *= 2) {
    const double k = exp(-d * h / f);
    sum += derivative ? -h / f * k : k;
  }
  return sum / 5;
}

// The weight of the unordered pair (i,j), i != j, in the loss.
RF_DEVICE double mmd_pair_weight(int64_t i, int64_t j, int64_t samples) {
  const double n = static_cast<double>(samples);
  return (i < samples) == (j < samples) ? 2 / (n * (n - 1)) : -2 / (n * n);
}

// One block.
template <class T>
RF_KERNEL void mmd_rbf_forward_kernel(T* loss, Rows<T> dist, int64_t samples) {
  RF_SHARED(double, scratch, kWarp);
  const double h = mmd_half_inverse_width(dist, scratch);
  const int64_t vectors = 2 * samples;
  double sum = 0;
  for (int64_t k = threadIdx.x; k < vectors * vectors; k += blockDim.x) {
    const int64_t i = k / vectors, j = k - i * vectors;
    if (i < j)
      sum += mmd_pair_weight(i, j, samples) *
             mmd_kernel_value(static_cast<double>(dist.data[i * dist.stride + j]), h, false);
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) loss[0] = static_cast<T>(sum);
}

// coefficient (N,2N): da_i = sum_j coefficient_ij (a_i - v_j).  One block.
template <class T>
RF_KERNEL void mmd_coefficient_kernel(float* coefficient, Rows<T> dist, int64_t samples,
                                      double dloss) {
  RF_SHARED(double, scratch, kWarp);
  const double h = mmd_half_inverse_width(dist, scratch);
  const int64_t vectors = 2 * samples;
  for (int64_t k = threadIdx.x; k < samples * vectors; k += blockDim.x) {
    const int64_t i = k / vectors, j = k - i * vectors;
    const double d = static_cast<double>(dist.data[i * dist.stride + j]);
    coefficient[k] = i == j ? 0.0f
                            : static_cast<float>(2 * dloss * mmd_pair_weight(i, j, samples) *
                                                 mmd_kernel_value(d, h, true));
  }
}

template <class T>
RF_KERNEL void mmd_rbf_backward_kernel(Rows<T> da, Rows<T> a, Rows<T> b, const float* coefficient,
                                       int64_t samples, int64_t per_sample, bool accumulate) {
  for (int64_t i = blockIdx.y; i < samples; i += gridDim.y)
    for (int64_t e = grid_first(); e < per_sample; e += grid_step()) {
      const float own = static_cast<float>(element(a, i * per_sample + e));
      float sum = 0;
      for (int64_t j = 0; j < 2 * samples; ++j)
        sum +=
            coefficient[i * 2 * samples + j] * (own - mmd_element(a, b, samples, per_sample, j, e));
      store_gradient(element(da, i * per_sample + e), sum, accumulate);
    }
}

// One block per row: probs = softmax(logits), partial[n] = -sum_k q_k log softmax_k.
template <class T>
RF_KERNEL void cross_entropy_forward_kernel(double* partial, Rows<T> probs, Rows<T> logits,
                                            Rows<T> target, float smoothing) {
  RF_SHARED(float, scratch, kWarp);
  const int64_t classes = logits.columns;
  const float spread = smoothing / static_cast<float>(classes);
  for (int64_t n = blockIdx.x; n < logits.rows; n += gridDim.x) {
    const T* x = logits.data + n * logits.stride;
    const T* t = target.data + n * target.stride;
    T* p = probs.data + n * probs.stride;
    float best = -INFINITY;
    for (int64_t k = threadIdx.x; k < classes; k += blockDim.x) {
      const float v = static_cast<float>(x[k]);
      best = best < v ? v : best;
    }
    best = block_max(best, scratch);
    float sum = 0;
    for (int64_t k = threadIdx.x; k < classes; k += blockDim.x)
      sum += expf(static_cast<float>(x[k]) - best);
    sum = block_sum(sum, scratch);
    const float log_sum = logf(sum);
    float loss = 0;
    for (int64_t k = threadIdx.x; k < classes; k += blockDim.x) {
      const float shifted = static_cast<float>(x[k]) - best;
      p[k] = static_cast<T>(expf(shifted) / sum);
      const float q = (1.0f - smoothing) * static_cast<float>(t[k]) + spread;
      if (q != 0.0f) loss -= q * (shifted - log_sum);  // 0 * -inf is 0 here
    }
    loss = block_sum(loss, scratch);
    if (threadIdx.x == 0) partial[n] = static_cast<double>(loss);
  }
}

// dlogits = factor (p sum_k q_k - q),  factor = dloss / N.  A target need not sum to 1.
template <class T>
RF_KERNEL void cross_entropy_backward_kernel(Rows<T> dlogits, Rows<T> probs, Rows<T> target,
                                             float smoothing, float factor, bool accumulate) {
  RF_SHARED(float, scratch, kWarp);
  const int64_t classes = probs.columns;
  const float spread = smoothing / static_cast<float>(classes);
  for (int64_t n = blockIdx.x; n < probs.rows; n += gridDim.x) {
    const T* p = probs.data + n * probs.stride;
    const T* t = target.data + n * target.stride;
    float mass = 0;
    for (int64_t k = threadIdx.x; k < classes; k += blockDim.x)
      mass += (1.0f - smoothing) * static_cast<float>(t[k]) + spread;
    mass = block_sum(mass, scratch);
    for (int64_t k = threadIdx.x; k < classes; k += blockDim.x) {
      const float q = (1.0f - smoothing) * static_cast<float>(t[k]) + spread;
      store_gradient(dlogits.data[n * dlogits.stride + k],
                     factor * (static_cast<float>(p[k]) * mass - q), accumulate);
    }
  }
}

template <class T>
RF_KERNEL void one_hot_kernel(Rows<T> target, const int64_t* labels) {
  for (int64_t i = grid_first(); i < target.rows * target.columns; i += grid_step()) {
    const int64_t n = i / target.columns, k = i - n * target.columns;
    target.data[n * target.stride + k] = static_cast<T>(labels[n] == k ? 1 : 0);
  }
}

// Bounds of log variance, as diffusers' DiagonalGaussianDistribution.
RF_DEVICE float clamp_logvar(float v) {
  return v < -30.0f ? -30.0f : v > 20.0f ? 20.0f : v;
}

// partial[block] = sum of mu^2 + exp(logvar) - 1 - logvar.  moments rows [mu | logvar].
template <class T>
RF_KERNEL void kl_forward_kernel(double* partial, Rows<T> moments) {
  RF_SHARED(double, scratch, kWarp);
  const int64_t half = moments.columns / 2;
  double sum = 0;
  for (int64_t i = grid_first(); i < moments.rows * half; i += grid_step()) {
    const int64_t row = i / half;
    const T* at = moments.data + row * moments.stride + (i - row * half);
    const float mu = static_cast<float>(at[0]);
    const float logvar = clamp_logvar(static_cast<float>(at[half]));
    sum += static_cast<double>(mu * mu + (expm1f(logvar) - logvar));
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// factor = dloss / count.
template <class T>
RF_KERNEL void kl_backward_kernel(Rows<T> dmoments, Rows<T> moments, float factor,
                                  bool accumulate) {
  const int64_t half = moments.columns / 2;
  for (int64_t i = grid_first(); i < moments.rows * moments.columns; i += grid_step()) {
    const int64_t row = i / moments.columns, k = i - row * moments.columns;
    const float v = static_cast<float>(moments.data[row * moments.stride + k]);
    float d = v;
    if (k >= half) d = v < -30.0f || v > 20.0f ? 0.0f : 0.5f * expm1f(v);
    store_gradient(dmoments.data[row * dmoments.stride + k], factor * d, accumulate);
  }
}

}  // namespace realfake::RF_BACKEND
