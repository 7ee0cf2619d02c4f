#include "kernels/loss.h"

#include "kernels/ops/checks.h"

namespace realfake {

namespace {
// a, b (N,...) alike with at least one sample; w (N) or undefined.
void expect_pair(Exec& ex, const char* op, In a, In b) {
  expect_dense_real(ex, op, "a", a);
  expect_rank(op, "a", a, 1, Shape::max_rank);
  require(a.numel() > 0, "[", op, "] expected a with elements, got shape ", a.shape());
  expect_dense_like(ex, op, "b", b, a.dtype(), a.shape());
}
void expect_weights(Exec& ex, const char* op, In w, In a) {
  if (w.defined()) expect_dense_like(ex, op, "w", w, a.dtype(), {a.dim(0)});
}
void expect_scalar(Exec& ex, const char* op, Out loss, DType dtype) {
  expect_like(ex, op, "loss", loss, dtype, {1});
}
Shape sample_shape(In a) {
  const std::vector<int64_t> shape = a.shape().vec();
  return Shape(std::vector<int64_t>(shape.begin() + 1, shape.end()));
}
void expect_mmd(Exec& ex, const char* op, In a, In b, In dist) {
  expect_pair(ex, op, a, b);
  require(a.dim(0) >= 2, "[", op, "] expected at least 2 samples, got ", a.dim(0));
  expect_dense_like(ex, op, "dist", dist, a.dtype(), {2 * a.dim(0), 2 * a.dim(0)});
}
void expect_moments(Exec& ex, const char* op, const char* name, In moments) {
  expect_dense_real(ex, op, name, moments);
  expect_rank(op, name, moments, 1, Shape::max_rank);
  require(moments.columns() % 2 == 0 && moments.numel() > 0, "[", op, "] expected ", name,
          " (...,2C), got shape ", moments.shape());
}
}  // namespace

void weighted_mse_forward(Exec& ex, Out loss, In a, In b, In w) {
  expect_pair(ex, "weighted_mse_forward", a, b);
  expect_weights(ex, "weighted_mse_forward", w, a);
  expect_scalar(ex, "weighted_mse_forward", loss, a.dtype());
  ex.ops().weighted_mse_forward(ex, loss, a, b, w);
}

void weighted_mse_backward(Exec& ex, GradOut da, In a, In b, In w, double dloss) {
  if (!da.wanted()) return;
  expect_pair(ex, "weighted_mse_backward", a, b);
  expect_weights(ex, "weighted_mse_backward", w, a);
  expect_dense_like(ex, "weighted_mse_backward", "da", da.tensor, a.dtype(), a.shape());
  ex.ops().weighted_mse_backward(ex, da, a, b, w, dloss);
}

void matching_sum_forward(Exec& ex, Out loss, Out diff, In a, In b, In w) {
  expect_pair(ex, "matching_sum_forward", a, b);
  expect_weights(ex, "matching_sum_forward", w, a);
  expect_scalar(ex, "matching_sum_forward", loss, a.dtype());
  expect_dense_like(ex, "matching_sum_forward", "diff", diff, a.dtype(), sample_shape(a));
  ex.ops().matching_sum_forward(ex, loss, diff, a, b, w);
}

void matching_sum_backward(Exec& ex, GradOut da, In diff, In w, double dloss) {
  if (!da.wanted()) return;
  const Tensor& a = da.tensor;
  expect_dense_real(ex, "matching_sum_backward", "da", a);
  expect_rank("matching_sum_backward", "da", a, 1, Shape::max_rank);
  expect_weights(ex, "matching_sum_backward", w, a);
  expect_dense_like(ex, "matching_sum_backward", "diff", diff, a.dtype(), sample_shape(a));
  ex.ops().matching_sum_backward(ex, da, diff, w, dloss);
}

void mmd_rbf_forward(Exec& ex, Out loss, Out dist, In a, In b) {
  expect_mmd(ex, "mmd_rbf_forward", a, b, dist);
  expect_scalar(ex, "mmd_rbf_forward", loss, a.dtype());
  ex.ops().mmd_rbf_forward(ex, loss, dist, a, b);
}

void mmd_rbf_backward(Exec& ex, GradOut da, In a, In b, In dist, double dloss) {
  if (!da.wanted()) return;
  expect_mmd(ex, "mmd_rbf_backward", a, b, dist);
  expect_dense_like(ex, "mmd_rbf_backward", "da", da.tensor, a.dtype(), a.shape());
  ex.ops().mmd_rbf_backward(ex, da, a, b, dist, dloss);
}

void cross_entropy_forward(Exec& ex, Out loss, Out probs, In logits, In target, double smoothing) {
  expect_dense_real(ex, "cross_entropy_forward", "logits", logits);
  expect_rank("cross_entropy_forward", "logits", logits, 2, 2);
  require(logits.numel() > 0, "[cross_entropy_forward] expected logits with elements, got shape ",
          logits.shape());
  expect_dense_like(ex, "cross_entropy_forward", "target", target, logits.dtype(), logits.shape());
  expect_dense_like(ex, "cross_entropy_forward", "probs", probs, logits.dtype(), logits.shape());
  expect_scalar(ex, "cross_entropy_forward", loss, logits.dtype());
  ex.ops().cross_entropy_forward(ex, loss, probs, logits, target, smoothing);
}

void cross_entropy_backward(Exec& ex, GradOut dlogits, In probs, In target, double smoothing,
                            double dloss) {
  if (!dlogits.wanted()) return;
  expect_dense_real(ex, "cross_entropy_backward", "probs", probs);
  expect_rank("cross_entropy_backward", "probs", probs, 2, 2);
  expect_dense_like(ex, "cross_entropy_backward", "target", target, probs.dtype(), probs.shape());
  expect_dense_like(ex, "cross_entropy_backward", "dlogits", dlogits.tensor, probs.dtype(),
                    probs.shape());
  ex.ops().cross_entropy_backward(ex, dlogits, probs, target, smoothing, dloss);
}

void one_hot(Exec& ex, Out target, In labels) {
  expect_dense_real(ex, "one_hot", "target", target);
  expect_rank("one_hot", "target", target, 2, 2);
  expect_dense_like(ex, "one_hot", "labels", labels, DType::i64, {target.dim(0)});
  expect_indices(ex, "one_hot", "labels", labels, target.dim(1));
  ex.ops().one_hot(ex, target, labels);
}

void kl_forward(Exec& ex, Out loss, In moments) {
  expect_moments(ex, "kl_forward", "moments", moments);
  expect_scalar(ex, "kl_forward", loss, moments.dtype());
  ex.ops().kl_forward(ex, loss, moments);
}

void kl_backward(Exec& ex, GradOut dmoments, In moments, double dloss) {
  if (!dmoments.wanted()) return;
  expect_moments(ex, "kl_backward", "moments", moments);
  expect_dense_like(ex, "kl_backward", "dmoments", dmoments.tensor, moments.dtype(),
                    moments.shape());
  ex.ops().kl_backward(ex, dmoments, moments, dloss);
}

}  // namespace realfake
