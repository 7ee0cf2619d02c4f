#pragma once
// The fine-tuning loss of Real-Fake on a batch of latents: denoising with min-SNR weights, plus the
// matching term.
#include <cstdint>
#include <vector>

#include "model/schedule.h"
#include "model/unet.h"

namespace realfake {

enum class Matching { off, official, rbf };
Matching parse_matching(const std::string& text);  // UsageError

struct DiffusionLossOptions {
  double snr_gamma = 5;   // 0: w = 1
  double dist_match = 0;  // factor of the matching term
  Matching matching = Matching::official;
};

// Losses are scalars (1).  total = denoise + dist_match * match (paper.md 1.2: L = L_dm + 0.003
// L_mmd).
struct DiffusionLoss {
  Var total, denoise, match, prediction;  // match undefined with Matching::off
};

// latents, noise (N,h,w,C) NHWC; timesteps (N); context (N,T,D).  The target is the noise, or the
// velocity where the schedule says so.
DiffusionLoss diffusion_loss(Tape& tape, const UNet& unet, const NoiseSchedule& schedule,
                             const Tensor& latents, const Tensor& noise,
                             const std::vector<int64_t>& timesteps, const Tensor& context,
                             const DiffusionLossOptions& options);

// Per-sample numbers as a tensor (N) of the latents' dtype.
Tensor sample_numbers(Exec& exec, const std::vector<double>& values, DType dtype);

}  // namespace realfake
