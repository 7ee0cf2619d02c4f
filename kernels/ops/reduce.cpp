#include "kernels/reduce.h"

#include "kernels/ops/checks.h"

namespace realfake {

void column_sum(Exec& ex, GradOut out, In x) {
  if (!out.wanted()) return;
  expect_real(ex, "column_sum", "x", x);
  expect_rank("column_sum", "x", x, 1, Shape::max_rank);
  expect_dense_like(ex, "column_sum", "out", out.tensor, x.dtype(), {x.columns()});
  ex.ops().column_sum(ex, out, x);
}

namespace {
void expect_to_scalar(Exec& ex, const char* op, Out out, In x) {
  expect_dense_real(ex, op, "x", x);
  expect_like(ex, op, "out", out, x.dtype(), {1});
}
}  // namespace

void sum_all(Exec& ex, Out out, In x) {
  expect_to_scalar(ex, "sum_all", out, x);
  ex.ops().sum_all(ex, out, x);
}

void sum_squares(Exec& ex, Out out, In x) {
  expect_to_scalar(ex, "sum_squares", out, x);
  ex.ops().sum_squares(ex, out, x);
}

void max_abs(Exec& ex, Out out, In x) {
  expect_to_scalar(ex, "max_abs", out, x);
  ex.ops().max_abs(ex, out, x);
}

void count_nonfinite(Exec& ex, Out out, In x) {
  expect_dense_real(ex, "count_nonfinite", "x", x);
  expect_dense_like(ex, "count_nonfinite", "out", out, DType::i64, {2});
  ex.ops().count_nonfinite(ex, out, x);
}

void argmax_rows(Exec& ex, Out out, In x) {
  expect_dense_real(ex, "argmax_rows", "x", x);
  require(x.columns() > 0, "[argmax_rows] expected rows of at least one element, got shape ",
          x.shape());
  expect_dense_like(ex, "argmax_rows", "out", out, DType::i64, {x.rows()});
  ex.ops().argmax_rows(ex, out, x);
}

}  // namespace realfake
