#pragma once
// Kernels of kernels/embedding.h.
#include "kernels/cuda/access.cuh"

namespace realfake::RF_BACKEND {

// An id outside the table gives zeros: a device cannot throw.
template <class T>
RF_KERNEL void embedding_forward_kernel(Rows<T> y, Rows<T> table, Rows<int64_t> ids) {
  for (int64_t i = grid_first(); i < y.rows * y.columns; i += grid_step()) {
    const int64_t row = i / y.columns, d = i - row * y.columns;
    const int64_t id = element(ids, row);
    y.data[row * y.stride + d] =
        id >= 0 && id < table.rows ? table.data[id * table.stride + d] : static_cast<T>(0);
  }
}

// Block (row of the table, tile of columns) scans all ids in order, a chunk at a time; a thread
// owns one column. The chunks that do not hold the row, which is nearly all of them, cost one load
// and one reduction.
template <class T>
RF_KERNEL void embedding_backward_kernel(Rows<T> dtable, Rows<T> dy, Rows<int64_t> ids,
                                         bool accumulate) {
  RF_SHARED(int, scratch, kWarp);
  RF_SHARED(int64_t, chunk, kBlock);
  const int64_t d = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
  for (int64_t row = blockIdx.x; row < dtable.rows; row += gridDim.x) {
    float sum = 0;
    for (int64_t begin = 0; begin < dy.rows; begin += blockDim.x) {
      const int64_t i = begin + threadIdx.x;
      const int64_t id = i < dy.rows ? element(ids, i) : -1;
      chunk[threadIdx.x] = id;
      const int hits = block_sum(id == row ? 1 : 0, scratch);  // its barriers publish `chunk`
      if (hits != 0 && d < dtable.columns)
        for (int k = 0; k < static_cast<int>(blockDim.x); ++k)
          if (chunk[k] == row) sum += static_cast<float>(dy.data[(begin + k) * dy.stride + d]);
      __syncthreads();
    }
    if (d < dtable.columns) store_gradient(dtable.data[row * dtable.stride + d], sum, accumulate);
  }
}

// The angle is rounded to float at each step, as the networks were trained and as the cpu does;
// exp, sin and cos of it are taken in double.
template <class T>
RF_KERNEL void timestep_embedding_kernel(Rows<T> y, const int64_t* t, bool cos_first,
                                         double shift) {
  const int64_t half = y.columns / 2;
  for (int64_t i = grid_first(); i < y.rows * half; i += grid_step()) {
    const int64_t n = i / half, k = i - n * half;
    const float exponent = -9.21034037197618f * static_cast<float>(k) /
                           static_cast<float>(static_cast<double>(half) - shift);
    const float frequency = static_cast<float>(exp(static_cast<double>(exponent)));
    const double angle = static_cast<double>(static_cast<float>(t[n]) * frequency);
    T* row = y.data + n * y.stride;
    row[cos_first ? k : half + k] = static_cast<T>(cos(angle));
    row[cos_first ? half + k : k] = static_cast<T>(sin(angle));
  }
}

// `period` = T*D elements of pos repeat over the batch.
template <class T>
RF_KERNEL void add_positions_kernel(Rows<T> y, Rows<T> x, Rows<T> pos, int64_t period) {
  for (int64_t i = grid_first(); i < y.rows * y.columns; i += grid_step())
    element(y, i) = static_cast<T>(static_cast<float>(element(x, i)) +
                                   static_cast<float>(element(pos, i % period)));
}

template <class T>
RF_KERNEL void sum_leading_kernel(Rows<T> out, Rows<T> x, int64_t batch, bool accumulate) {
  const int64_t count = out.rows * out.columns;
  for (int64_t i = grid_first(); i < count; i += grid_step()) {
    float sum = 0;
    for (int64_t b = 0; b < batch; ++b) sum += static_cast<float>(element(x, b * count + i));
    store_gradient(element(out, i), sum, accumulate);
  }
}

// y (N,D), x (N*T,D).
template <class T>
RF_KERNEL void gather_tokens_forward_kernel(Rows<T> y, Rows<T> x, const int64_t* index,
                                            int64_t tokens) {
  for (int64_t i = grid_first(); i < y.rows * y.columns; i += grid_step()) {
    const int64_t n = i / y.columns, d = i - n * y.columns, t = index[n];
    y.data[n * y.stride + d] =
        t >= 0 && t < tokens ? x.data[(n * tokens + t) * x.stride + d] : static_cast<T>(0);
  }
}

template <class T>
RF_KERNEL void gather_tokens_backward_kernel(Rows<T> dx, Rows<T> dy, const int64_t* index,
                                             int64_t tokens, bool accumulate) {
  for (int64_t i = grid_first(); i < dx.rows * dx.columns; i += grid_step()) {
    const int64_t row = i / dx.columns, d = i - row * dx.columns;
    const int64_t n = row / tokens, t = row - n * tokens;
    const float v = t == index[n] ? static_cast<float>(dy.data[n * dy.stride + d]) : 0.0f;
    store_gradient(dx.data[row * dx.stride + d], v, accumulate);
  }
}

}  // namespace realfake::RF_BACKEND
