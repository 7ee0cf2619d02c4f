// Launchers of kernels/loss.h.
#include "kernels/cuda/loss.cuh"

namespace realfake::RF_BACKEND {

namespace {

const float* weights_of(const Tensor& w) {
  return w.defined() ? w.data<float>() : nullptr;
}

// Blocks of a first stage; a function of n alone, so that the order of the sum is.
dim3 partial_grid(int64_t n) {
  const int64_t blocks = (n + 4 * kBlock - 1) / (4 * kBlock);
  return dim3(static_cast<unsigned>(blocks < 1 ? 1 : blocks > 1024 ? 1024 : blocks));
}

// loss = factor * sum of partial.
void finish(Exec& ex, Out loss, const Tensor& partial, double factor) {
  launch(sum_partials_kernel<float>, dim3(1), kBlock, 0, ex, loss.data<float>(),
         partial.data<double>(), partial.numel(), factor, false);
}

}  // namespace

void weighted_mse_forward(Exec& ex, Out loss, In a, In b, In w) {
  require_f32("weighted_mse_forward", loss, a, b, w);
  const int64_t samples = a.dim(0), per_sample = elements_per_sample(a);
  const dim3 grid = sample_grid(samples, per_sample, 64, 256);
  const Tensor partial = ex.empty({static_cast<int64_t>(grid.x) * grid.y}, DType::f64);
  launch(weighted_mse_forward_kernel<float>, grid, kBlock, 0, ex, partial.data<double>(),
         rows_of<float>(a), rows_of<float>(b), weights_of(w), samples, per_sample);
  finish(ex, loss, partial, 1.0 / static_cast<double>(a.numel()));
}

void weighted_mse_backward(Exec& ex, GradOut da, In a, In b, In w, double dloss) {
  if (!da.wanted()) return;
  require_f32("weighted_mse_backward", da.tensor, a, b, w);
  const int64_t samples = a.dim(0), per_sample = elements_per_sample(a);
  launch(weighted_mse_backward_kernel<float>, sample_grid(samples, per_sample), kBlock, 0, ex,
         rows_of<float>(da.tensor), rows_of<float>(a), rows_of<float>(b), weights_of(w), samples,
         per_sample, 2 * dloss / static_cast<double>(a.numel()), da.accumulate());
}

void matching_sum_forward(Exec& ex, Out loss, Out diff, In a, In b, In w) {
  require_f32("matching_sum_forward", loss, diff, a, b, w);
  const int64_t samples = a.dim(0), per_sample = elements_per_sample(a);
  const dim3 grid = partial_grid(per_sample);
  const Tensor partial = ex.empty({static_cast<int64_t>(grid.x)}, DType::f64);
  launch(matching_sum_forward_kernel<float>, grid, kBlock, 0, ex, partial.data<double>(),
         rows_of<float>(diff), rows_of<float>(a), rows_of<float>(b), weights_of(w), samples,
         per_sample);
  finish(ex, loss, partial, 1.0 / static_cast<double>(per_sample));
}

void matching_sum_backward(Exec& ex, GradOut da, In diff, In w, double dloss) {
  if (!da.wanted()) return;
  require_f32("matching_sum_backward", da.tensor, diff, w);
  const int64_t samples = da.tensor.dim(0), per_sample = elements_per_sample(da.tensor);
  launch(matching_sum_backward_kernel<float>, sample_grid(samples, per_sample), kBlock, 0, ex,
         rows_of<float>(da.tensor), rows_of<float>(diff), weights_of(w), samples, per_sample,
         2 * dloss / static_cast<double>(per_sample), da.accumulate());
}

void mmd_rbf_forward(Exec& ex, Out loss, Out dist, In a, In b) {
  require_f32("mmd_rbf_forward", loss, dist, a, b);
  const int64_t samples = a.dim(0);
  launch(mmd_distance_kernel<float>, sample_grid(2 * samples, 2 * samples * kBlock), kBlock, 0, ex,
         rows_of<float>(dist), rows_of<float>(a), rows_of<float>(b), samples,
         elements_per_sample(a));
  launch(mmd_rbf_forward_kernel<float>, dim3(1), kBlock, 0, ex, loss.data<float>(),
         rows_of<float>(dist), samples);
}

void mmd_rbf_backward(Exec& ex, GradOut da, In a, In b, In dist, double dloss) {
  if (!da.wanted()) return;
  require_f32("mmd_rbf_backward", da.tensor, a, b, dist);
  const int64_t samples = a.dim(0), per_sample = elements_per_sample(a);
  const Tensor coefficient = ex.empty({samples, 2 * samples});
  launch(mmd_coefficient_kernel<float>, dim3(1), kBlock, 0, ex, coefficient.data<float>(),
         rows_of<float>(dist), samples, dloss);
  launch(mmd_rbf_backward_kernel<float>, sample_grid(samples, per_sample), kBlock, 0, ex,
         rows_of<float>(da.tensor), rows_of<float>(a), rows_of<float>(b), coefficient.data<float>(),
         samples, per_sample, da.accumulate());
}

void cross_entropy_forward(Exec& ex, Out loss, Out probs, In logits, In target, double smoothing) {
  require_f32("cross_entropy_forward", loss, probs, logits, target);
  const Tensor partial = ex.empty({logits.rows()}, DType::f64);
  launch(cross_entropy_forward_kernel<float>, grid_for(logits.rows(), 1), kBlock, 0, ex,
         partial.data<double>(), rows_of<float>(probs), rows_of<float>(logits),
         rows_of<float>(target), smoothing);
  finish(ex, loss, partial, 1.0 / static_cast<double>(logits.rows()));
}

void cross_entropy_backward(Exec& ex, GradOut dlogits, In probs, In target, double smoothing,
                            double dloss) {
  if (!dlogits.wanted()) return;
  require_f32("cross_entropy_backward", dlogits.tensor, probs, target);
  launch(cross_entropy_backward_kernel<float>, grid_for(probs.rows(), 1), kBlock, 0, ex,
         rows_of<float>(dlogits.tensor), rows_of<float>(probs), rows_of<float>(target), smoothing,
         dloss / static_cast<double>(probs.rows()), dlogits.accumulate());
}

void one_hot(Exec& ex, Out target, In labels) {
  require_f32("one_hot", target);
  launch(one_hot_kernel<float>, grid_for(target.numel()), kBlock, 0, ex, rows_of<float>(target),
         labels.data<int64_t>());
}

void kl_forward(Exec& ex, Out loss, In moments) {
  require_f32("kl_forward", loss, moments);
  const int64_t count = moments.numel() / 2;
  const dim3 grid = partial_grid(count);
  const Tensor partial = ex.empty({static_cast<int64_t>(grid.x)}, DType::f64);
  launch(kl_forward_kernel<float>, grid, kBlock, 0, ex, partial.data<double>(),
         rows_of<float>(moments));
  finish(ex, loss, partial, 0.5 / static_cast<double>(count));
}

void kl_backward(Exec& ex, GradOut dmoments, In moments, double dloss) {
  if (!dmoments.wanted()) return;
  require_f32("kl_backward", dmoments.tensor, moments);
  launch(kl_backward_kernel<float>, grid_for(moments.numel()), kBlock, 0, ex,
         rows_of<float>(dmoments.tensor), rows_of<float>(moments),
         dloss / static_cast<double>(moments.numel() / 2), dmoments.accumulate());
}

}  // namespace realfake::RF_BACKEND
