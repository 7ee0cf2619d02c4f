#pragma once
// Pointwise activations, GEGLU and softmax.
#include "kernels/ops.h"

namespace realfake {

enum class Activation : uint8_t { silu, gelu, quick_gelu, relu };
// silu: x sigmoid(x); gelu: x Phi(x) with erf; quick_gelu: x sigmoid(1.702 x); relu: max(x, 0).
// y may be x.
void activation_forward(Exec&, Out y, In x, Activation);
void activation_backward(Exec&, GradOut dx, In dy, In x, Activation);
OpCost activation_cost(const Shape& x, DType, bool backward);

// y (...,D) = x[..., :D] * gelu(x[..., D:]).   x (...,2D).   diffusers GEGLU.
void geglu_forward(Exec&, Out y, In x);
void geglu_backward(Exec&, GradOut dx, In dy, In x);

// Softmax over the last dimension (max subtracted).  backward reads y.
void softmax_forward(Exec&, Out y, In x);
void softmax_backward(Exec&, GradOut dx, In dy, In y);

}  // namespace realfake
