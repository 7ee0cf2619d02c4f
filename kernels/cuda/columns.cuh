#pragma once
// Sums over rows, column by column, in a fixed order and two stages: blocks of 32 columns x 8 row
// lanes sum a chunk of rows each and write a partial; a second kernel adds the partials of a column
// one after the other.
#include "kernels/cuda/common.cuh"

namespace realfake::RF_BACKEND {

constexpr int kTileColumns = 32;
constexpr int kTileRows = kBlock / kTileColumns;

// How `rows` rows are cut: `count` chunks of `rows` (the last may be shorter).
struct Chunks {
  int64_t count, rows;
};
inline Chunks chunks_of(int64_t rows) {
  int64_t count = (rows + 255) / 256;
  count = count < 1 ? 1 : count > 128 ? 128 : count;
  const int64_t size = rows < 1 ? 1 : (rows + count - 1) / count;
  return {rows < 1 ? 1 : (rows + size - 1) / size, size};
}
inline int64_t column_tiles(int64_t columns) {
  return (columns + kTileColumns - 1) / kTileColumns;
}

// A block's place among (segments, chunks, tiles): rows [begin, end) and one column per thread.
struct ColumnItem {
  int64_t partial;  // segment * chunks + chunk
  int64_t segment, begin, end, column;
};
RF_DEVICE ColumnItem column_item(int64_t item, int64_t segment_rows, Chunks chunks, int64_t tiles) {
  ColumnItem r;
  r.partial = item / tiles;
  r.segment = r.partial / chunks.count;
  r.begin = r.segment * segment_rows + r.partial % chunks.count * chunks.rows;
  const int64_t limit = (r.segment + 1) * segment_rows;
  r.end = r.begin + chunks.rows < limit ? r.begin + chunks.rows : limit;
  r.column = item % tiles * kTileColumns + threadIdx.x % kTileColumns;
  return r;
}

// total[k] of this thread's column, by add(row, sums) over rows [begin, end). All threads of the
// block call; all get the total.   scratch: kBlock floats.
template <int K, class F>
RF_DEVICE void column_tile_sum(float (&total)[K], int64_t begin, int64_t end, bool active,
                               float* scratch, F&& add) {
  float sums[K] = {};
  if (active)
    for (int64_t row = begin + threadIdx.x / kTileColumns; row < end; row += kTileRows)
      add(row, sums);
  for (int k = 0; k < K; ++k) {
    scratch[threadIdx.x] = sums[k];
    __syncthreads();
    total[k] = 0;
    for (int r = 0; r < kTileRows; ++r)
      total[k] += scratch[r * kTileColumns + threadIdx.x % kTileColumns];
    __syncthreads();
  }
}

// partial (segments * chunks, C) = sums of x over the rows of each chunk.
template <class T>
RF_KERNEL void column_sum_partial(float* partial, Rows<T> x, int64_t segments, int64_t segment_rows,
                                  Chunks chunks) {
  RF_SHARED(float, scratch, kBlock);
  const int64_t tiles = (x.columns + kTileColumns - 1) / kTileColumns;
  for (int64_t i = blockIdx.x; i < segments * chunks.count * tiles; i += gridDim.x) {
    const ColumnItem at = column_item(i, segment_rows, chunks, tiles);
    const bool active = at.column < x.columns;
    float total[1];
    column_tile_sum(total, at.begin, at.end, active, scratch,
                    [&](int64_t row, float(&sums)[1]) { sums[0] += load_at(x, row, at.column); });
    if (active && threadIdx.x < kTileColumns)
      partial[at.partial * x.columns + at.column] = total[0];
  }
}

// out[k] (segments, C) by mode = sum over `count` partials.   partial (segments, count, K, C)
template <class T, int K>
struct ColumnOutputs {
  T* data[K];
  int64_t stride[K];
  bool accumulate[K];
};
template <class T, int K>
RF_KERNEL void column_sum_finish(ColumnOutputs<T, K> out, const float* partial, int64_t segments,
                                 int64_t count, int64_t columns) {
  for (int64_t i = grid_first(); i < segments * columns; i += grid_step()) {
    const int64_t segment = i / columns, c = i % columns;
    for (int k = 0; k < K; ++k) {
      if (out.data[k] == nullptr) continue;
      float sum = 0;
      for (int64_t j = 0; j < count; ++j)
        sum += partial[((segment * count + j) * K + k) * columns + c];
      store_gradient(out.data[k][segment * out.stride[k] + c], sum, out.accumulate[k]);
    }
  }
}

// out (segments, C) by mode = column sums of each segment of x (segments * P, C).
template <class T>
void sum_columns(Exec& ex, Rows<T> out, bool accumulate, Rows<T> x, int64_t segments) {
  const int64_t segment_rows = segments ? x.rows / segments : 0;
  const Chunks chunks = chunks_of(segment_rows);
  const Tensor partial = ex.empty({segments * chunks.count, x.columns});
  launch(column_sum_partial<T>, grid_of_items(segments * chunks.count * column_tiles(x.columns)),
         dim3(kBlock), 0, ex, partial.data<float>(), x, segments, segment_rows, chunks);
  const ColumnOutputs<T, 1> outputs{{out.data}, {out.stride}, {accumulate}};
  launch(column_sum_finish<T, 1>, grid_for(segments * x.columns), dim3(kBlock), 0, ex, outputs,
         partial.data<float>(), segments, chunks.count, x.columns);
}

}  // namespace realfake::RF_BACKEND
