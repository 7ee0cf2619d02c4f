#pragma once
// Kernels of kernels/elementwise.h: one thread an element, grid-stride. `i` counts the logical
// elements.
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/half_bits.cuh"

namespace realfake::RF_BACKEND {

template <class T>
RF_KERNEL void fill_kernel(Rows<T> y, T value, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) element(y, i) = value;
}

// T is an unsigned type of the element's size: bits are moved.
template <class T>
RF_KERNEL void copy_kernel(Rows<T> y, Rows<T> x, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) element(y, i) = element(x, i);
}

template <class T>
RF_KERNEL void add_kernel(Rows<T> y, Rows<T> a, Rows<T> b, float alpha, float beta, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step())
    element(y, i) = static_cast<T>(alpha * load_at(a, i) + beta * load_at(b, i));
}

template <class T>
RF_KERNEL void scale_kernel(Rows<T> y, Rows<T> x, float alpha, bool accumulate, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step())
    store_gradient(element(y, i), alpha * load_at(x, i), accumulate);
}

template <class T>
RF_KERNEL void multiply_kernel(Rows<T> y, Rows<T> a, Rows<T> b, bool accumulate, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step())
    store_gradient(element(y, i), load_at(a, i) * load_at(b, i), accumulate);
}

// x (N*P, C), v (N, C)
template <class T>
RF_KERNEL void add_broadcast_kernel(Rows<T> y, Rows<T> x, Rows<T> v, int64_t positions,
                                    int threads) {
  const RowWalk w = walk_rows(threads);
  for (int64_t row = w.row; row < x.rows; row += w.row_step) {
    const int64_t n = row / positions;
    for (int64_t c = w.column; c < x.columns; c += w.column_step)
      y.data[row * y.stride + c] = static_cast<T>(load_at(x, row, c) + load_at(v, n, c));
  }
}

template <class T>
RF_KERNEL void scale_samples_kernel(Rows<T> y, Rows<T> x, const T* s, int64_t per_sample,
                                    bool accumulate, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step())
    store_gradient(element(y, i), load_at(x, i) * static_cast<float>(s[i / per_sample]),
                   accumulate);
}

template <class To, class From>
RF_KERNEL void cast_kernel(Rows<To> y, Rows<From> x, int64_t count) {
  for (int64_t i = grid_first(); i < count; i += grid_step()) {
    float v;
    convert(v, element(x, i));
    convert(element(y, i), v);
  }
}

}  // namespace realfake::RF_BACKEND
