#pragma once
// How a kernel is written and launched, on a GPU (nvcc) and under the emulator (host compiler),
// from one text.
//
//   RF_BACKEND                 namespace of this build of the file: `cuda` or `emulated`
//   RF_KERNEL void k(...)      a kernel; RF_DEVICE: a device function
//   RF_SHARED(T, name, count)  static shared array;  RF_DYNAMIC_SHARED(T, name): the `shared_bytes`
//   of launch() launch(k, grid, block, shared_bytes, exec, args...)   the only way to start one:
//   checks limits and errors
//
// Rules for kernels: block-stride or grid-stride loops; no early return before a barrier; no
// reliance on implicit warp lockstep; shuffles and block reductions through reduce.cuh;
// __syncthreads() between any two phases that share memory; products of dimensions in 64 bits.
#include "kernels/backend.h"

#ifdef REALFAKE_EMULATED
#include "kernels/emulator/emulator.h"
#define RF_BACKEND emulated
#else
#include <cuda_runtime.h>
#include "kernels/cuda/check.h"
#define RF_BACKEND cuda
#define RF_KERNEL __global__
#define RF_DEVICE __device__ __forceinline__
#define RF_SHARED(T, name, count) __shared__ T name[count]
#define RF_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char rf_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(rf_dynamic_shared)
#endif

namespace realfake::RF_BACKEND {

constexpr int kWarp = 32;
constexpr int kBlock = 256;  // default threads of a block

#ifndef REALFAKE_EMULATED
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Exec& exec,
            Args&&... args) {
  check_launch_limits(grid, block, shared_bytes);
  if (shared_bytes > 48 * 1024)
    CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)));
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(exec.stream())>>>(
      static_cast<Params>(args)...);
  CUDA_CHECK(cudaGetLastError());
}
#else
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Exec&,
            Args&&... args) {
  emulator::run(grid, block, shared_bytes, [&] { kernel(static_cast<Params>(args)...); });
}
#endif

// Blocks for a grid-stride loop over n elements, at most 65,535 * 8.
inline dim3 grid_for(int64_t n, int block = kBlock) {
  const int64_t blocks = (n + block - 1) / block;
  return dim3(static_cast<unsigned>(blocks < 1 ? 1 : blocks > 524280 ? 524280 : blocks));
}

// A row-major matrix view with strided rows, passed to kernels by value.
template <class T>
struct Rows {
  T* data;
  int64_t rows, columns, stride;
};
template <class T>
Rows<T> rows_of(const Tensor& t) {
  return {t.data<T>(), t.rows(), t.columns(), t.row_stride()};
}

}  // namespace realfake::RF_BACKEND
