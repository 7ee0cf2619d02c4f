#include "kernels/elementwise.h"

#include "kernels/ops/checks.h"

namespace realfake {

void fill(Exec& ex, Out y, double value) {
  expect_device(ex, "fill", "y", y);
  ex.ops().fill(ex, y, value);
}

void copy(Exec& ex, Out y, In x) {
  expect_device(ex, "copy", "x", x);
  expect_like(ex, "copy", "y", y, x.dtype(), x.shape());
  ex.ops().copy(ex, y, x);
}

void add(Exec& ex, Out y, In a, In b, double alpha, double beta) {
  expect_real(ex, "add", "a", a);
  expect_like(ex, "add", "b", b, a.dtype(), a.shape());
  expect_like(ex, "add", "y", y, a.dtype(), a.shape());
  ex.ops().add(ex, y, a, b, alpha, beta);
}

void scale(Exec& ex, Out y, In x, double alpha, bool accumulate) {
  expect_real(ex, "scale", "x", x);
  expect_like(ex, "scale", "y", y, x.dtype(), x.shape());
  ex.ops().scale(ex, y, x, alpha, accumulate);
}

void multiply(Exec& ex, Out y, In a, In b, bool accumulate) {
  expect_real(ex, "multiply", "a", a);
  expect_like(ex, "multiply", "b", b, a.dtype(), a.shape());
  expect_like(ex, "multiply", "y", y, a.dtype(), a.shape());
  ex.ops().multiply(ex, y, a, b, accumulate);
}

void add_broadcast(Exec& ex, Out y, In x, In v) {
  expect_real(ex, "add_broadcast", "x", x);
  expect_rank("add_broadcast", "x", x, 2, Shape::max_rank);
  expect_like(ex, "add_broadcast", "y", y, x.dtype(), x.shape());
  expect_like(ex, "add_broadcast", "v", v, x.dtype(), {x.dim(0), x.dim(-1)});
  ex.ops().add_broadcast(ex, y, x, v);
}

void sum_middle(Exec& ex, GradOut dv, In x) {
  if (!dv.wanted()) return;
  expect_real(ex, "sum_middle", "x", x);
  expect_rank("sum_middle", "x", x, 2, Shape::max_rank);
  expect_like(ex, "sum_middle", "dv", dv.tensor, x.dtype(), {x.dim(0), x.dim(-1)});
  ex.ops().sum_middle(ex, dv, x);
}

void scale_samples(Exec& ex, Out y, In x, In s, bool accumulate) {
  expect_real(ex, "scale_samples", "x", x);
  expect_rank("scale_samples", "x", x, 1, Shape::max_rank);
  expect_like(ex, "scale_samples", "y", y, x.dtype(), x.shape());
  expect_dense_like(ex, "scale_samples", "s", s, x.dtype(), {x.dim(0)});
  ex.ops().scale_samples(ex, y, x, s, accumulate);
}

void cast(Exec& ex, Out y, In x) {
  expect_device(ex, "cast", "x", x);
  expect_device(ex, "cast", "y", y);
  expect_shape("cast", "y", y, x.shape());
  require(is_floating(y.dtype()), "[cast] expected y of a floating dtype, got ",
          name_of(y.dtype()));
  ex.ops().cast(ex, y, x);
}

void accumulate_into(Exec& ex, GradOut dst, In src) {
  if (!dst.wanted()) return;
  if (dst.accumulate())
    add(ex, dst.tensor, dst.tensor, src);
  else
    copy(ex, dst.tensor, src);
}

}  // namespace realfake
