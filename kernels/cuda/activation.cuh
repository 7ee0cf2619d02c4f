#pragma once
// Kernels of kernels/activation.h.
#include "kernels/cuda/common.cuh"

namespace realfake::RF_BACKEND {

// x Phi(x), and its derivative Phi(x) + x phi(x).
RF_DEVICE float gelu_of(float x) {
  return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}
RF_DEVICE float gelu_slope(float x) {
  return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
}

template <Activation A>
RF_DEVICE float activate(float x) {
  if constexpr (A == Activation::silu) return x / (1.0f + expf(-x));
  if constexpr (A == Activation::gelu) return gelu_of(x);
  if constexpr (A == Activation::quick_gelu) return x / (1.0f + expf(-1.702f * x));
  if constexpr (A == Activation::relu) return x < 0 ? 0.0f : x;  // a NaN stays
}
template <Activation A>
RF_DEVICE float activation_slope(float x) {
  if constexpr (A == Activation::silu || A == Activation::quick_gelu) {
    constexpr float k = A == Activation::silu ? 1.0f : 1.702f;
    const float s = 1.0f / (1.0f + expf(-k * x));
    return s * (1.0f + k * x * (1.0f - s));
  }
  if constexpr (A == Activation::gelu) return gelu_slope(x);
  if constexpr (A == Activation::relu) return x > 0 ? 1.0f : 0.0f;
}

template <class T, Activation A>
RF_KERNEL void activation_forward_kernel(Rows<T> y, Rows<T> x, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step())
    element(y, i) = static_cast<T>(activate<A>(load_at(x, i)));
}
template <class T, Activation A>
RF_KERNEL void activation_backward_kernel(Rows<T> dx, bool accumulate, Rows<T> dy, Rows<T> x,
                                          int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step())
    store_gradient(element(dx, i), load_at(dy, i) * activation_slope<A>(load_at(x, i)), accumulate);
}

// y (rows, D), x (rows, 2D)
template <class T>
RF_KERNEL void geglu_forward_kernel(Rows<T> y, Rows<T> x, int threads) {
  const RowWalk w = walk_rows(threads);
  const int64_t d = y.columns;
  for (int64_t row = w.row; row < y.rows; row += w.row_step)
    for (int64_t c = w.column; c < d; c += w.column_step)
      y.data[row * y.stride + c] =
          static_cast<T>(load_at(x, row, c) * gelu_of(load_at(x, row, d + c)));
}
template <class T>
RF_KERNEL void geglu_backward_kernel(Rows<T> dx, bool accumulate, Rows<T> dy, Rows<T> x,
                                     int threads) {
  const RowWalk w = walk_rows(threads);
  const int64_t d = dy.columns;
  for (int64_t row = w.row; row < dy.rows; row += w.row_step)
    for (int64_t c = w.column; c < d; c += w.column_step) {
      const float g = load_at(dy, row, c), a = load_at(x, row, c), b = load_at(x, row, d + c);
      T* to = dx.data + row * dx.stride;
      store_gradient(to[c], g * gelu_of(b), accumulate);
      store_gradient(to[d + c], g * a * gelu_slope(b), accumulate);
    }
}

// One block a row. y may be x: an element is read and written by the same thread.
template <class T>
RF_KERNEL void softmax_forward_kernel(Rows<T> y, Rows<T> x) {
  RF_SHARED(float, scratch, kWarp);
  for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
    float best = -INFINITY;
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x) {
      const float v = load_at(x, row, c);
      best = best < v ? v : best;
    }
    best = block_max(best, scratch);
    float sum = 0;
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x)
      sum += expf(load_at(x, row, c) - best);
    sum = block_sum(sum, scratch);
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x)
      y.data[row * y.stride + c] = static_cast<T>(expf(load_at(x, row, c) - best) / sum);
  }
}
template <class T>
RF_KERNEL void softmax_backward_kernel(Rows<T> dx, bool accumulate, Rows<T> dy, Rows<T> y) {
  RF_SHARED(float, scratch, kWarp);
  for (int64_t row = blockIdx.x; row < y.rows; row += gridDim.x) {
    float dot = 0;
    for (int64_t c = threadIdx.x; c < y.columns; c += blockDim.x)
      dot += load_at(dy, row, c) * load_at(y, row, c);
    dot = block_sum(dot, scratch);
    for (int64_t c = threadIdx.x; c < y.columns; c += blockDim.x)
      store_gradient(dx.data[row * dx.stride + c], load_at(y, row, c) * (load_at(dy, row, c) - dot),
                     accumulate);
  }
}

}  // namespace realfake::RF_BACKEND
