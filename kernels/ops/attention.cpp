#include "kernels/attention.h"

#include "kernels/backend.h"
#include "kernels/ops/expect.h"

namespace realfake {
namespace {

void check_attention(const Expect& expect, In q, In k, In v, In o, In lse, int64_t heads,
                     bool causal) {
  expect.tensor("q", q);
  expect.tensor("k", k);
  expect.rank("q", q, 3, 3);
  expect.rank("k", k, 3, 3);
  const int64_t b = q.dim(0), t = q.dim(1), s = k.dim(1), width = q.dim(2);
  expect.that(heads >= 1 && width >= heads && width % heads == 0, "expected heads to divide width ",
              width, ", got ", heads);
  expect.that(s >= 1, "expected at least one key, got k ", k.shape());
  expect.that(!causal || t == s, "expected as many keys as queries for a causal mask, got q ",
              q.shape(), " and k ", k.shape());
  expect.tensor("k", k, {b, s, width});
  expect.tensor("v", v, {b, s, width});
  expect.tensor("o", o, q.shape());
  expect.dense("lse", lse, {b, heads, t});
}

}  // namespace

void attention_forward(Exec& ex, Out o, Out lse, In q, In k, In v, int64_t heads, double scale,
                       bool causal) {
  const Expect expect(ex, "attention_forward", q);
  check_attention(expect, q, k, v, o, lse, heads, causal);
  ex.ops().attention_forward(ex, o, lse, q, k, v, heads, scale, causal);
}

void attention_backward(Exec& ex, GradOut dq, GradOut dk, GradOut dv, In grad_o, In q, In k, In v,
                        In o, In lse, int64_t heads, double scale, bool causal) {
  if (!dq.wanted() && !dk.wanted() && !dv.wanted()) return;
  const Expect expect(ex, "attention_backward", q);
  check_attention(expect, q, k, v, o, lse, heads, causal);
  expect.tensor("grad_o", grad_o, q.shape());
  expect.grad("dq", dq, q.shape());
  expect.grad("dk", dk, k.shape());
  expect.grad("dv", dv, v.shape());
  ex.ops().attention_backward(ex, dq, dk, dv, grad_o, q, k, v, o, lse, heads, scale, causal);
}

OpCost attention_cost(int64_t b, int64_t t, int64_t s, int64_t heads, int64_t d, DType dtype,
                      bool backward) {
  // Forward: two products, q and o by T, k and v by S. Backward: five products; q, o, grad_o, dq by
  // T and k, v, dk, dv by S.
  const double rows = static_cast<double>(b * heads * d) * static_cast<double>(t + s);
  const double product =
      2.0 * static_cast<double>(b * heads * d) * static_cast<double>(t) * static_cast<double>(s);
  return {static_cast<double>(size_of(dtype)) * rows * (backward ? 4 : 2),
          product * (backward ? 5 : 2)};
}

}  // namespace realfake
