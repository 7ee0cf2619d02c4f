#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {
namespace {

// Everything is computed on tiles packed into scratch and padded with zeros: queries to a multiple
// of 4, keys and head width to a multiple of the vector. Then each product is the same small
// kernel, 4 rows by one vector.
template <class T>
struct VectorOf {
  using type [[gnu::vector_size(64), gnu::aligned(sizeof(T)), gnu::may_alias]] = T;
};
template <class T>
constexpr int64_t lanes = 64 / static_cast<int64_t>(sizeof(T));
constexpr int64_t query_step = 4;

constexpr int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

// c (m,n) (+)= a (m,k) b (k,n).   a[i,l] = a[i * row + l * column], so a may be read transposed.
template <class T>
RF_INLINE void product(T* c, int64_t ldc, const T* a, int64_t row, int64_t column, const T* b,
                       int64_t ldb, int64_t m, int64_t n, int64_t k, bool accumulate) {
  using V = typename VectorOf<T>::type;
  for (int64_t j = 0; j < n; j += lanes<T>)
    for (int64_t i = 0; i < m; i += 4) {
      V s0{}, s1{}, s2{}, s3{};
      T* to = c + i * ldc + j;
      if (accumulate) {
        s0 = *reinterpret_cast<const V*>(to);
        s1 = *reinterpret_cast<const V*>(to + ldc);
        s2 = *reinterpret_cast<const V*>(to + 2 * ldc);
        s3 = *reinterpret_cast<const V*>(to + 3 * ldc);
      }
      const T* from = a + i * row;
      for (int64_t l = 0; l < k; ++l) {
        const V v = *reinterpret_cast<const V*>(b + l * ldb + j);
        const T* p = from + l * column;
        s0 += p[0] * v;
        s1 += p[row] * v;
        s2 += p[2 * row] * v;
        s3 += p[3 * row] * v;
      }
      *reinterpret_cast<V*>(to) = s0;
      *reinterpret_cast<V*>(to + ldc) = s1;
      *reinterpret_cast<V*>(to + 2 * ldc) = s2;
      *reinterpret_cast<V*>(to + 3 * ldc) = s3;
    }
}

// to (rows_padded, d_padded) = scale * from (rows, d), zeros around.
template <class T>
RF_INLINE void pack(T* to, const T* from, int64_t stride, int64_t rows, int64_t rows_padded,
                    int64_t d, int64_t d_padded, T scale) {
  for (int64_t i = 0; i < rows_padded; ++i) {
    const int64_t filled = i < rows ? d : 0;
    for (int64_t j = 0; j < filled; ++j) to[i * d_padded + j] = from[i * stride + j] * scale;
    for (int64_t j = filled; j < d_padded; ++j) to[i * d_padded + j] = 0;
  }
}
// to (d, rows_padded) = from (rows, d) transposed.
template <class T>
RF_INLINE void pack_transposed(T* to, const T* from, int64_t stride, int64_t rows,
                               int64_t rows_padded, int64_t d) {
  for (int64_t j = 0; j < d; ++j)
    for (int64_t i = rows; i < rows_padded; ++i) to[j * rows_padded + i] = 0;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < d; ++j) to[j * rows_padded + i] = from[i * stride + j];
}

template <class T>
struct Head {  // one head of one batch entry; strides between rows
  const T *q, *k, *v, *o, *grad_o;
  T *out, *lse;  // forward: o and lse are written; backward: lse is read
  T *dq, *dk, *dv;
  int64_t sq, sk, sv, so, sg, sout, sdq, sdk, sdv;
  bool add_dq, add_dk, add_dv;
  int64_t t, s, d;
  T scale;
  bool causal;
};

// How many of a tile's `n` keys, the first at s0, query t sees.
template <class T>
RF_INLINE int64_t seen(const Head<T>& h, int64_t t, int64_t s0, int64_t n) {
  if (!h.causal) return n;
  return t < s0 ? 0 : t - s0 + 1 < n ? t - s0 + 1 : n;
}

constexpr int64_t forward_queries = 64, backward_queries = 32, key_tile = 128;

struct Tile {
  template <class T>
  static Tile of(const Head<T>& h, int64_t queries) {
    return {round_up(std::min(h.t, queries), query_step),
            round_up(std::min(h.s, key_tile), lanes<T>), round_up(h.d, lanes<T>)};
  }
  int64_t forward_scratch(int64_t d) const {
    return 2 * queries * width + d * keys + keys * width + queries * keys + 2 * queries;
  }
  int64_t backward_scratch(int64_t d, int64_t t) const {
    return 2 * queries * width + 2 * d * keys + 3 * keys * width + 2 * queries * keys +
           round_up(t, query_step) * (width + 1);
  }
  int64_t queries, keys, width;
};

// Queries [t0, t0 + tn) against all keys, online softmax.   memory: Tile::forward_scratch.
template <class T>
RF_INLINE void forward_body(const Head<T>& h, const Tile& tile, int64_t t0, int64_t tn, T* memory) {
  const int64_t d = h.d, width = tile.width;
  T* q = memory;                          // (queries, width), scaled
  T* acc = q + tile.queries * width;      // (queries, width)
  T* kt = acc + tile.queries * width;     // (d, keys)
  T* v = kt + d * tile.keys;              // (keys, width)
  T* p = v + tile.keys * width;           // (queries, keys)
  T* top = p + tile.queries * tile.keys;  // (queries) running maximum
  T* sum = top + tile.queries;            // (queries) running sum
  const int64_t tp = round_up(tn, query_step);
  pack(q, h.q + t0 * h.sq, h.sq, tn, tp, d, width, h.scale);
  for (int64_t i = 0; i < tp; ++i) {
    top[i] = -std::numeric_limits<T>::infinity();
    sum[i] = 0;
  }
  for (int64_t s0 = 0; s0 < h.s; s0 += tile.keys) {
    if (h.causal && s0 > t0 + tn - 1) break;
    const int64_t sn = h.s - s0 < tile.keys ? h.s - s0 : tile.keys;
    const int64_t sp = round_up(sn, lanes<T>);
    pack_transposed(kt, h.k + s0 * h.sk, h.sk, sn, sp, d);
    pack(v, h.v + s0 * h.sv, h.sv, sn, sn, d, width, T(1));
    product(p, tile.keys, q, width, int64_t{1}, kt, sp, tp, sp, d, false);
    for (int64_t i = 0; i < tp; ++i) {
      T* row = p + i * tile.keys;
      const int64_t n = i < tn ? seen(h, t0 + i, s0, sn) : 0;
      T high = top[i];
#pragma omp simd reduction(max : high)
      for (int64_t j = 0; j < n; ++j) high = row[j] > high ? row[j] : high;
      T total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t j = 0; j < n; ++j) {
        const T e = exp_fast(row[j] - high);
        row[j] = e;
        total += e;
      }
      for (int64_t j = n; j < sn; ++j) row[j] = 0;
      if (n > 0 && s0 > 0) {
        const T shrink = exp_fast(top[i] - high);
        sum[i] *= shrink;
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) acc[i * width + j] *= shrink;
      }
      sum[i] += total;
      top[i] = high;
    }
    product(acc, width, p, tile.keys, int64_t{1}, v, width, tp, width, sn, s0 > 0);
  }
  for (int64_t i = 0; i < tn; ++i) {
    const T inverse = T(1) / sum[i];
    T* to = h.out + (t0 + i) * h.sout;
    for (int64_t j = 0; j < d; ++j) to[j] = acc[i * width + j] * inverse;
    h.lse[t0 + i] = top[i] + std::log(sum[i]);
  }
}

template <class T>
RF_INLINE void unpack(T* to, int64_t stride, const T* from, int64_t rows, int64_t d, int64_t width,
                      T scale, bool add) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < d; ++j) {
      const T g = from[i * width + j] * scale;
      to[i * stride + j] = add ? to[i * stride + j] + g : g;
    }
}

// All queries and keys of a head: p = exp(scale q k^T - lse), dv = p^T do, ds = p (do v^T - delta),
// dq = scale ds k, dk = scale ds^T q, delta = sum do o.   memory: Tile::backward_scratch.
template <class T>
RF_INLINE void backward_body(const Head<T>& h, const Tile& tile, T* memory) {
  const int64_t d = h.d, width = tile.width, rows = round_up(h.t, query_step);
  T* q = memory;                          // (queries, width), scaled
  T* g = q + tile.queries * width;        // (queries, width), grad_o
  T* kt = g + tile.queries * width;       // (d, keys)
  T* vt = kt + d * tile.keys;             // (d, keys)
  T* k = vt + d * tile.keys;              // (keys, width)
  T* dk = k + tile.keys * width;          // (keys, width)
  T* dv = dk + tile.keys * width;         // (keys, width)
  T* p = dv + tile.keys * width;          // (queries, keys)
  T* ds = p + tile.queries * tile.keys;   // (queries, keys)
  T* dq = ds + tile.queries * tile.keys;  // (T padded, width)
  T* delta = dq + rows * width;           // (T)
  const bool scores = h.dq || h.dk;
  for (int64_t i = 0; i < h.t; ++i) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < d; ++j) sum += h.grad_o[i * h.sg + j] * h.o[i * h.so + j];
    delta[i] = sum;
  }
  for (int64_t i = 0; i < rows * width; ++i) dq[i] = 0;
  for (int64_t s0 = 0; s0 < h.s; s0 += tile.keys) {
    const int64_t sn = h.s - s0 < tile.keys ? h.s - s0 : tile.keys;
    const int64_t sp = round_up(sn, lanes<T>);
    pack_transposed(kt, h.k + s0 * h.sk, h.sk, sn, sp, d);
    pack_transposed(vt, h.v + s0 * h.sv, h.sv, sn, sp, d);
    pack(k, h.k + s0 * h.sk, h.sk, sn, sp, d, width, T(1));
    for (int64_t i = 0; i < sp * width; ++i) dk[i] = dv[i] = 0;
    for (int64_t t0 = 0; t0 < h.t; t0 += tile.queries) {
      const int64_t tn = h.t - t0 < tile.queries ? h.t - t0 : tile.queries;
      const int64_t tp = round_up(tn, query_step);
      if (h.causal && t0 + tn - 1 < s0) continue;
      pack(q, h.q + t0 * h.sq, h.sq, tn, tp, d, width, h.scale);
      pack(g, h.grad_o + t0 * h.sg, h.sg, tn, tp, d, width, T(1));
      product(p, tile.keys, q, width, int64_t{1}, kt, sp, tp, sp, d, false);
      if (scores) product(ds, tile.keys, g, width, int64_t{1}, vt, sp, tp, sp, d, false);
      for (int64_t i = 0; i < tp; ++i) {
        T *pr = p + i * tile.keys, *sr = ds + i * tile.keys;
        const int64_t n = i < tn ? seen(h, t0 + i, s0, sn) : 0;
        const T lse = i < tn ? h.lse[t0 + i] : T(0);
        const T shift = i < tn ? delta[t0 + i] : T(0);
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) pr[j] = exp_fast(pr[j] - lse);
        for (int64_t j = n; j < sp; ++j) pr[j] = 0;
        if (!scores) continue;
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) sr[j] = pr[j] * (sr[j] - shift);
        for (int64_t j = n; j < sp; ++j) sr[j] = 0;
      }
      if (h.dv) product(dv, width, p, int64_t{1}, tile.keys, g, width, sp, width, tn, true);
      if (h.dk) product(dk, width, ds, int64_t{1}, tile.keys, q, width, sp, width, tn, true);
      if (h.dq)
        product(dq + t0 * width, width, ds, tile.keys, int64_t{1}, k, width, tp, width, sn, true);
    }
    if (h.dk) unpack(h.dk + s0 * h.sdk, h.sdk, dk, sn, d, width, T(1), h.add_dk);
    if (h.dv) unpack(h.dv + s0 * h.sdv, h.sdv, dv, sn, d, width, T(1), h.add_dv);
  }
  if (h.dq) unpack(h.dq, h.sdq, dq, h.t, d, width, h.scale, h.add_dq);
}

RF_CLONES void forward_tile(const Head<float>& h, const Tile& tile, int64_t t0, int64_t tn,
                            float* memory) {
  forward_body(h, tile, t0, tn, memory);
}
void forward_tile(const Head<double>& h, const Tile& tile, int64_t t0, int64_t tn, double* memory) {
  forward_body(h, tile, t0, tn, memory);
}
RF_CLONES void backward_head(const Head<float>& h, const Tile& tile, float* memory) {
  backward_body(h, tile, memory);
}
void backward_head(const Head<double>& h, const Tile& tile, double* memory) {
  backward_body(h, tile, memory);
}

}  // namespace

void attention_forward(Exec&, Out o, Out lse, In q, In k, In v, int64_t heads, double scale,
                       bool causal) {
  dispatch_real(q.dtype(), "attention_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t b = q.dim(0), t = q.dim(1), s = k.dim(1), d = q.dim(2) / heads;
    if (b == 0 || t == 0) return;
    const int64_t blocks = (t + forward_queries - 1) / forward_queries;
    const int64_t cost = std::min(t, forward_queries) * s * (d + 4) / 4;
    parallel_for(b * heads * blocks, grain_of(cost), [&](int64_t begin, int64_t end) {
      Head<T> h{};
      h.t = t, h.s = s, h.d = d, h.scale = static_cast<T>(scale), h.causal = causal;
      h.sq = q.row_stride(), h.sk = k.row_stride(), h.sv = v.row_stride();
      h.sout = o.row_stride();
      const Tile tile = Tile::of(h, forward_queries);
      T* memory = scratch<T, 60>(tile.forward_scratch(d));
      for (int64_t i = begin; i < end; ++i) {
        const int64_t pair = i / blocks, t0 = i % blocks * forward_queries;
        const int64_t n = pair / heads, column = pair % heads * d;
        h.q = q.data<T>() + n * t * h.sq + column;
        h.k = k.data<T>() + n * s * h.sk + column;
        h.v = v.data<T>() + n * s * h.sv + column;
        h.out = o.data<T>() + n * t * h.sout + column;
        h.lse = lse.data<T>() + pair * t;
        forward_tile(h, tile, t0, std::min(forward_queries, t - t0), memory);
      }
    });
  });
}

void attention_backward(Exec&, GradOut dq, GradOut dk, GradOut dv, In grad_o, In q, In k, In v,
                        In o, In lse, int64_t heads, double scale, bool causal) {
  dispatch_real(q.dtype(), "attention_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t b = q.dim(0), t = q.dim(1), s = k.dim(1), d = q.dim(2) / heads;
    const auto stride = [](const GradOut& out) {
      return out.wanted() ? out.tensor.row_stride() : 0;
    };
    const auto at = [](const GradOut& out, int64_t offset) {
      return out.wanted() ? out.tensor.data<T>() + offset : nullptr;
    };
    parallel_for(b * heads, grain_of(t * s * (d + 4)), [&](int64_t begin, int64_t end) {
      Head<T> h{};
      h.t = t, h.s = s, h.d = d, h.scale = static_cast<T>(scale), h.causal = causal;
      h.sq = q.row_stride(), h.sk = k.row_stride(), h.sv = v.row_stride();
      h.so = o.row_stride(), h.sg = grad_o.row_stride();
      h.sdq = stride(dq), h.sdk = stride(dk), h.sdv = stride(dv);
      h.add_dq = dq.accumulate(), h.add_dk = dk.accumulate(), h.add_dv = dv.accumulate();
      const Tile tile = Tile::of(h, backward_queries);
      T* memory = scratch<T, 60>(tile.backward_scratch(d, t));
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / heads, column = i % heads * d;
        h.q = q.data<T>() + n * t * h.sq + column;
        h.k = k.data<T>() + n * s * h.sk + column;
        h.v = v.data<T>() + n * s * h.sv + column;
        h.o = o.data<T>() + n * t * h.so + column;
        h.grad_o = grad_o.data<T>() + n * t * h.sg + column;
        h.lse = lse.data<T>() + i * t;
        h.dq = at(dq, n * t * h.sdq + column);
        h.dk = at(dk, n * s * h.sdk + column);
        h.dv = at(dv, n * s * h.sdv + column);
        backward_head(h, tile, memory);
      }
    });
  });
}

}  // namespace realfake::cpu
