#include "tools/flop_counter.h"

namespace realfake {
namespace {

thread_local const OpTable* real = nullptr;
thread_local double counted = 0;

void count(const OpCost& cost) {
  counted += cost.flops;
}

}  // namespace

// Apart from the public ops of the same names.
namespace counting {
namespace {

void gemm(Exec& ex, Out c, In a, In b, bool trans_a, bool trans_b, double alpha, double beta) {
  count(gemm_cost(c.rank() == 3 ? c.dim(0) : 1, c.dim(-2), c.dim(-1), a.dim(trans_a ? -2 : -1),
                  c.dtype()));
  real->gemm(ex, c, a, b, trans_a, trans_b, alpha, beta);
}

void conv2d_forward(Exec& ex, Out y, In x, In w, In bias, ConvParams p) {
  count(conv2d_cost(x.shape(), w.shape(), p, x.dtype()));
  real->conv2d_forward(ex, y, x, w, bias, p);
}

void conv2d_backward_data(Exec& ex, GradOut dx, In dy, In w, ConvParams p) {
  count(conv2d_cost(dx.tensor.shape(), w.shape(), p, w.dtype()));
  real->conv2d_backward_data(ex, dx, dy, w, p);
}

void conv2d_backward_weight(Exec& ex, GradOut dw, In dy, In x, ConvParams p) {
  count(conv2d_cost(x.shape(), dw.tensor.shape(), p, x.dtype()));
  real->conv2d_backward_weight(ex, dw, dy, x, p);
}

OpCost cost_of(In q, In k, int64_t heads, bool backward) {
  return attention_cost(q.dim(0), q.dim(1), k.dim(1), heads, q.dim(2) / heads, q.dtype(), backward);
}

void attention_forward(Exec& ex, Out o, Out lse, In q, In k, In v, int64_t heads, double scale,
                       bool causal) {
  count(cost_of(q, k, heads, false));
  real->attention_forward(ex, o, lse, q, k, v, heads, scale, causal);
}

void attention_backward(Exec& ex, GradOut dq, GradOut dk, GradOut dv, In grad_o, In q, In k, In v,
                        In o, In lse, int64_t heads, double scale, bool causal) {
  count(cost_of(q, k, heads, true));
  real->attention_backward(ex, dq, dk, dv, grad_o, q, k, v, o, lse, heads, scale, causal);
}

}  // namespace
}  // namespace counting

FlopCounter::FlopCounter(Exec& exec) : exec_(exec), counting_(exec.ops()) {
  require(!real, "[FlopCounter] another one is counting");
  real = &exec.ops();
  counted = 0;
  counting_.gemm = &counting::gemm;
  counting_.conv2d_forward = &counting::conv2d_forward;
  counting_.conv2d_backward_data = &counting::conv2d_backward_data;
  counting_.conv2d_backward_weight = &counting::conv2d_backward_weight;
  counting_.attention_forward = &counting::attention_forward;
  counting_.attention_backward = &counting::attention_backward;
  exec.set_ops(counting_);
}

FlopCounter::~FlopCounter() {
  exec_.set_ops(*real);
  real = nullptr;
}

double FlopCounter::flops() const {
  return counted;
}

}  // namespace realfake
