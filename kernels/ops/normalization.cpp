#include "kernels/normalization.h"

#include "kernels/backend.h"
#include "kernels/ops/expect.h"

namespace realfake {
namespace {

void check_rows(const Expect& expect, In x, int least_rank) {
  expect.rank("x", x, least_rank);
  expect.that(x.numel() > 0, "expected x with elements, got ", x.shape());
}

void check_groups(const Expect& expect, In x, int64_t groups) {
  check_rows(expect, x, 2);
  expect.that(groups >= 1 && x.columns() % groups == 0, "expected groups to divide ", x.columns(),
              " channels, got ", groups);
}

// Forward reads x and writes y; backward reads dy and x and writes dx. Parameters are negligible.
OpCost pointwise_cost(const Shape& x, DType t, bool backward, double forward_flops,
                      double backward_flops) {
  const auto n = static_cast<double>(x.numel());
  return {n * static_cast<double>(size_of(t)) * (backward ? 3 : 2),
          n * (backward ? backward_flops : forward_flops)};
}

}  // namespace

void group_norm_forward(Exec& ex, Out y, Out mean, Out rstd, In x, In gamma, In beta,
                        int64_t groups, double eps, bool silu) {
  const Expect expect(ex, "group_norm_forward", x);
  check_groups(expect, x, groups);
  expect.tensor("x", x);
  expect.tensor("y", y, x.shape());
  for (In t : {mean, rstd}) expect.dense("mean and rstd", t, {x.dim(0), groups});
  for (In t : {gamma, beta}) expect.tensor("gamma and beta", t, {x.columns()});
  ex.ops().group_norm_forward(ex, y, mean, rstd, x, gamma, beta, groups, eps, silu);
}

void group_norm_backward(Exec& ex, GradOut dx, GradOut dgamma, GradOut dbeta, In dy, In x, In mean,
                         In rstd, In gamma, In beta, int64_t groups, bool silu) {
  const Expect expect(ex, "group_norm_backward", x);
  check_groups(expect, x, groups);
  expect.tensor("x", x);
  expect.tensor("dy", dy, x.shape());
  for (In t : {mean, rstd}) expect.dense("mean and rstd", t, {x.dim(0), groups});
  for (In t : {gamma, beta}) expect.tensor("gamma and beta", t, {x.columns()});
  expect.grad("dx", dx, x.shape());
  expect.grad("dgamma", dgamma, {x.columns()});
  expect.grad("dbeta", dbeta, {x.columns()});
  ex.ops().group_norm_backward(ex, dx, dgamma, dbeta, dy, x, mean, rstd, gamma, beta, groups, silu);
}

OpCost group_norm_cost(const Shape& x, DType t, bool backward) {
  return pointwise_cost(x, t, backward, 6, 14);
}

void layer_norm_forward(Exec& ex, Out y, Out mean, Out rstd, In x, In gamma, In beta, double eps) {
  const Expect expect(ex, "layer_norm_forward", x);
  check_rows(expect, x, 1);
  expect.tensor("x", x);
  expect.tensor("y", y, x.shape());
  for (In t : {mean, rstd}) expect.dense("mean and rstd", t, {x.rows()});
  for (In t : {gamma, beta}) expect.tensor("gamma and beta", t, {x.columns()});
  ex.ops().layer_norm_forward(ex, y, mean, rstd, x, gamma, beta, eps);
}

void layer_norm_backward(Exec& ex, GradOut dx, GradOut dgamma, GradOut dbeta, In dy, In x, In mean,
                         In rstd, In gamma) {
  const Expect expect(ex, "layer_norm_backward", x);
  check_rows(expect, x, 1);
  expect.tensor("x", x);
  expect.tensor("dy", dy, x.shape());
  for (In t : {mean, rstd}) expect.dense("mean and rstd", t, {x.rows()});
  expect.tensor("gamma", gamma, {x.columns()});
  expect.grad("dx", dx, x.shape());
  expect.grad("dgamma", dgamma, {x.columns()});
  expect.grad("dbeta", dbeta, {x.columns()});
  ex.ops().layer_norm_backward(ex, dx, dgamma, dbeta, dy, x, mean, rstd, gamma);
}

OpCost layer_norm_cost(const Shape& x, DType t, bool backward) {
  return pointwise_cost(x, t, backward, 6, 12);
}

void batch_norm_forward(Exec& ex, Out y, Out mean, Out rstd, Out running_mean, Out running_var,
                        In x, In gamma, In beta, In residual, double eps, double momentum,
                        bool relu) {
  const Expect expect(ex, "batch_norm_forward", x);
  check_rows(expect, x, 2);
  expect.tensor("x", x);
  expect.tensor("y", y, x.shape());
  for (In t : {mean, rstd, running_mean, running_var, gamma, beta})
    expect.dense("mean, rstd, running_mean, running_var, gamma and beta", t, {x.columns()});
  if (residual.defined()) expect.tensor("residual", residual, x.shape());
  ex.ops().batch_norm_forward(ex, y, mean, rstd, running_mean, running_var, x, gamma, beta,
                              residual, eps, momentum, relu);
}

void batch_norm_backward(Exec& ex, GradOut dx, GradOut dgamma, GradOut dbeta, GradOut dresidual,
                         In dy, In x, In y, In mean, In rstd, In gamma, bool relu) {
  const Expect expect(ex, "batch_norm_backward", x);
  check_rows(expect, x, 2);
  expect.tensor("x", x);
  expect.tensor("dy", dy, x.shape());
  if (relu) expect.tensor("y", y, x.shape());
  for (In t : {mean, rstd, gamma}) expect.dense("mean, rstd and gamma", t, {x.columns()});
  expect.grad("dx", dx, x.shape());
  expect.grad("dgamma", dgamma, {x.columns()});
  expect.grad("dbeta", dbeta, {x.columns()});
  expect.grad("dresidual", dresidual, x.shape());
  ex.ops().batch_norm_backward(ex, dx, dgamma, dbeta, dresidual, dy, x, y, mean, rstd, gamma, relu);
}

void batch_norm_inference(Exec& ex, Out y, In running_mean, In running_var, In x, In gamma, In beta,
                          In residual, double eps, bool relu) {
  const Expect expect(ex, "batch_norm_inference", x);
  check_rows(expect, x, 2);
  expect.tensor("x", x);
  expect.tensor("y", y, x.shape());
  for (In t : {running_mean, running_var, gamma, beta})
    expect.dense("running_mean, running_var, gamma and beta", t, {x.columns()});
  if (residual.defined()) expect.tensor("residual", residual, x.shape());
  ex.ops().batch_norm_inference(ex, y, running_mean, running_var, x, gamma, beta, residual, eps,
                                relu);
}

OpCost batch_norm_cost(const Shape& x, DType t, bool backward) {
  return pointwise_cost(x, t, backward, 6, 10);
}

void l2_normalize_forward(Exec& ex, Out y, Out norm, In x) {
  const Expect expect(ex, "l2_normalize_forward", x);
  check_rows(expect, x, 1);
  expect.tensor("x", x);
  expect.tensor("y", y, x.shape());
  expect.dense("norm", norm, {x.rows()});
  ex.ops().l2_normalize_forward(ex, y, norm, x);
}

void l2_normalize_backward(Exec& ex, GradOut dx, In dy, In y, In norm) {
  if (!dx.wanted()) return;
  const Expect expect(ex, "l2_normalize_backward", dy);
  check_rows(expect, dy, 1);
  expect.tensor("dy", dy);
  expect.tensor("y", y, dy.shape());
  expect.dense("norm", norm, {dy.rows()});
  expect.grad("dx", dx, dy.shape());
  ex.ops().l2_normalize_backward(ex, dx, dy, y, norm);
}

}  // namespace realfake
