#pragma once
// Kernels of kernels/reduce.h. Whole-tensor reductions: a fixed number of blocks (by size alone)
// leave one partial each, one block puts them together, so the order never depends on the machine.
#include "kernels/cuda/columns.cuh"

namespace realfake::RF_BACKEND {

constexpr int64_t kNoIndex = INT64_MAX;  // larger than any

enum class Fold { sum, squares, max_abs };

// partial (blocks)
template <class T, Fold F>
RF_KERNEL void fold_partial(double* partial, Rows<T> x, int64_t count) {
  RF_SHARED(float, scratch, kWarp);
  float v = 0;
  for (int64_t i = grid_first(); i < count; i += grid_step()) {
    const float e = load_at(x, i);
    if constexpr (F == Fold::sum) v += e;
    if constexpr (F == Fold::squares) v += e * e;
    if constexpr (F == Fold::max_abs) v = v < fabsf(e) ? fabsf(e) : v;
  }
  if constexpr (F == Fold::max_abs)
    v = block_max(v, scratch);
  else
    v = block_sum(v, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = v;
}
template <class T>
RF_KERNEL void max_partials_kernel(T* out, const double* partial, int64_t count) {
  RF_SHARED(double, scratch, kWarp);
  double best = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x)
    best = best < partial[i] ? partial[i] : best;
  best = block_max(best, scratch);
  if (threadIdx.x == 0) out[0] = static_cast<T>(best);
}

// partial (blocks, 2) = how many are not finite, and the first index (kNoIndex when none).
template <class T>
RF_KERNEL void nonfinite_partial(int64_t* partial, Rows<T> x, int64_t count) {
  RF_SHARED(int64_t, scratch, kWarp);
  int64_t found = 0, first = kNoIndex;
  for (int64_t i = grid_first(); i < count; i += grid_step()) {
    if (fabsf(load_at(x, i)) <= 3.402823466e38f) continue;  // false for NaN
    if (found == 0) first = i;
    ++found;
  }
  found = block_sum(found, scratch);
  first = -block_max(-first, scratch);
  if (threadIdx.x == 0) {
    partial[blockIdx.x * 2] = found;
    partial[blockIdx.x * 2 + 1] = first;
  }
}
RF_KERNEL void nonfinite_finish(int64_t* out, const int64_t* partial, int64_t count) {
  RF_SHARED(int64_t, scratch, kWarp);
  int64_t found = 0, first = kNoIndex;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    found += partial[i * 2];
    if (partial[i * 2 + 1] < first) first = partial[i * 2 + 1];
  }
  found = block_sum(found, scratch);
  first = -block_max(-first, scratch);
  if (threadIdx.x == 0) {
    out[0] = found;
    out[1] = found ? first : -1;
  }
}

// One block a row: the largest value, then the lowest index that has it.
template <class T>
RF_KERNEL void argmax_rows_kernel(int64_t* out, Rows<T> x) {
  RF_SHARED(float, values, kWarp);
  RF_SHARED(int64_t, indices, kWarp);
  for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
    float best = -INFINITY;
    int64_t index = kNoIndex;
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x) {
      const float v = load_at(x, row, c);
      if (index == kNoIndex || v > best) {
        best = v;
        index = c;
      }
    }
    const float top = block_max(best, values);
    index = -block_max(best == top ? -index : -kNoIndex, indices);
    if (threadIdx.x == 0) out[row] = index == kNoIndex ? 0 : index;
  }
}

}  // namespace realfake::RF_BACKEND
