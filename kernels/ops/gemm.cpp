#include "kernels/gemm.h"

#include "kernels/backend.h"
#include "kernels/ops/expect.h"

namespace realfake {
namespace {

// x (...,K) as a matrix (rows,K); rows keep their stride.
Tensor matrix(In x) {
  return x.reshape({x.rows(), x.columns()});
}

// Leading dimensions of x with `columns` as the last.
Shape with_columns(In x, int64_t columns) {
  Shape s = x.shape();
  s.set(-1, columns);
  return s;
}

void check_linear(const Expect& expect, In x, In w) {
  expect.rank("x", x, 1);
  expect.rank("w", w, 2, 2);
  expect.that(x.columns() == w.dim(1), "expected w (N,", x.columns(), ") for x ", x.shape(),
              ", got ", w.shape());
}

double beta_of(const GradOut& g) {
  return g.accumulate() ? 1 : 0;
}

}  // namespace

void gemm(Exec& ex, Out c, In a, In b, bool trans_a, bool trans_b, double alpha, double beta) {
  const Expect expect(ex, "gemm", c);
  for (In t : {c, a, b}) expect.rank("matrices", t, 2, 3);
  expect.tensor("c", c);
  expect.tensor("a", a);
  expect.tensor("b", b);
  const int64_t m = c.dim(-2), n = c.dim(-1), k = a.dim(trans_a ? -2 : -1);
  Shape sa = trans_a ? Shape{k, m} : Shape{m, k}, sb = trans_b ? Shape{n, k} : Shape{k, n};
  if (c.rank() == 3) {
    sa = {c.dim(0), sa[0], sa[1]};
    sb = {c.dim(0), sb[0], sb[1]};
  }
  expect.tensor("a", a, sa);
  expect.tensor("b", b, sb);
  ex.ops().gemm(ex, c, a, b, trans_a, trans_b, alpha, beta);
}

OpCost gemm_cost(int64_t batch, int64_t m, int64_t n, int64_t k, DType t) {
  const double dm = static_cast<double>(m), dn = static_cast<double>(n),
               dk = static_cast<double>(k);
  const double db = static_cast<double>(batch), size = static_cast<double>(size_of(t));
  return {db * size * (dm * dk + dk * dn + dm * dn), 2 * db * dm * dn * dk};
}

void linear_forward(Exec& ex, Out y, In x, In w, In bias, bool accumulate) {
  const Expect expect(ex, "linear_forward", y);
  expect.tensor("x", x);
  expect.tensor("w", w);
  check_linear(expect, x, w);
  const int64_t n = w.dim(0);
  expect.tensor("y", y, with_columns(x, n));
  if (bias.defined()) expect.tensor("bias", bias, {n});
  const Tensor rows = matrix(y);
  gemm(ex, rows, matrix(x), w, false, true, 1, accumulate ? 1 : 0);
  if (bias.defined()) {
    const Tensor one_sample = rows.reshape({1, rows.dim(0), n});
    add_broadcast(ex, one_sample, one_sample, bias.reshape({1, n}));
  }
}

void linear_backward(Exec& ex, GradOut dx, GradOut dw, GradOut dbias, In dy, In x, In w) {
  const Expect expect(ex, "linear_backward", dy);
  expect.rank("dy", dy, 1);
  const int64_t n = dy.columns();
  const Tensor rows = matrix(dy);
  if (dx.wanted()) {
    expect.tensor("w", w);
    expect.rank("w", w, 2, 2);
    expect.that(w.dim(0) == n, "expected w (", n, ",K), got ", w.shape());
    expect.grad("dx", dx, with_columns(dy, w.dim(1)));
    gemm(ex, matrix(dx.tensor), rows, w, false, false, 1, beta_of(dx));
  }
  if (dw.wanted()) {
    expect.tensor("x", x);
    expect.tensor("x", x, with_columns(dy, x.columns()));
    expect.grad("dw", dw, {n, x.columns()});
    gemm(ex, dw.tensor, rows, matrix(x), true, false, 1, beta_of(dw));
  }
  if (dbias.wanted()) {
    expect.grad("dbias", dbias, {n});
    column_sum(ex, dbias, dy);
  }
}

void lora_linear_forward(Exec& ex, Out y, Out xa, In x, In w, In bias, In down, In up,
                         double scale) {
  const Expect expect(ex, "lora_linear_forward", y);
  expect.tensor("x", x);
  expect.tensor("w", w);
  expect.tensor("down", down);
  check_linear(expect, x, w);
  expect.rank("down", down, 2, 2);
  const int64_t r = down.dim(0);
  expect.tensor("down", down, {r, x.columns()});
  expect.tensor("up", up, {w.dim(0), r});
  expect.tensor("xa", xa, with_columns(x, r));
  linear_forward(ex, y, x, w, bias);
  gemm(ex, matrix(xa), matrix(x), down, false, true);
  gemm(ex, matrix(y), matrix(xa), up, false, true, scale, 1);
}

void lora_linear_backward(Exec& ex, GradOut dx, GradOut ddown, GradOut dup, In dy, In x, In xa,
                          In w, In down, In up, double scale) {
  const Expect expect(ex, "lora_linear_backward", dy);
  expect.rank("dy", dy, 1);
  expect.tensor("up", up);
  expect.rank("up", up, 2, 2);
  const int64_t n = dy.columns(), r = up.dim(1);
  expect.tensor("up", up, {n, r});
  const Tensor rows = matrix(dy);
  if (dup.wanted()) {
    expect.grad("dup", dup, {n, r});
    expect.tensor("xa", xa, with_columns(dy, r));
    gemm(ex, dup.tensor, rows, matrix(xa), true, false, scale, beta_of(dup));
  }
  if (!dx.wanted() && !ddown.wanted()) return;
  const Tensor dxa = ex.empty({rows.dim(0), r}, dy.dtype());
  gemm(ex, dxa, rows, up, false, false, scale);
  if (ddown.wanted()) {
    expect.tensor("x", x);
    expect.tensor("x", x, with_columns(dy, x.columns()));
    expect.grad("ddown", ddown, {r, x.columns()});
    gemm(ex, ddown.tensor, dxa, matrix(x), true, false, 1, beta_of(ddown));
  }
  if (dx.wanted()) {
    expect.tensor("w", w);
    expect.rank("w", w, 2, 2);
    const int64_t k = w.dim(1);
    expect.tensor("w", w, {n, k});
    expect.tensor("down", down, {r, k});
    expect.grad("dx", dx, with_columns(dy, k));
    const Tensor into = matrix(dx.tensor);
    gemm(ex, into, rows, w, false, false, 1, beta_of(dx));
    gemm(ex, into, dxa, down, false, false, 1, 1);
  }
}

}  // namespace realfake
