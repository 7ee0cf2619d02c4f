#pragma once
// Kernels of kernels/attention.h: tiles of queries against tiles of keys in shared memory, no score
// matrix in memory.
//
// A block has 16 x 16 threads (ty, tx). Of a tile product of 16 M rows by 16 N columns a thread
// owns M x N elements: rows ty + 16 i, columns tx + 16 j, so that a half warp shares its rows and
// reads neighbouring columns. The accumulators over the head dimension d (columns tx + 16 j, j < J,
// 16 J >= d) stay in registers. Rows of tiles in shared memory are an odd number of floats apart:
// 16 rows read at one column fall into different banks.
//
// A row of scores lives in the 16 threads of one ty, half a warp, so its maximum and sum are
// shuffles by 8, 4, 2, 1.
#include "kernels/cuda/common.cuh"

namespace realfake::RF_BACKEND {

constexpr int kSide = 16;  // threads along each side of a tile

// One head of a (B,T,h*d) tensor is `length` rows of d, `stride` apart.
struct HeadShape {
  int64_t heads, queries, keys;
  int d;
  float scale;
  bool causal;
};

RF_DEVICE float half_warp_max(float v) {
  for (int offset = kSide / 2; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, v, offset);
    v = v < other ? other : v;
  }
  return v;
}
RF_DEVICE float half_warp_sum(float v) {
  for (int offset = kSide / 2; offset > 0; offset /= 2)
    v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}

// Floats from row to row of a tile of `d` columns (kernels write d | 1).
constexpr int odd_stride(int d) {
  return d | 1;
}

// tile (rows, d) in shared memory = rows [first, first + rows) of one head; rows past `length` are
// zero.
template <class T>
RF_DEVICE void load_tile(float* tile, const Rows<T>& x, int64_t batch, int64_t head, int64_t first,
                         int64_t length, int rows, int d) {
  const int ld = d | 1;
  const T* data = x.data + batch * length * x.stride + head * d;
  for (int i = threadIdx.x; i < rows * d; i += blockDim.x) {
    const int r = i / d, c = i % d;
    tile[r * ld + c] =
        first + r < length ? static_cast<float>(data[(first + r) * x.stride + c]) : 0.0f;
  }
}

// out[i][j] = a row (ty + 16 i) . b row (tx + 16 j)
template <int M, int N>
RF_DEVICE void tile_product(float (&out)[M][N], const float* a, const float* b, int d, int ty,
                            int tx) {
  const int ld = d | 1;
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j) out[i][j] = 0;
  for (int c = 0; c < d; ++c) {
    float u[M], v[N];
    for (int i = 0; i < M; ++i) u[i] = a[(ty + kSide * i) * ld + c];
    for (int j = 0; j < N; ++j) v[j] = b[(tx + kSide * j) * ld + c];
    for (int i = 0; i < M; ++i)
      for (int j = 0; j < N; ++j) out[i][j] += u[i] * v[j];
  }
}

// acc[i][j] += sum over k of p[row ty + 16 i][k] b[k][column tx + 16 j];  p (16 M, count) with odd
// rows.
template <int M, int J>
RF_DEVICE void tile_accumulate(float (&acc)[M][J], const float* p, const float* b, int count, int d,
                               int ty, int tx) {
  const int ld = d | 1, lp = count | 1;
  for (int k = 0; k < count; ++k) {
    float u[M];
    for (int i = 0; i < M; ++i) u[i] = p[(ty + kSide * i) * lp + k];
#pragma unroll
    for (int j = 0; j < J; ++j) {
      const int c = tx + kSide * j;
      const float v = c < d ? b[k * ld + c] : 0.0f;
      for (int i = 0; i < M; ++i) acc[i][j] += u[i] * v;
    }
  }
}

template <int M, int N>
RF_DEVICE void store_tile(float* p, const float (&values)[M][N], int ty, int tx) {
  constexpr int lp = (kSide * N) | 1;
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j) p[(ty + kSide * i) * lp + tx + kSide * j] = values[i][j];
}

// Writes acc * factor[row] to rows [first, ...) of one head, by mode.
template <class T, int M, int J>
RF_DEVICE void write_head(const Rows<T>& y, bool accumulate, const float (&acc)[M][J],
                          const float (&factor)[M], int64_t batch, int64_t head, int64_t first,
                          int64_t length, int d, int ty, int tx) {
  for (int i = 0; i < M; ++i) {
    const int64_t row = first + ty + kSide * i;
    if (row >= length) continue;
    T* to = y.data + (batch * length + row) * y.stride + head * d;
#pragma unroll
    for (int j = 0; j < J; ++j) {
      const int c = tx + kSide * j;
      if (c < d) store_gradient(to[c], acc[i][j] * factor[i], accumulate);
    }
  }
}

// Key s of a causal row t is seen when s <= t.
RF_DEVICE bool seen(int64_t query, int64_t key, const HeadShape& s) {
  return key < s.keys && query < s.queries && (!s.causal || key <= query);
}

// Shared memory: q (16 M, d), k and v (16 N, d), p (16 M, 16 N).
template <int M, int N>
size_t attention_forward_shared(int d) {
  return sizeof(float) * (static_cast<size_t>(kSide * (M + 2 * N)) * odd_stride(d) +
                          static_cast<size_t>(kSide * M) * odd_stride(kSide * N));
}

// One block a tile of 16 M queries of one head.
template <class T, int M, int N, int J>
RF_KERNEL void attention_forward_kernel(Rows<T> o, float* lse, Rows<T> q, Rows<T> k, Rows<T> v,
                                        HeadShape s, int64_t items) {
  RF_DYNAMIC_SHARED(float, shared);
  const int ld = s.d | 1, ty = threadIdx.x / kSide, tx = threadIdx.x % kSide;
  float* q_tile = shared;
  float* k_tile = q_tile + kSide * M * ld;
  float* v_tile = k_tile + kSide * N * ld;
  float* p_tile = v_tile + kSide * N * ld;
  const int64_t tiles = (s.queries + kSide * M - 1) / (kSide * M);
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t first = item % tiles * kSide * M, head = item / tiles % s.heads;
    const int64_t batch = item / tiles / s.heads;
    load_tile(q_tile, q, batch, head, first, s.queries, kSide * M, s.d);
    float acc[M][J] = {};
    float best[M], sum[M];
    for (int i = 0; i < M; ++i) {
      best[i] = -INFINITY;
      sum[i] = 0;
    }
    const int64_t last = first + kSide * M < s.keys ? first + kSide * M : s.keys;
    const int64_t end = s.causal ? last : s.keys;
    for (int64_t key0 = 0; key0 < end; key0 += kSide * N) {
      __syncthreads();  // the tiles of the step before have been read
      load_tile(k_tile, k, batch, head, key0, s.keys, kSide * N, s.d);
      load_tile(v_tile, v, batch, head, key0, s.keys, kSide * N, s.d);
      __syncthreads();
      float p[M][N];
      tile_product(p, q_tile, k_tile, s.d, ty, tx);
      for (int i = 0; i < M; ++i) {
        const int64_t row = first + ty + kSide * i;
        float top = best[i];
        for (int j = 0; j < N; ++j) {
          const bool open = seen(row, key0 + tx + kSide * j, s);
          p[i][j] = open ? p[i][j] * s.scale : -INFINITY;
          top = top < p[i][j] ? p[i][j] : top;
        }
        top = half_warp_max(top);
        // Rows past the end, or with no finite score yet, have seen nothing: keep exp(-inf - -inf)
        // out.
        const float base = top == -INFINITY ? 0.0f : top;
        const float keep = expf(best[i] - base);
        float part = 0;
        for (int j = 0; j < N; ++j) {
          p[i][j] = expf(p[i][j] - base);
          part += p[i][j];
        }
        sum[i] = sum[i] * keep + half_warp_sum(part);
        best[i] = top;
        for (int j = 0; j < J; ++j) acc[i][j] *= keep;
      }
      store_tile(p_tile, p, ty, tx);
      __syncthreads();
      tile_accumulate(acc, p_tile, v_tile, kSide * N, s.d, ty, tx);
    }
    float factor[M];
    for (int i = 0; i < M; ++i) {
      factor[i] = 1.0f / sum[i];
      const int64_t row = first + ty + kSide * i;
      if (tx == 0 && row < s.queries)
        lse[(batch * s.heads + head) * s.queries + row] = best[i] + logf(sum[i]);
    }
    write_head(o, false, acc, factor, batch, head, first, s.queries, s.d, ty, tx);
    __syncthreads();  // before q_tile is filled for the next item
  }
}

// delta (B,h,T) = sum over d of do * o. One thread each, in the order of tile_product: where a
// query sees one key, do . v and delta are then the same number and the gradient of its score is
// exactly 0.
template <class T>
RF_KERNEL void attention_delta_kernel(float* delta, Rows<T> grad_o, Rows<T> o, HeadShape s,
                                      int64_t items) {
  for (int64_t i = grid_first(); i < items; i += grid_step()) {
    const int64_t row = i / s.heads, head = i % s.heads;  // row of (B*T)
    float dot = 0;
    for (int c = 0; c < s.d; ++c)
      dot += load_at(grad_o, row, head * s.d + c) * load_at(o, row, head * s.d + c);
    delta[(row / s.queries * s.heads + head) * s.queries + row % s.queries] = dot;
  }
}

// Shared memory: own a and b (16 M, d), other a and b (16 N, d), `tiles` of (16 M, 16 N), lse and
// delta of N.
template <int M, int N>
size_t attention_backward_shared(int d, int tiles) {
  return sizeof(float) * (static_cast<size_t>(2 * kSide * (M + N)) * odd_stride(d) +
                          static_cast<size_t>(tiles * kSide * M) * odd_stride(kSide * N) +
                          static_cast<size_t>(2 * kSide * N));
}

// One block a tile of 16 M queries: dq = scale * sum over keys of ds k, ds = p (do . v - delta).
template <class T, int M, int N, int J>
RF_KERNEL void attention_backward_q_kernel(Rows<T> dq, bool accumulate, Rows<T> grad_o, Rows<T> q,
                                           Rows<T> k, Rows<T> v, const float* lse,
                                           const float* delta, HeadShape s, int64_t items) {
  RF_DYNAMIC_SHARED(float, shared);
  const int ld = s.d | 1, ty = threadIdx.x / kSide, tx = threadIdx.x % kSide;
  float* q_tile = shared;
  float* g_tile = q_tile + kSide * M * ld;
  float* k_tile = g_tile + kSide * M * ld;
  float* v_tile = k_tile + kSide * N * ld;
  float* ds_tile = v_tile + kSide * N * ld;
  const int64_t tiles = (s.queries + kSide * M - 1) / (kSide * M);
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t first = item % tiles * kSide * M, head = item / tiles % s.heads;
    const int64_t batch = item / tiles / s.heads;
    const int64_t line = (batch * s.heads + head) * s.queries;
    load_tile(q_tile, q, batch, head, first, s.queries, kSide * M, s.d);
    load_tile(g_tile, grad_o, batch, head, first, s.queries, kSide * M, s.d);
    float acc[M][J] = {};
    float row_lse[M], row_delta[M], factor[M];
    for (int i = 0; i < M; ++i) {
      const int64_t row = first + ty + kSide * i;
      row_lse[i] = row < s.queries ? lse[line + row] : 0.0f;
      row_delta[i] = row < s.queries ? delta[line + row] : 0.0f;
      factor[i] = s.scale;
    }
    const int64_t last = first + kSide * M < s.keys ? first + kSide * M : s.keys;
    const int64_t end = s.causal ? last : s.keys;
    for (int64_t key0 = 0; key0 < end; key0 += kSide * N) {
      __syncthreads();
      load_tile(k_tile, k, batch, head, key0, s.keys, kSide * N, s.d);
      load_tile(v_tile, v, batch, head, key0, s.keys, kSide * N, s.d);
      __syncthreads();
      float p[M][N], dp[M][N];
      tile_product(p, q_tile, k_tile, s.d, ty, tx);
      tile_product(dp, g_tile, v_tile, s.d, ty, tx);
      for (int i = 0; i < M; ++i)
        for (int j = 0; j < N; ++j) {
          const bool open = seen(first + ty + kSide * i, key0 + tx + kSide * j, s);
          const float weight = open ? expf(p[i][j] * s.scale - row_lse[i]) : 0.0f;
          p[i][j] = weight * (dp[i][j] - row_delta[i]);
        }
      store_tile(ds_tile, p, ty, tx);
      __syncthreads();
      tile_accumulate(acc, ds_tile, k_tile, kSide * N, s.d, ty, tx);
    }
    write_head(dq, accumulate, acc, factor, batch, head, first, s.queries, s.d, ty, tx);
    __syncthreads();
  }
}

// One block a tile of 16 M keys: dv = sum over queries of p do, dk = scale * sum over queries of ds
// q. A gradient without data is not wanted.
template <class T, int M, int N, int J>
RF_KERNEL void attention_backward_kv_kernel(Rows<T> dk, bool dk_accumulate, Rows<T> dv,
                                            bool dv_accumulate, Rows<T> grad_o, Rows<T> q,
                                            Rows<T> k, Rows<T> v, const float* lse,
                                            const float* delta, HeadShape s, int64_t items) {
  RF_DYNAMIC_SHARED(float, shared);
  const int ld = s.d | 1, ty = threadIdx.x / kSide, tx = threadIdx.x % kSide;
  constexpr int lp = (kSide * N) | 1;
  float* k_tile = shared;
  float* v_tile = k_tile + kSide * M * ld;
  float* q_tile = v_tile + kSide * M * ld;
  float* g_tile = q_tile + kSide * N * ld;
  float* p_tile = g_tile + kSide * N * ld;
  float* ds_tile = p_tile + kSide * M * lp;
  float* lse_tile = ds_tile + kSide * M * lp;
  float* delta_tile = lse_tile + kSide * N;
  const int64_t tiles = (s.keys + kSide * M - 1) / (kSide * M);
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t first = item % tiles * kSide * M, head = item / tiles % s.heads;
    const int64_t batch = item / tiles / s.heads;
    const int64_t line = (batch * s.heads + head) * s.queries;
    load_tile(k_tile, k, batch, head, first, s.keys, kSide * M, s.d);
    load_tile(v_tile, v, batch, head, first, s.keys, kSide * M, s.d);
    float acc_k[M][J] = {}, acc_v[M][J] = {};
    // Causal: queries before the first key of the tile see none of it.
    const int64_t begin = s.causal ? first / (kSide * N) * (kSide * N) : 0;
    for (int64_t query0 = begin; query0 < s.queries; query0 += kSide * N) {
      __syncthreads();
      load_tile(q_tile, q, batch, head, query0, s.queries, kSide * N, s.d);
      load_tile(g_tile, grad_o, batch, head, query0, s.queries, kSide * N, s.d);
      for (int i = threadIdx.x; i < kSide * N; i += blockDim.x) {
        const bool inside = query0 + i < s.queries;
        lse_tile[i] = inside ? lse[line + query0 + i] : 0.0f;
        delta_tile[i] = inside ? delta[line + query0 + i] : 0.0f;
      }
      __syncthreads();
      float p[M][N], ds[M][N];
      tile_product(p, k_tile, q_tile, s.d, ty, tx);
      tile_product(ds, v_tile, g_tile, s.d, ty, tx);
      for (int i = 0; i < M; ++i)
        for (int j = 0; j < N; ++j) {
          const int r = tx + kSide * j;
          const bool open = seen(query0 + r, first + ty + kSide * i, s);
          p[i][j] = open ? expf(p[i][j] * s.scale - lse_tile[r]) : 0.0f;
          ds[i][j] = p[i][j] * (ds[i][j] - delta_tile[r]);
        }
      store_tile(p_tile, p, ty, tx);
      store_tile(ds_tile, ds, ty, tx);
      __syncthreads();
      if (dv.data != nullptr) tile_accumulate(acc_v, p_tile, g_tile, kSide * N, s.d, ty, tx);
      if (dk.data != nullptr) tile_accumulate(acc_k, ds_tile, q_tile, kSide * N, s.d, ty, tx);
    }
    float factor_k[M], factor_v[M];
    for (int i = 0; i < M; ++i) {
      factor_k[i] = s.scale;
      factor_v[i] = 1.0f;
    }
    if (dk.data != nullptr)
      write_head(dk, dk_accumulate, acc_k, factor_k, batch, head, first, s.keys, s.d, ty, tx);
    if (dv.data != nullptr)
      write_head(dv, dv_accumulate, acc_v, factor_v, batch, head, first, s.keys, s.d, ty, tx);
    __syncthreads();
  }
}

}  // namespace realfake::RF_BACKEND
