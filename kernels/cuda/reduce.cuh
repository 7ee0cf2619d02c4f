#pragma once
// Warp and block reductions in a fixed order. Every thread of the block must call, with blockDim.x
// a multiple of 32; the result is given to all threads. `scratch` is shared memory of at least 32
// elements and may be reused at once: each call ends with a barrier.
#include "kernels/cuda/launch.h"

namespace realfake::RF_BACKEND {

template <class T>
RF_DEVICE T warp_sum(T v) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
template <class T>
RF_DEVICE T warp_max(T v) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(0xffffffffu, v, offset);
    v = v < other ? other : v;
  }
  return v;
}

template <class T>
RF_DEVICE T block_sum(T v, T* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  v = warp_sum(v);
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  T total = scratch[0];
  for (int i = 1; i < warps; ++i) total += scratch[i];
  __syncthreads();
  return total;
}
template <class T>
RF_DEVICE T block_max(T v, T* scratch) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  v = warp_max(v);
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  T best = scratch[0];
  for (int i = 1; i < warps; ++i) best = best < scratch[i] ? scratch[i] : best;
  __syncthreads();
  return best;
}

}  // namespace realfake::RF_BACKEND
