#include "kernels/diffusion.h"

#include "kernels/ops/checks.h"

namespace realfake {

void combine_samples(Exec& ex, Out y, In x, In e, In a, In b) {
  expect_dense_real(ex, "combine_samples", "x", x);
  expect_rank("combine_samples", "x", x, 1, Shape::max_rank);
  expect_dense_like(ex, "combine_samples", "e", e, x.dtype(), x.shape());
  expect_dense_like(ex, "combine_samples", "y", y, x.dtype(), x.shape());
  expect_dense_like(ex, "combine_samples", "a", a, x.dtype(), {x.dim(0)});
  expect_dense_like(ex, "combine_samples", "b", b, x.dtype(), {x.dim(0)});
  ex.ops().combine_samples(ex, y, x, e, a, b);
}

namespace {
// e and z are (...,C) where moments are (...,2C).
void expect_posterior(Exec& ex, const char* op, In moments, const char* name, In z, In e) {
  expect_dense_real(ex, op, "moments", moments);
  expect_rank(op, "moments", moments, 1, Shape::max_rank);
  require(moments.columns() % 2 == 0, "[", op, "] expected moments (...,2C), got shape ",
          moments.shape());
  Shape half = moments.shape();
  half.set(-1, moments.columns() / 2);
  expect_dense_like(ex, op, name, z, moments.dtype(), half);
  expect_dense_like(ex, op, "e", e, moments.dtype(), half);
}
}  // namespace

void posterior_sample_forward(Exec& ex, Out z, In moments, In e, double factor) {
  expect_posterior(ex, "posterior_sample_forward", moments, "z", z, e);
  ex.ops().posterior_sample_forward(ex, z, moments, e, factor);
}

void posterior_sample_backward(Exec& ex, GradOut dmoments, In dz, In moments, In e, double factor) {
  if (!dmoments.wanted()) return;
  expect_posterior(ex, "posterior_sample_backward", moments, "dz", dz, e);
  expect_dense_like(ex, "posterior_sample_backward", "dmoments", dmoments.tensor, moments.dtype(),
                    moments.shape());
  ex.ops().posterior_sample_backward(ex, dmoments, dz, moments, e, factor);
}

void guided_step(Exec& ex, Out y, In x, In model_output, In noise, double guidance, double cx,
                 double ce, double cn) {
  expect_dense_real(ex, "guided_step", "x", x);
  expect_rank("guided_step", "x", x, 1, Shape::max_rank);
  expect_dense_like(ex, "guided_step", "y", y, x.dtype(), x.shape());
  expect_dense_real(ex, "guided_step", "model_output", model_output);
  expect_dtype("guided_step", "model_output", model_output, x.dtype());
  if (guidance != 1 || model_output.shape() != x.shape()) {
    Shape twice = x.shape();
    twice.set(0, 2 * x.dim(0));
    expect_shape("guided_step", "model_output", model_output, twice);
  }
  if (noise.defined()) expect_dense_like(ex, "guided_step", "noise", noise, x.dtype(), x.shape());
  ex.ops().guided_step(ex, y, x, model_output, noise, guidance, cx, ce, cn);
}

}  // namespace realfake
