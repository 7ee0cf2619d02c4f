#pragma once
// Noise schedules and samplers from scheduler_config.json (diffusers DDIMScheduler arithmetic).
#include <string>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/json.h"

namespace realfake {

enum class Prediction { epsilon, velocity };

struct NoiseSchedule {
  std::vector<double> alphas_cumprod;  // abar_t, computed in float as the reference does
  Prediction prediction = Prediction::epsilon;
  bool set_alpha_to_one = false;
  int64_t steps_offset = 1;
  std::string spacing = "leading";

  static NoiseSchedule read(const JsonReader& config);
  static NoiseSchedule stable_diffusion();  // SD 1.5: scaled_linear 0.00085..0.012, 1000 steps
  int64_t steps() const { return static_cast<int64_t>(alphas_cumprod.size()); }
  double abar(int64_t t) const { return alphas_cumprod.at(static_cast<size_t>(t)); }
  double snr(int64_t t) const { return abar(t) / (1 - abar(t)); }
  // Min-SNR weight (Hang et al. 2023): min(SNR, gamma) / SNR, for velocity min(SNR, gamma) / (SNR +
  // 1); 1 when gamma == 0.
  double min_snr_weight(int64_t t, double gamma) const;
};

// One sampler update y = cx x + ce model_output + cn noise.
struct StepCoefficients {
  int64_t timestep;
  double cx, ce, cn;
};

struct SamplerOptions {
  int64_t steps = 20;
  double strength =
      1;  // img2img: int(steps strength) of the steps run, the last ones; 1 = from noise
  double eta = 0;
};

// DDIM (Song et al. 2020, eq. 12), the steps that run, first to last. UsageError on impossible
// options.
std::vector<StepCoefficients> ddim_steps(const NoiseSchedule& schedule,
                                         const SamplerOptions& options);
// All timesteps of the sampler before truncation by strength, descending.
std::vector<int64_t> ddim_timesteps(const NoiseSchedule& schedule, int64_t steps);

}  // namespace realfake
