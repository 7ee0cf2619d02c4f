#pragma once
// Normalisations with affine parameters. Statistics are two-pass (mean, then centred square) in T.
#include "kernels/ops.h"

namespace realfake {

// y = act((x - mean_g) rstd_g gamma_c + beta_c), act = SiLU when `silu`, else identity; statistics
// over (C/G, H, W) per sample and group, biased variance.   x, y (N,...,C); gamma, beta (C); mean,
// rstd (N,G) written by forward, read by backward.   requires C % G == 0.   torch.nn.GroupNorm (+
// SiLU).
void group_norm_forward(Exec&, Out y, Out mean, Out rstd, In x, In gamma, In beta, int64_t groups,
                        double eps, bool silu);
void group_norm_backward(Exec&, GradOut dx, GradOut dgamma, GradOut dbeta, In dy, In x, In mean,
                         In rstd, In gamma, In beta, int64_t groups, bool silu);
OpCost group_norm_cost(const Shape& x, DType, bool backward);

// y = (x - mean) rstd gamma + beta over the last dimension.   x, y (...,D); gamma, beta (D); mean,
// rstd (rows).
void layer_norm_forward(Exec&, Out y, Out mean, Out rstd, In x, In gamma, In beta, double eps);
void layer_norm_backward(Exec&, GradOut dx, GradOut dgamma, GradOut dbeta, In dy, In x, In mean,
                         In rstd, In gamma);
OpCost layer_norm_cost(const Shape& x, DType, bool backward);

// Training: y = act((x - mean_c) rstd_c gamma + beta [+ residual]), act = ReLU when `relu`;
// statistics over all but the last dimension, biased variance; running <- (1 - momentum) running +
// momentum batch (running_var with the unbiased variance, torch.nn.BatchNorm2d).  mean, rstd (C)
// written.  residual like x, or undefined.
void batch_norm_forward(Exec&, Out y, Out mean, Out rstd, Out running_mean, Out running_var, In x,
                        In gamma, In beta, In residual, double eps, double momentum, bool relu);
// Reads y only for the ReLU mask.  dresidual (like x) may be wanted only if a residual was given.
void batch_norm_backward(Exec&, GradOut dx, GradOut dgamma, GradOut dbeta, GradOut dresidual, In dy,
                         In x, In y, In mean, In rstd, In gamma, bool relu);
// Evaluation: the same formula with running_mean and running_var.
void batch_norm_inference(Exec&, Out y, In running_mean, In running_var, In x, In gamma, In beta,
                          In residual, double eps, bool relu);
OpCost batch_norm_cost(const Shape& x, DType, bool backward);

// y = x / max(|x|_2, 1e-12) per row; norm (rows) written.  torch.nn.functional.normalize.
void l2_normalize_forward(Exec&, Out y, Out norm, In x);
void l2_normalize_backward(Exec&, GradOut dx, In dy, In y, In norm);

}  // namespace realfake
