#pragma once
// What the lighter kernels share: grid-stride indices, elements of strided rows, gradient stores,
// the dtype guard and the second stage of a fixed-order sum.
#include "kernels/cuda/reduce.cuh"

namespace realfake::RF_BACKEND {

RF_DEVICE int64_t grid_first() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
RF_DEVICE int64_t grid_step() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

// Flat element i of a tensor whose rows may be strided; the division is only paid where they are.
template <class T>
RF_DEVICE T& element(const Rows<T>& x, int64_t i) {
  if (x.stride == x.columns) return x.data[i];
  const int64_t row = i / x.columns;
  return x.data[row * x.stride + (i - row * x.columns)];
}

template <class T>
RF_DEVICE void store_gradient(T& to, float value, bool accumulate) {
  to = static_cast<T>(accumulate ? static_cast<float>(to) + value : value);
}

// out (1) = factor * sum of partial (count), or its square root. One block; the order depends on
// count alone.
template <class T>
RF_KERNEL void sum_partials_kernel(T* out, const double* partial, int64_t count, double factor,
                                   bool root) {
  RF_SHARED(double, scratch, kWarp);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum, scratch) * factor;
  if (threadIdx.x == 0) out[0] = static_cast<T>(root ? sqrt(sum) : sum);
}

// Blocks of a (elements, samples) grid: x strides over the elements of one sample, y over samples.
inline dim3 sample_grid(int64_t samples, int64_t elements, int64_t max_x = 65535,
                        int64_t max_y = 65535) {
  const auto clamp = [](int64_t v, int64_t most) {
    return static_cast<unsigned>(v < 1 ? 1 : v > most ? most : v);
  };
  return dim3(clamp((elements + kBlock - 1) / kBlock, max_x), clamp(samples, max_y));
}

// The elements of one sample of x (N,...).
inline int64_t elements_per_sample(const Tensor& x) {
  return x.rank() && x.dim(0) ? x.numel() / x.dim(0) : x.numel();
}

template <class T>
Rows<T> rows_or_none(const Tensor& t) {
  return t.defined() ? rows_of<T>(t) : Rows<T>{nullptr, 0, 0, 0};
}

// The kernels are templates on the storage type; f32 is the one instantiated.
template <class... Tensors>
void require_f32(const char* op, const Tensors&... tensors) {
  const auto check = [op](const Tensor& t) {
    if (t.defined() && t.dtype() != DType::f32)
      throw ContractError(
          concat("[", op, "] dtype ", name_of(t.dtype()), " is not computed on this device"));
  };
  (check(tensors), ...);
}

}  // namespace realfake::RF_BACKEND
