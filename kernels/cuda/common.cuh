#pragma once
// What the heavier kernels share on top of access.cuh: gradients that may not be wanted, grids,
// walks over rows.
#include "kernels/cuda/access.cuh"

namespace realfake::RF_BACKEND {

// ---- host side ----

// A gradient that is not wanted has no data.
template <class T>
Rows<T> grad_rows(const GradOut& g) {
  return g.wanted() ? rows_of<T>(g.tensor) : Rows<T>{nullptr, 0, 0, 0};
}
template <class T>
T* grad_data(const GradOut& g) {
  return g.wanted() ? g.tensor.template data<T>() : nullptr;
}

// Threads of a block that reduces one row: a whole number of warps.
inline int reduce_threads(int64_t columns) {
  int threads = kWarp;
  while (threads < kBlock && threads < columns) threads *= 2;
  return threads;
}
// One block an item, for kernels that loop over items by gridDim.x.
inline dim3 grid_of_items(int64_t items) {
  return dim3(static_cast<unsigned>(items < 1 ? 1 : items > 1048576 ? 1048576 : items));
}

// A block walks over a matrix by groups of `threads` (a power of two up to kBlock) neighbours along
// a row, so that wide and narrow rows are both read in one piece and no element needs a division.
struct RowWalk {
  int64_t row, row_step;
  int column, column_step;
};
inline int walk_threads(int64_t columns) {
  int threads = 1;
  while (threads < kBlock && threads < columns) threads *= 2;
  return threads;
}
inline dim3 walk_grid(int64_t rows, int threads) {
  const int64_t per_block = kBlock / threads;
  return grid_of_items((rows + per_block - 1) / per_block);
}

// ---- device side ----

RF_DEVICE RowWalk walk_rows(int threads) {
  const int rows = static_cast<int>(blockDim.x) / threads, t = static_cast<int>(threadIdx.x);
  return {static_cast<int64_t>(blockIdx.x) * rows + t / threads,
          static_cast<int64_t>(gridDim.x) * rows, t % threads, threads};
}
template <class T>
RF_DEVICE float load_at(const Rows<T>& m, int64_t i) {
  return static_cast<float>(element(m, i));
}
template <class T>
RF_DEVICE float load_at(const Rows<T>& m, int64_t row, int64_t column) {
  return static_cast<float>(m.data[row * m.stride + column]);
}

}  // namespace realfake::RF_BACKEND
