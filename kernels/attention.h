#pragma once
#include "kernels/ops.h"

namespace realfake {

// o = softmax(scale q k^T [+ causal mask]) v per head, online softmax: no score matrix in memory.
//   q, o (B,T,h*d)   k, v (B,S,h*d)   rows may be strided (views of one qkv buffer), lse (B,h,T) =
//   log of the softmax sum, written by forward, read by backward.   causal: query t sees keys s <=
//   t; requires T == S. torch.nn.functional.scaled_dot_product_attention.
void attention_forward(Exec&, Out o, Out lse, In q, In k, In v, int64_t heads, double scale,
                       bool causal);
// Recomputes the probabilities from q, k, lse. All three gradients share one pass; each may be
// ignored.
void attention_backward(Exec&, GradOut dq, GradOut dk, GradOut dv, In grad_o, In q, In k, In v,
                        In o, In lse, int64_t heads, double scale, bool causal);
OpCost attention_cost(int64_t b, int64_t t, int64_t s, int64_t heads, int64_t d, DType,
                      bool backward);

}  // namespace realfake
