// Launchers of kernels/attention.h: the tile sizes by head dimension.
#include "kernels/cuda/attention.cuh"

namespace realfake::RF_BACKEND {

namespace {

template <int M_, int N_, int J_>
struct TileSize {
  static constexpr int M = M_, N = N_, J = J_;
};

// Tiles as large as shared memory and registers allow at this head dimension (16 J >= d).
template <class F>
void dispatch_forward(int64_t d, F&& body) {
  if (d <= 32) return body(TileSize<4, 4, 2>{});
  if (d <= 48) return body(TileSize<4, 4, 3>{});
  if (d <= 64) return body(TileSize<4, 4, 4>{});
  if (d <= 80) return body(TileSize<4, 2, 5>{});
  if (d <= 160) return body(TileSize<4, 2, 10>{});
  if (d <= 512) return body(TileSize<1, 1, 32>{});
  throw ContractError(concat("[attention] head dimension ", d, " is over 512"));
}
template <class F>
void dispatch_backward(int64_t d, F&& body) {
  if (d <= 32) return body(TileSize<4, 2, 2>{});
  if (d <= 48) return body(TileSize<4, 2, 3>{});
  if (d <= 64) return body(TileSize<4, 2, 4>{});
  if (d <= 80) return body(TileSize<2, 2, 5>{});
  if (d <= 160) return body(TileSize<2, 2, 10>{});
  if (d <= 512) return body(TileSize<1, 1, 32>{});
  throw ContractError(concat("[attention] head dimension ", d, " is over 512"));
}

HeadShape head_shape(const Tensor& q, const Tensor& k, int64_t heads, double scale, bool causal) {
  return {
      heads, q.dim(1), k.dim(1), static_cast<int>(q.columns() / heads), static_cast<float>(scale),
      causal};
}
int64_t tiles_of(int64_t length, int side) {
  return (length + side - 1) / side;
}

}  // namespace

void attention_forward(Exec& ex, Out o, Out lse, In q, In k, In v, int64_t heads, double scale,
                       bool causal) {
  require_f32("attention_forward", o, lse, q, k, v);
  if (q.numel() == 0) return;
  using T = float;
  const HeadShape s = head_shape(q, k, heads, scale, causal);
  dispatch_forward(s.d, [&](auto size) {
    using Z = decltype(size);
    const int64_t items = q.dim(0) * heads * tiles_of(s.queries, kSide * Z::M);
    launch(attention_forward_kernel<T, Z::M, Z::N, Z::J>, grid_of_items(items), kSide * kSide,
           attention_forward_shared<Z::M, Z::N>(s.d), ex, rows_of<T>(o), lse.data<float>(),
           rows_of<T>(q), rows_of<T>(k), rows_of<T>(v), s, items);
  });
}

void attention_backward(Exec& ex, GradOut dq, GradOut dk, GradOut dv, In grad_o, In q, In k, In v,
                        In o, In lse, int64_t heads, double scale, bool causal) {
  require_f32("attention_backward", dq.tensor, dk.tensor, dv.tensor, grad_o, q, k, v, o, lse);
  if (q.numel() == 0 || !(dq.wanted() || dk.wanted() || dv.wanted())) return;
  using T = float;
  const HeadShape s = head_shape(q, k, heads, scale, causal);
  const int64_t rows = q.dim(0) * heads * s.queries;
  const Tensor delta = ex.empty({rows});
  launch(attention_delta_kernel<T>, grid_for(rows), kBlock, 0, ex, delta.data<float>(),
         rows_of<T>(grad_o), rows_of<T>(o), s, rows);
  dispatch_backward(s.d, [&](auto size) {
    using Z = decltype(size);
    if (dq.wanted()) {
      const int64_t items = q.dim(0) * heads * tiles_of(s.queries, kSide * Z::M);
      launch(attention_backward_q_kernel<T, Z::M, Z::N, Z::J>, grid_of_items(items), kSide * kSide,
             attention_backward_shared<Z::M, Z::N>(s.d, 1), ex, rows_of<T>(dq.tensor),
             dq.accumulate(), rows_of<T>(grad_o), rows_of<T>(q), rows_of<T>(k), rows_of<T>(v),
             lse.data<float>(), delta.data<float>(), s, items);
    }
    if (dk.wanted() || dv.wanted()) {
      const int64_t items = q.dim(0) * heads * tiles_of(s.keys, kSide * Z::M);
      launch(attention_backward_kv_kernel<T, Z::M, Z::N, Z::J>, grid_of_items(items), kSide * kSide,
             attention_backward_shared<Z::M, Z::N>(s.d, 2), ex, grad_rows<T>(dk), dk.accumulate(),
             grad_rows<T>(dv), dv.accumulate(), rows_of<T>(grad_o), rows_of<T>(q), rows_of<T>(k),
             rows_of<T>(v), lse.data<float>(), delta.data<float>(), s, items);
    }
  });
}

}  // namespace realfake::RF_BACKEND
