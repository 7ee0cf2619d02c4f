#pragma once
// Kernels of kernels/normalization.h. Moments are taken in two passes within a chunk (mean, then
// centred squares) and chunks are put together by Chan's rule in a fixed order, so nothing cancels.
#include "kernels/cuda/columns.cuh"

namespace realfake::RF_BACKEND {

RF_DEVICE float sigmoid_of(float v) {
  return 1.0f / (1.0f + expf(-v));
}

// ---- group norm: x (N*P, C), statistics over P positions and C/G channels ----

struct GroupShape {
  int64_t samples, positions;
  int channels, groups, width;  // width = C/G
};

// partial (N*G, chunks, 2) = mean and centred square sum of `chunks.rows` positions of one group;
// one block each.
template <class T>
RF_KERNEL void group_moments_partial(float* partial, Rows<T> x, GroupShape s, Chunks chunks) {
  RF_SHARED(float, scratch, kWarp);
  for (int64_t item = blockIdx.x; item < s.samples * s.groups * chunks.count; item += gridDim.x) {
    const int64_t k = item % chunks.count, n = item / chunks.count / s.groups;
    const int64_t first = item / chunks.count % s.groups * s.width;
    const int64_t begin = k * chunks.rows;
    const int64_t rows = s.positions - begin < chunks.rows ? s.positions - begin : chunks.rows;
    const T* data = x.data + (n * s.positions + begin) * x.stride + first;
    const int count = static_cast<int>(rows) * s.width;
    float sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x)
      sum += static_cast<float>(data[i / s.width * x.stride + i % s.width]);
    const float mean = block_sum(sum, scratch) / static_cast<float>(count);
    float squares = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      const float d = static_cast<float>(data[i / s.width * x.stride + i % s.width]) - mean;
      squares += d * d;
    }
    squares = block_sum(squares, scratch);
    if (threadIdx.x == 0) {
      partial[item * 2] = mean;
      partial[item * 2 + 1] = squares;
    }
  }
}

// mean, rstd (N*G) from the chunks; one block each.
RF_DEVICE float chunk_count(int64_t k, int64_t positions, Chunks chunks, int width) {
  const int64_t left = positions - k * chunks.rows;
  return static_cast<float>((left < chunks.rows ? left : chunks.rows) * width);
}
template <class S>
RF_KERNEL void group_moments_finish(S* mean, S* rstd, const float* partial, GroupShape s,
                                    Chunks chunks, float eps) {
  RF_SHARED(float, scratch, kWarp);
  const float total = static_cast<float>(s.positions * s.width);
  for (int64_t item = blockIdx.x; item < s.samples * s.groups; item += gridDim.x) {
    const float* mine = partial + item * chunks.count * 2;
    float sum = 0;
    for (int64_t k = threadIdx.x; k < chunks.count; k += blockDim.x)
      sum += chunk_count(k, s.positions, chunks, s.width) * (mine[k * 2] - mine[0]);
    const float m = mine[0] + block_sum(sum, scratch) / total;
    float squares = 0;
    for (int64_t k = threadIdx.x; k < chunks.count; k += blockDim.x) {
      const float d = mine[k * 2] - m;
      squares += mine[k * 2 + 1] + chunk_count(k, s.positions, chunks, s.width) * d * d;
    }
    squares = block_sum(squares, scratch);
    if (threadIdx.x == 0) {
      mean[item] = m;
      rstd[item] = 1.0f / sqrtf(squares / total + eps);
    }
  }
}

template <class T>
RF_KERNEL void group_norm_apply(Rows<T> y, Rows<T> x, const float* mean, const float* rstd,
                                const T* gamma, const T* beta, GroupShape s, bool silu,
                                int threads) {
  const RowWalk w = walk_rows(threads);
  for (int64_t row = w.row; row < x.rows; row += w.row_step) {
    const int64_t group0 = row / s.positions * s.groups;
    for (int c = w.column; c < s.channels; c += w.column_step) {
      const int64_t g = group0 + c / s.width;
      const float u = (load_at(x, row, c) - mean[g]) * rstd[g] * static_cast<float>(gamma[c]) +
                      static_cast<float>(beta[c]);
      y.data[row * y.stride + c] = static_cast<T>(silu ? u * sigmoid_of(u) : u);
    }
  }
}

// The gradient behind the activation, du, and the normalised x of one element.
struct GroupTerms {
  float du, xhat;
};
template <class T>
RF_DEVICE GroupTerms group_terms(const Rows<T>& dy, const Rows<T>& x, float mean, float rstd,
                                 float gamma, float beta, int64_t row, int64_t c, bool silu) {
  GroupTerms r;
  r.xhat = (load_at(x, row, c) - mean) * rstd;
  r.du = load_at(dy, row, c);
  if (silu) {
    const float u = r.xhat * gamma + beta, s = sigmoid_of(u);
    r.du *= s * (1.0f + u * (1.0f - s));
  }
  return r;
}

// partial (N*chunks, 2, C) = sums over a chunk of positions of du xhat and du.
template <class T>
RF_KERNEL void group_norm_backward_partial(float* partial, Rows<T> dy, Rows<T> x, const float* mean,
                                           const float* rstd, const T* gamma, const T* beta,
                                           GroupShape s, Chunks chunks, bool silu) {
  RF_SHARED(float, scratch, kBlock);
  const int64_t tiles = (s.channels + kTileColumns - 1) / kTileColumns;
  for (int64_t i = blockIdx.x; i < s.samples * chunks.count * tiles; i += gridDim.x) {
    const ColumnItem at = column_item(i, s.positions, chunks, tiles);
    const int64_t c = at.column;
    const bool active = c < s.channels;
    const int64_t g = at.segment * s.groups + (active ? c / s.width : 0);
    const float m = mean[g], r = rstd[g];
    const float ga = active ? static_cast<float>(gamma[c]) : 0.0f;
    const float be = active ? static_cast<float>(beta[c]) : 0.0f;
    float total[2];
    column_tile_sum(total, at.begin, at.end, active, scratch, [&](int64_t row, float(&sums)[2]) {
      const GroupTerms t = group_terms(dy, x, m, r, ga, be, row, c, silu);
      sums[0] += t.du * t.xhat;
      sums[1] += t.du;
    });
    if (active && threadIdx.x < kTileColumns)
      for (int k = 0; k < 2; ++k) partial[(at.partial * 2 + k) * s.channels + c] = total[k];
  }
}

// sums (N*G, 2) = means over the group of gamma du xhat and gamma du; one block each.
template <class T>
RF_KERNEL void group_norm_backward_groups(float* sums, const float* partial, const T* gamma,
                                          GroupShape s, int64_t chunks) {
  RF_SHARED(float, scratch, kWarp);
  const float count = static_cast<float>(s.positions * s.width);
  for (int64_t item = blockIdx.x; item < s.samples * s.groups; item += gridDim.x) {
    const int64_t n = item / s.groups, first = item % s.groups * s.width;
    float a = 0, b = 0;
    for (int64_t i = threadIdx.x; i < chunks * s.width; i += blockDim.x) {
      const int64_t c = first + i % s.width, k = n * chunks + i / s.width;
      const float ga = static_cast<float>(gamma[c]);
      a += ga * partial[k * 2 * s.channels + c];
      b += ga * partial[(k * 2 + 1) * s.channels + c];
    }
    a = block_sum(a, scratch);
    b = block_sum(b, scratch);
    if (threadIdx.x == 0) {
      sums[item * 2] = a / count;
      sums[item * 2 + 1] = b / count;
    }
  }
}

template <class T>
RF_KERNEL void group_norm_backward_apply(Rows<T> dx, bool accumulate, Rows<T> dy, Rows<T> x,
                                         const float* mean, const float* rstd, const T* gamma,
                                         const T* beta, const float* sums, GroupShape s, bool silu,
                                         int threads) {
  const RowWalk w = walk_rows(threads);
  for (int64_t row = w.row; row < x.rows; row += w.row_step) {
    const int64_t group0 = row / s.positions * s.groups;
    for (int c = w.column; c < s.channels; c += w.column_step) {
      const int64_t g = group0 + c / s.width;
      const float ga = static_cast<float>(gamma[c]);
      const GroupTerms t =
          group_terms(dy, x, mean[g], rstd[g], ga, static_cast<float>(beta[c]), row, c, silu);
      store_gradient(dx.data[row * dx.stride + c],
                     rstd[g] * (ga * t.du - sums[g * 2 + 1] - t.xhat * sums[g * 2]), accumulate);
    }
  }
}

// ---- layer norm: one block a row ----

template <class T>
RF_KERNEL void layer_norm_forward_kernel(Rows<T> y, float* mean, float* rstd, Rows<T> x,
                                         const T* gamma, const T* beta, float eps) {
  RF_SHARED(float, scratch, kWarp);
  const float count = static_cast<float>(x.columns);
  for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
    float sum = 0;
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x) sum += load_at(x, row, c);
    const float m = block_sum(sum, scratch) / count;
    float squares = 0;
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x) {
      const float d = load_at(x, row, c) - m;
      squares += d * d;
    }
    const float r = 1.0f / sqrtf(block_sum(squares, scratch) / count + eps);
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x)
      y.data[row * y.stride + c] =
          static_cast<T>((load_at(x, row, c) - m) * r * static_cast<float>(gamma[c]) +
                         static_cast<float>(beta[c]));
    if (threadIdx.x == 0) {
      mean[row] = m;
      rstd[row] = r;
    }
  }
}

template <class T>
RF_KERNEL void layer_norm_backward_kernel(Rows<T> dx, bool accumulate, Rows<T> dy, Rows<T> x,
                                          const float* mean, const float* rstd, const T* gamma) {
  RF_SHARED(float, scratch, kWarp);
  const float count = static_cast<float>(x.columns);
  for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
    const float m = mean[row], r = rstd[row];
    float a = 0, b = 0;
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x) {
      const float g = load_at(dy, row, c) * static_cast<float>(gamma[c]);
      a += g * (load_at(x, row, c) - m) * r;
      b += g;
    }
    a = block_sum(a, scratch) / count;
    b = block_sum(b, scratch) / count;
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x) {
      const float g = load_at(dy, row, c) * static_cast<float>(gamma[c]);
      const float xhat = (load_at(x, row, c) - m) * r;
      store_gradient(dx.data[row * dx.stride + c], r * (g - b - xhat * a), accumulate);
    }
  }
}

// partial (chunks, 2, D) = sums over a chunk of rows of dy xhat and dy.
template <class T>
RF_KERNEL void layer_norm_backward_partial(float* partial, Rows<T> dy, Rows<T> x, const float* mean,
                                           const float* rstd, Chunks chunks) {
  RF_SHARED(float, scratch, kBlock);
  const int64_t tiles = (x.columns + kTileColumns - 1) / kTileColumns;
  for (int64_t i = blockIdx.x; i < chunks.count * tiles; i += gridDim.x) {
    const ColumnItem at = column_item(i, x.rows, chunks, tiles);
    const bool active = at.column < x.columns;
    float total[2];
    column_tile_sum(total, at.begin, at.end, active, scratch, [&](int64_t row, float(&sums)[2]) {
      const float g = load_at(dy, row, at.column);
      sums[0] += g * (load_at(x, row, at.column) - mean[row]) * rstd[row];
      sums[1] += g;
    });
    if (active && threadIdx.x < kTileColumns)
      for (int k = 0; k < 2; ++k) partial[(at.partial * 2 + k) * x.columns + at.column] = total[k];
  }
}

// ---- batch norm: statistics of each column over all rows ----

// partial (chunks, 2, C) = mean and centred square sum of a chunk of rows.
template <class T>
RF_KERNEL void batch_moments_partial(float* partial, Rows<T> x, Chunks chunks) {
  RF_SHARED(float, scratch, kBlock);
  const int64_t tiles = (x.columns + kTileColumns - 1) / kTileColumns;
  for (int64_t i = blockIdx.x; i < chunks.count * tiles; i += gridDim.x) {
    const ColumnItem at = column_item(i, x.rows, chunks, tiles);
    const bool active = at.column < x.columns;
    float mean[1], squares[1];
    column_tile_sum(mean, at.begin, at.end, active, scratch,
                    [&](int64_t row, float(&sums)[1]) { sums[0] += load_at(x, row, at.column); });
    mean[0] /= static_cast<float>(at.end - at.begin);
    column_tile_sum(squares, at.begin, at.end, active, scratch, [&](int64_t row, float(&sums)[1]) {
      const float d = load_at(x, row, at.column) - mean[0];
      sums[0] += d * d;
    });
    if (active && threadIdx.x < kTileColumns) {
      partial[at.partial * 2 * x.columns + at.column] = mean[0];
      partial[(at.partial * 2 + 1) * x.columns + at.column] = squares[0];
    }
  }
}

template <class S>
RF_KERNEL void batch_moments_finish(S* mean, S* rstd, S* running_mean, S* running_var,
                                    const float* partial, int64_t rows, int64_t columns,
                                    Chunks chunks, float eps, float momentum) {
  const float total = static_cast<float>(rows);
  for (int64_t c = grid_first(); c < columns; c += grid_step()) {
    const float first = partial[c];
    float sum = 0;
    for (int64_t k = 0; k < chunks.count; ++k)
      sum += chunk_count(k, rows, chunks, 1) * (partial[k * 2 * columns + c] - first);
    const float m = first + sum / total;
    float squares = 0;
    for (int64_t k = 0; k < chunks.count; ++k) {
      const float d = partial[k * 2 * columns + c] - m;
      squares += partial[(k * 2 + 1) * columns + c] + chunk_count(k, rows, chunks, 1) * d * d;
    }
    mean[c] = m;
    rstd[c] = 1.0f / sqrtf(squares / total + eps);
    const float unbiased = squares / (total > 1 ? total - 1 : 1.0f);
    running_mean[c] = (1 - momentum) * running_mean[c] + momentum * m;
    running_var[c] = (1 - momentum) * running_var[c] + momentum * unbiased;
  }
}

// `spread` is rstd, or the variance when `variance` (evaluation).
template <class T>
RF_KERNEL void batch_norm_apply(Rows<T> y, const float* mean, const float* spread, bool variance,
                                float eps, Rows<T> x, const T* gamma, const T* beta,
                                Rows<T> residual, bool relu, int threads) {
  const RowWalk w = walk_rows(threads);
  const int columns = static_cast<int>(x.columns);
  for (int c = w.column; c < columns; c += w.column_step) {
    const float r = variance ? 1.0f / sqrtf(spread[c] + eps) : spread[c];
    const float m = mean[c], ga = static_cast<float>(gamma[c]), be = static_cast<float>(beta[c]);
    for (int64_t row = w.row; row < x.rows; row += w.row_step) {
      float v = (load_at(x, row, c) - m) * r * ga + be;
      if (residual.data != nullptr) v += load_at(residual, row, c);
      if (relu && v < 0) v = 0;  // a NaN stays
      y.data[row * y.stride + c] = static_cast<T>(v);
    }
  }
}

// partial (chunks, 2, C) = sums over a chunk of rows of g xhat and g, g = dy behind the ReLU.
template <class T>
RF_KERNEL void batch_norm_backward_partial(float* partial, Rows<T> dy, Rows<T> x, Rows<T> y,
                                           const float* mean, const float* rstd, Chunks chunks) {
  RF_SHARED(float, scratch, kBlock);
  const int64_t tiles = (x.columns + kTileColumns - 1) / kTileColumns;
  for (int64_t i = blockIdx.x; i < chunks.count * tiles; i += gridDim.x) {
    const ColumnItem at = column_item(i, x.rows, chunks, tiles);
    const int64_t c = at.column;
    const bool active = c < x.columns;
    const float m = active ? mean[c] : 0.0f, r = active ? rstd[c] : 0.0f;
    float total[2];
    column_tile_sum(total, at.begin, at.end, active, scratch, [&](int64_t row, float(&sums)[2]) {
      const bool open = y.data == nullptr || load_at(y, row, c) > 0;
      const float g = open ? load_at(dy, row, c) : 0.0f;
      sums[0] += g * (load_at(x, row, c) - m) * r;
      sums[1] += g;
    });
    if (active && threadIdx.x < kTileColumns)
      for (int k = 0; k < 2; ++k) partial[(at.partial * 2 + k) * x.columns + c] = total[k];
  }
}

// y has data only when there was a ReLU; sums (2, C) of the stage before.
template <class T>
RF_KERNEL void batch_norm_backward_apply(Rows<T> dx, bool dx_accumulate, Rows<T> dresidual,
                                         bool dresidual_accumulate, Rows<T> dy, Rows<T> x,
                                         Rows<T> y, const float* mean, const float* rstd,
                                         const T* gamma, const float* sums, int threads) {
  const RowWalk w = walk_rows(threads);
  const int columns = static_cast<int>(x.columns);
  const float count = static_cast<float>(x.rows);
  for (int c = w.column; c < columns; c += w.column_step) {
    const float m = mean[c], r = rstd[c], factor = static_cast<float>(gamma[c]) * r;
    const float a = dx.data != nullptr ? sums[c] / count : 0.0f;
    const float b = dx.data != nullptr ? sums[columns + c] / count : 0.0f;
    for (int64_t row = w.row; row < x.rows; row += w.row_step) {
      const bool open = y.data == nullptr || load_at(y, row, c) > 0;
      const float g = open ? load_at(dy, row, c) : 0.0f;
      if (dresidual.data != nullptr)
        store_gradient(dresidual.data[row * dresidual.stride + c], g, dresidual_accumulate);
      if (dx.data != nullptr)
        store_gradient(dx.data[row * dx.stride + c],
                       factor * (g - b - (load_at(x, row, c) - m) * r * a), dx_accumulate);
    }
  }
}

// ---- l2 normalisation: one block a row ----

constexpr float kTinyNorm = 1e-12f;

template <class T>
RF_KERNEL void l2_normalize_forward_kernel(Rows<T> y, float* norm, Rows<T> x) {
  RF_SHARED(float, scratch, kWarp);
  for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
    float sum = 0;
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x) {
      const float v = load_at(x, row, c);
      sum += v * v;
    }
    const float n = sqrtf(block_sum(sum, scratch));
    const float divisor = n < kTinyNorm ? kTinyNorm : n;
    for (int64_t c = threadIdx.x; c < x.columns; c += blockDim.x)
      y.data[row * y.stride + c] = static_cast<T>(load_at(x, row, c) / divisor);
    if (threadIdx.x == 0) norm[row] = n;
  }
}

// Below the tiny norm y is x times a constant.
template <class T>
RF_KERNEL void l2_normalize_backward_kernel(Rows<T> dx, bool accumulate, Rows<T> dy, Rows<T> y,
                                            const float* norm) {
  RF_SHARED(float, scratch, kWarp);
  for (int64_t row = blockIdx.x; row < y.rows; row += gridDim.x) {
    float dot = 0;
    for (int64_t c = threadIdx.x; c < y.columns; c += blockDim.x)
      dot += load_at(dy, row, c) * load_at(y, row, c);
    dot = block_sum(dot, scratch);
    const float n = norm[row];
    const bool tiny = n < kTinyNorm;
    for (int64_t c = threadIdx.x; c < y.columns; c += blockDim.x) {
      const float g = load_at(dy, row, c);
      store_gradient(dx.data[row * dx.stride + c],
                     tiny ? g / kTinyNorm : (g - load_at(y, row, c) * dot) / n, accumulate);
    }
  }
}

}  // namespace realfake::RF_BACKEND
