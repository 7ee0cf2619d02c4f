#pragma once
// Matrix products. cpu: oneDNN sgemm for f32, loops for f64; cuda: cuBLASLt; emulated: the cpu's.
#include "kernels/ops.h"

namespace realfake {

// c = alpha * op(a) op(b) + beta * c.   op(a) (M,K), op(b) (K,N), c (M,N), T; rows may be strided.
// Rank 3: the leading dimension is a batch (equal in all three; each matrix dense in its rows).
// beta == 0 does not read c.
void gemm(Exec&, Out c, In a, In b, bool trans_a = false, bool trans_b = false, double alpha = 1,
          double beta = 0);
OpCost gemm_cost(int64_t batch, int64_t m, int64_t n, int64_t k, DType t);

// y = x w^T + bias (+ y when `accumulate`).   x (...,K), w (N,K), bias (N) or undefined, y (...,N).
void linear_forward(Exec&, Out y, In x, In w, In bias, bool accumulate = false);
// dx (...,K) = dy w;  dw (N,K) = dy^T x;  dbias (N) = column sums of dy.  Reads x only for dw, w
// only for dx.
void linear_backward(Exec&, GradOut dx, GradOut dw, GradOut dbias, In dy, In x, In w);

// y = x w^T + bias + scale * (x down^T) up^T.  down (R,K), up (N,R); xa (...,R) = x down^T is
// written by forward and read by backward.  diffusers LoRACompatibleLinear; scale = alpha / R times
// the user's.
void lora_linear_forward(Exec&, Out y, Out xa, In x, In w, In bias, In down, In up, double scale);
// dup = scale dy^T xa;  ddown = scale (dy up)^T x;  dx = dy w + scale (dy up) down.  w, bias
// frozen.
void lora_linear_backward(Exec&, GradOut dx, GradOut ddown, GradOut dup, In dy, In x, In xa, In w,
                          In down, In up, double scale);

}  // namespace realfake
