#pragma once
// Kernels of kernels/optimizer.h: one launch over many tensors. A block takes one chunk of one
// tensor; `Chunk` says which.
#include "kernels/cuda/access.cuh"

namespace realfake::RF_BACKEND {

constexpr int64_t kChunk = 16384;  // elements of a block

struct Chunk {
  int64_t tensor, begin;
};

// What an update touches: up to four dense arrays of one length. Names differ by update:
//   AdamW  param, grad, m, v      SGD  param, grad, buffer      EMA  average, value      norm value
template <class T>
struct Arrays {
  T* p[4];
  int64_t size;
  int64_t decay;
};

// The constants of a step, computed in double on the host.
struct AdamWStep {
  float grad_scale, shrink, beta1, beta2, one_minus_beta1, one_minus_beta2, step_size,
      inverse_root_bias2, eps;
};

template <class T>
RF_KERNEL void adamw_kernel(const Arrays<T>* tensors, const Chunk* chunks, AdamWStep s) {
  const Chunk chunk = chunks[blockIdx.x];
  const Arrays<T> t = tensors[chunk.tensor];
  const int64_t end = chunk.begin + kChunk < t.size ? chunk.begin + kChunk : t.size;
  for (int64_t i = chunk.begin + threadIdx.x; i < end; i += blockDim.x) {
    const float g = static_cast<float>(t.p[1][i]) * s.grad_scale;
    const float m = s.beta1 * static_cast<float>(t.p[2][i]) + s.one_minus_beta1 * g;
    const float v = s.beta2 * static_cast<float>(t.p[3][i]) + s.one_minus_beta2 * g * g;
    float p = static_cast<float>(t.p[0][i]);
    if (t.decay) p *= s.shrink;
    p -= s.step_size * m / (sqrtf(v) * s.inverse_root_bias2 + s.eps);
    t.p[0][i] = static_cast<T>(p);
    t.p[2][i] = static_cast<T>(m);
    t.p[3][i] = static_cast<T>(v);
  }
}

struct SgdStep {
  float grad_scale, lr, momentum, weight_decay;
  bool nesterov, first;  // the first step writes the buffer without reading it
};

template <class T>
RF_KERNEL void sgd_kernel(const Arrays<T>* tensors, const Chunk* chunks, SgdStep s) {
  const Chunk chunk = chunks[blockIdx.x];
  const Arrays<T> t = tensors[chunk.tensor];
  const int64_t end = chunk.begin + kChunk < t.size ? chunk.begin + kChunk : t.size;
  for (int64_t i = chunk.begin + threadIdx.x; i < end; i += blockDim.x) {
    const float p = static_cast<float>(t.p[0][i]);
    float g = static_cast<float>(t.p[1][i]) * s.grad_scale;
    if (t.decay) g += s.weight_decay * p;
    float update = g;
    if (t.p[2]) {
      const float buffer = s.first ? g : s.momentum * static_cast<float>(t.p[2][i]) + g;
      t.p[2][i] = static_cast<T>(buffer);
      update = s.nesterov ? g + s.momentum * buffer : buffer;
    }
    t.p[0][i] = static_cast<T>(p - s.lr * update);
  }
}

template <class T>
RF_KERNEL void ema_kernel(const Arrays<T>* tensors, const Chunk* chunks, float decay,
                          float one_minus_decay) {
  const Chunk chunk = chunks[blockIdx.x];
  const Arrays<T> t = tensors[chunk.tensor];
  const int64_t end = chunk.begin + kChunk < t.size ? chunk.begin + kChunk : t.size;
  for (int64_t i = chunk.begin + threadIdx.x; i < end; i += blockDim.x)
    t.p[0][i] = static_cast<T>(decay * static_cast<float>(t.p[0][i]) +
                               one_minus_decay * static_cast<float>(t.p[1][i]));
}

// partial[chunk] = sum of squares. In double: a float square overflows from 1.8e19.
template <class T>
RF_KERNEL void chunk_squares_kernel(double* partial, const Arrays<T>* tensors,
                                    const Chunk* chunks) {
  RF_SHARED(double, scratch, kWarp);
  const Chunk chunk = chunks[blockIdx.x];
  const Arrays<T> t = tensors[chunk.tensor];
  const int64_t end = chunk.begin + kChunk < t.size ? chunk.begin + kChunk : t.size;
  double sum = 0;
  for (int64_t i = chunk.begin + threadIdx.x; i < end; i += blockDim.x) {
    const double v = static_cast<double>(t.p[0][i]);
    sum += v * v;
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

}  // namespace realfake::RF_BACKEND
