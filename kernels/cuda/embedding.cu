// Launchers of kernels/embedding.h.
#include "kernels/cuda/embedding.cuh"

namespace realfake::RF_BACKEND {

void embedding_forward(Exec& ex, Out y, In table, In ids) {
  require_f32("embedding_forward", y, table);
  launch(embedding_forward_kernel<float>, grid_for(y.numel()), kBlock, 0, ex, rows_of<float>(y),
         rows_of<float>(table), rows_of<int64_t>(ids));
}

void embedding_backward(Exec& ex, GradOut dtable, In dy, In ids) {
  if (!dtable.wanted()) return;
  require_f32("embedding_backward", dtable.tensor, dy);
  const int64_t rows = dtable.tensor.rows(),
                tiles = (dtable.tensor.columns() + kBlock - 1) / kBlock;
  require(tiles <= 65535, "[embedding_backward] ", dtable.tensor.columns(),
          " columns are too many");
  launch(embedding_backward_kernel<float>,
         dim3(grid_for(rows, 1).x, static_cast<unsigned>(tiles < 1 ? 1 : tiles)), kBlock, 0, ex,
         rows_of<float>(dtable.tensor), rows_of<float>(dy), rows_of<int64_t>(ids),
         dtable.accumulate());
}

void timestep_embedding(Exec& ex, Out y, In t, bool flip_sin_to_cos, double shift) {
  require_f32("timestep_embedding", y);
  launch(timestep_embedding_kernel<float>, grid_for(y.numel() / 2), kBlock, 0, ex,
         rows_of<float>(y), t.data<int64_t>(), flip_sin_to_cos, shift);
}

void add_positions(Exec& ex, Out y, In x, In pos) {
  require_f32("add_positions", y, x, pos);
  launch(add_positions_kernel<float>, grid_for(y.numel()), kBlock, 0, ex, rows_of<float>(y),
         rows_of<float>(x), rows_of<float>(pos), pos.numel());
}

void sum_leading(Exec& ex, GradOut out, In x) {
  if (!out.wanted()) return;
  require_f32("sum_leading", out.tensor, x);
  launch(sum_leading_kernel<float>, grid_for(out.tensor.numel()), kBlock, 0, ex,
         rows_of<float>(out.tensor), rows_of<float>(x), x.dim(0), out.accumulate());
}

void gather_tokens_forward(Exec& ex, Out y, In x, In index) {
  require_f32("gather_tokens_forward", y, x);
  launch(gather_tokens_forward_kernel<float>, grid_for(y.numel()), kBlock, 0, ex, rows_of<float>(y),
         rows_of<float>(x), index.data<int64_t>(), x.dim(1));
}

void gather_tokens_backward(Exec& ex, GradOut dx, In dy, In index) {
  if (!dx.wanted()) return;
  require_f32("gather_tokens_backward", dx.tensor, dy);
  launch(gather_tokens_backward_kernel<float>, grid_for(dx.tensor.numel()), kBlock, 0, ex,
         rows_of<float>(dx.tensor), rows_of<float>(dy), index.data<int64_t>(), dx.tensor.dim(1),
         dx.accumulate());
}

}  // namespace realfake::RF_BACKEND
