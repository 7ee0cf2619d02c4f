#pragma once
// Arithmetic of the diffusion process on latents (N,...).
#include "kernels/ops.h"

namespace realfake {

// y_n = a_n x_n + b_n e_n;  a, b (N).   add_noise: a = sqrt(abar), b = sqrt(1-abar); velocity: a =
// -sqrt(1-abar), x <-> e.
void combine_samples(Exec&, Out y, In x, In e, In a, In b);

// z = factor (mu + exp(logvar / 2) e).   moments (N,...,2C) = [mu | logvar], logvar clamped to
// [-30, 20]; e, z (N,...,C). diffusers DiagonalGaussianDistribution.sample.
void posterior_sample_forward(Exec&, Out z, In moments, In e, double factor);
void posterior_sample_backward(Exec&, GradOut dmoments, In dz, In moments, In e, double factor);

// Classifier-free guidance and one deterministic sampler update in one pass over the latents:
//   e = uncond + guidance (cond - uncond)     model_output (2N,...) = [uncond; cond], or (N,...)
//   when guidance == 1 y = cx x + ce e [+ cn noise]              noise (N,...) or undefined
// DDIM, DDPM and Euler-like steps are choices of the three coefficients. y may be x.
void guided_step(Exec&, Out y, In x, In model_output, In noise, double guidance, double cx,
                 double ce, double cn);

}  // namespace realfake
