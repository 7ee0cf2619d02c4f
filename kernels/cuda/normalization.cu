// Launchers of kernels/normalization.h.
#include "kernels/cuda/normalization.cuh"

namespace realfake::RF_BACKEND {

namespace {

GroupShape group_shape(const Tensor& x, int64_t groups) {
  const int64_t samples = x.dim(0), channels = x.columns();
  require(channels < (int64_t{1} << 30), "[group_norm] ", channels, " channels are too many");
  return {samples, samples ? x.rows() / samples : 0, static_cast<int>(channels),
          static_cast<int>(groups), static_cast<int>(channels / groups)};
}
// About 8192 elements a block: enough blocks for the machine, and what is read twice stays in its
// cache.
Chunks moment_chunks(const GroupShape& s) {
  const int64_t rows = s.width >= 8192 ? 1 : 8192 / s.width;
  return {(s.positions + rows - 1) / rows, rows};
}

}  // namespace

// ---- group norm ----

void group_norm_forward(Exec& ex, Out y, Out mean, Out rstd, In x, In gamma, In beta,
                        int64_t groups, double eps, bool silu) {
  require_f32("group_norm_forward", y, mean, rstd, x, gamma, beta);
  if (x.numel() == 0) return;
  using T = float;
  const GroupShape s = group_shape(x, groups);
  const Chunks chunks = moment_chunks(s);
  const int64_t items = s.samples * s.groups;
  const Tensor partial = ex.empty({items * chunks.count * 2});
  launch(group_moments_partial<T>, grid_of_items(items * chunks.count), kBlock, 0, ex,
         partial.data<float>(), rows_of<T>(x), s, chunks);
  launch(group_moments_finish<float>, grid_of_items(items), reduce_threads(chunks.count), 0, ex,
         mean.data<float>(), rstd.data<float>(), partial.data<float>(), s, chunks, eps);
  const int threads = walk_threads(s.channels);
  launch(group_norm_apply<T>, walk_grid(x.rows(), threads), kBlock, 0, ex, rows_of<T>(y),
         rows_of<T>(x), mean.data<float>(), rstd.data<float>(), gamma.data<T>(), beta.data<T>(), s,
         silu, threads);
}

void group_norm_backward(Exec& ex, GradOut dx, GradOut dgamma, GradOut dbeta, In dy, In x, In mean,
                         In rstd, In gamma, In beta, int64_t groups, bool silu) {
  require_f32("group_norm_backward", dx.tensor, dgamma.tensor, dbeta.tensor, dy, x, mean, rstd,
              gamma, beta);
  if (x.numel() == 0 || !(dx.wanted() || dgamma.wanted() || dbeta.wanted())) return;
  using T = float;
  const GroupShape s = group_shape(x, groups);
  const Chunks chunks = chunks_of(s.positions);
  const int64_t partials = s.samples * chunks.count;
  const Tensor partial = ex.empty({partials * 2 * s.channels});
  launch(group_norm_backward_partial<T>, grid_of_items(partials * column_tiles(s.channels)), kBlock,
         0, ex, partial.data<float>(), rows_of<T>(dy), rows_of<T>(x), mean.data<float>(),
         rstd.data<float>(), gamma.data<T>(), beta.data<T>(), s, chunks, silu);
  if (dgamma.wanted() || dbeta.wanted()) {
    const ColumnOutputs<T, 2> out{{grad_data<T>(dgamma), grad_data<T>(dbeta)},
                                  {0, 0},
                                  {dgamma.accumulate(), dbeta.accumulate()}};
    launch(column_sum_finish<T, 2>, grid_for(s.channels), kBlock, 0, ex, out, partial.data<float>(),
           1, partials, s.channels);
  }
  if (!dx.wanted()) return;
  const Tensor sums = ex.empty({s.samples * s.groups * 2});
  launch(group_norm_backward_groups<T>, grid_of_items(s.samples * s.groups),
         reduce_threads(chunks.count * s.width), 0, ex, sums.data<float>(), partial.data<float>(),
         gamma.data<T>(), s, chunks.count);
  const int threads = walk_threads(s.channels);
  launch(group_norm_backward_apply<T>, walk_grid(x.rows(), threads), kBlock, 0, ex,
         rows_of<T>(dx.tensor), dx.accumulate(), rows_of<T>(dy), rows_of<T>(x), mean.data<float>(),
         rstd.data<float>(), gamma.data<T>(), beta.data<T>(), sums.data<float>(), s, silu, threads);
}

// ---- layer norm ----

void layer_norm_forward(Exec& ex, Out y, Out mean, Out rstd, In x, In gamma, In beta, double eps) {
  require_f32("layer_norm_forward", y, mean, rstd, x, gamma, beta);
  using T = float;
  launch(layer_norm_forward_kernel<T>, grid_of_items(x.rows()), reduce_threads(x.columns()), 0, ex,
         rows_of<T>(y), mean.data<float>(), rstd.data<float>(), rows_of<T>(x), gamma.data<T>(),
         beta.data<T>(), eps);
}

void layer_norm_backward(Exec& ex, GradOut dx, GradOut dgamma, GradOut dbeta, In dy, In x, In mean,
                         In rstd, In gamma) {
  require_f32("layer_norm_backward", dx.tensor, dgamma.tensor, dbeta.tensor, dy, x, mean, rstd,
              gamma);
  using T = float;
  if (dx.wanted())
    launch(layer_norm_backward_kernel<T>, grid_of_items(x.rows()), reduce_threads(x.columns()), 0,
           ex, rows_of<T>(dx.tensor), dx.accumulate(), rows_of<T>(dy), rows_of<T>(x),
           mean.data<float>(), rstd.data<float>(), gamma.data<T>());
  if (!dgamma.wanted() && !dbeta.wanted()) return;
  const Chunks chunks = chunks_of(x.rows());
  const Tensor partial = ex.empty({chunks.count * 2 * x.columns()});
  launch(layer_norm_backward_partial<T>, grid_of_items(chunks.count * column_tiles(x.columns())),
         kBlock, 0, ex, partial.data<float>(), rows_of<T>(dy), rows_of<T>(x), mean.data<float>(),
         rstd.data<float>(), chunks);
  const ColumnOutputs<T, 2> out{{grad_data<T>(dgamma), grad_data<T>(dbeta)},
                                {0, 0},
                                {dgamma.accumulate(), dbeta.accumulate()}};
  launch(column_sum_finish<T, 2>, grid_for(x.columns()), kBlock, 0, ex, out, partial.data<float>(),
         1, chunks.count, x.columns());
}

// ---- batch norm ----

void batch_norm_forward(Exec& ex, Out y, Out mean, Out rstd, Out running_mean, Out running_var,
                        In x, In gamma, In beta, In residual, double eps, double momentum,
                        bool relu) {
  require_f32("batch_norm_forward", y, mean, rstd, running_mean, running_var, x, gamma, beta,
              residual);
  if (x.numel() == 0) return;
  using T = float;
  const Chunks chunks = chunks_of(x.rows());
  const Tensor partial = ex.empty({chunks.count * 2 * x.columns()});
  launch(batch_moments_partial<T>, grid_of_items(chunks.count * column_tiles(x.columns())), kBlock,
         0, ex, partial.data<float>(), rows_of<T>(x), chunks);
  launch(batch_moments_finish<float>, grid_for(x.columns(), kWarp), kWarp, 0, ex,
         mean.data<float>(), rstd.data<float>(), running_mean.data<float>(),
         running_var.data<float>(), partial.data<float>(), x.rows(), x.columns(), chunks, eps,
         momentum);
  const int threads = walk_threads(x.columns());
  launch(batch_norm_apply<T>, walk_grid(x.rows(), threads), kBlock, 0, ex, rows_of<T>(y),
         mean.data<float>(), rstd.data<float>(), false, eps, rows_of<T>(x), gamma.data<T>(),
         beta.data<T>(), rows_or_none<T>(residual), relu, threads);
}

void batch_norm_inference(Exec& ex, Out y, In running_mean, In running_var, In x, In gamma, In beta,
                          In residual, double eps, bool relu) {
  require_f32("batch_norm_inference", y, running_mean, running_var, x, gamma, beta, residual);
  using T = float;
  const int threads = walk_threads(x.columns());
  launch(batch_norm_apply<T>, walk_grid(x.rows(), threads), kBlock, 0, ex, rows_of<T>(y),
         running_mean.data<float>(), running_var.data<float>(), true, eps, rows_of<T>(x),
         gamma.data<T>(), beta.data<T>(), rows_or_none<T>(residual), relu, threads);
}

void batch_norm_backward(Exec& ex, GradOut dx, GradOut dgamma, GradOut dbeta, GradOut dresidual,
                         In dy, In x, In y, In mean, In rstd, In gamma, bool relu) {
  require_f32("batch_norm_backward", dx.tensor, dgamma.tensor, dbeta.tensor, dresidual.tensor, dy,
              x, y, mean, rstd, gamma);
  if (x.numel() == 0) return;
  using T = float;
  const Rows<T> mask = relu ? rows_of<T>(y) : Rows<T>{nullptr, 0, 0, 0};
  const Tensor sums = ex.empty({2, x.columns()});
  if (dx.wanted() || dgamma.wanted() || dbeta.wanted()) {
    const Chunks chunks = chunks_of(x.rows());
    const Tensor partial = ex.empty({chunks.count * 2 * x.columns()});
    launch(batch_norm_backward_partial<T>, grid_of_items(chunks.count * column_tiles(x.columns())),
           kBlock, 0, ex, partial.data<float>(), rows_of<T>(dy), rows_of<T>(x), mask,
           mean.data<float>(), rstd.data<float>(), chunks);
    // Twice over the few partials: the sums for dx, and the parameter gradients by their modes.
    const ColumnOutputs<float, 2> own{
        {sums.data<float>(), sums.data<float>() + x.columns()}, {0, 0}, {false, false}};
    launch(column_sum_finish<float, 2>, grid_for(x.columns()), kBlock, 0, ex, own,
           partial.data<float>(), 1, chunks.count, x.columns());
    const ColumnOutputs<T, 2> out{{grad_data<T>(dgamma), grad_data<T>(dbeta)},
                                  {0, 0},
                                  {dgamma.accumulate(), dbeta.accumulate()}};
    launch(column_sum_finish<T, 2>, grid_for(x.columns()), kBlock, 0, ex, out,
           partial.data<float>(), 1, chunks.count, x.columns());
  }
  if (!dx.wanted() && !dresidual.wanted()) return;
  const int threads = walk_threads(x.columns());
  launch(batch_norm_backward_apply<T>, walk_grid(x.rows(), threads), kBlock, 0, ex,
         grad_rows<T>(dx), dx.accumulate(), grad_rows<T>(dresidual), dresidual.accumulate(),
         rows_of<T>(dy), rows_of<T>(x), mask, mean.data<float>(), rstd.data<float>(),
         gamma.data<T>(), sums.data<float>(), threads);
}

// ---- l2 normalisation ----

void l2_normalize_forward(Exec& ex, Out y, Out norm, In x) {
  require_f32("l2_normalize_forward", y, norm, x);
  using T = float;
  launch(l2_normalize_forward_kernel<T>, grid_of_items(x.rows()), reduce_threads(x.columns()), 0,
         ex, rows_of<T>(y), norm.data<float>(), rows_of<T>(x));
}

void l2_normalize_backward(Exec& ex, GradOut dx, In dy, In y, In norm) {
  if (!dx.wanted()) return;
  require_f32("l2_normalize_backward", dx.tensor, dy, y, norm);
  using T = float;
  launch(l2_normalize_backward_kernel<T>, grid_of_items(y.rows()), reduce_threads(y.columns()), 0,
         ex, rows_of<T>(dx.tensor), dx.accumulate(), rows_of<T>(dy), rows_of<T>(y),
         norm.data<float>());
}

}  // namespace realfake::RF_BACKEND
