#pragma once
// Optimisers: one launch over many tensors. Parameters, gradients and state in T, dense.
#include <vector>

#include "kernels/ops.h"

namespace realfake {

struct AdamWParams {
  double lr = 1e-4, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 1e-2;
};
// torch.optim.AdamW: p -= lr wd p; m, v moments; p -= lr mhat / (sqrt(vhat) + eps). `step` counts
// from 1. decay[i] == 0 leaves tensor i without weight decay. grad_scale multiplies every gradient
// first (clipping).
struct AdamWTensor {
  Tensor param, grad, m, v;
  bool decay = true;
};
void adamw_step(Exec&, const std::vector<AdamWTensor>&, AdamWParams, int64_t step,
                double grad_scale);

struct SgdParams {
  double lr = 0.1, momentum = 0.9, weight_decay = 5e-4;
  bool nesterov = true;
};
// torch.optim.SGD: g += wd p; buf = momentum buf + g (buf = g when step == 1); p -= lr (g +
// momentum buf) or lr buf.
struct SgdTensor {
  Tensor param, grad, buffer;
  bool decay = true;
};
void sgd_step(Exec&, const std::vector<SgdTensor>&, SgdParams, int64_t step, double grad_scale);

// sqrt of the sum of squares over all tensors.  torch clip_grad_norm_'s total norm.
double global_norm(Exec&, const std::vector<Tensor>&);

// average = decay average + (1 - decay) value, for each pair.
void ema_update(Exec&, const std::vector<Tensor>& average, const std::vector<Tensor>& value,
                double decay);

}  // namespace realfake
