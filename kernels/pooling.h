#pragma once
// Pooling and nearest upsampling, NHWC, dense.
#include "kernels/ops.h"

namespace realfake {

// y (N,C) = mean over H, W of x (N,H,W,C).
void global_average_pool_forward(Exec&, Out y, In x);
void global_average_pool_backward(Exec&, GradOut dx, In dy);

// Max pooling kernel k, stride s, padding p (padding never wins). index i32 like y: flat h*W+w of
// the winner, the first on ties.  torch.nn.MaxPool2d.
void max_pool_forward(Exec&, Out y, Out index, In x, int kernel, int stride, int padding);
void max_pool_backward(Exec&, GradOut dx, In dy, In index);

// Nearest: y (N,P,Q,C)[p,q] = x (N,H,W,C)[p*H/P, q*W/Q] (integer division).  torch
// interpolate(mode="nearest").
void upsample_nearest_forward(Exec&, Out y, In x);
void upsample_nearest_backward(Exec&, GradOut dx, In dy);

}  // namespace realfake
