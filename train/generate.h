#pragma once
// Making the synthetic set: for each real image (or class label) N versions, from the image's own
// latent (img2img, the latent prior) or from noise, with classifier-free guidance and DDIM
// (paper.md 1.4).
#include <filesystem>
#include <string>

#include "train/embed.h"

namespace realfake {

struct GenerateOptions {
  int64_t num_inference_steps = 20;
  double strength = 0.75;  // 1 and from_noise: no latent prior
  bool from_noise = false;
  double guidance_scale = 2;
  double eta = 0;
  double lora_scale = 1;
  std::string lora;  // file; empty: the base model
  GuidanceToken guidance_token = GuidanceToken::off;
  bool token_both = false;   // replace the token of the negative prompt as well
  int64_t versions = 1;      // N of Nx
  int64_t limit = 0;         // at most this many images; 0: all
  int64_t batch_size = 100;  // images; index ranges [k B, (k+1) B) are computed whole
  int64_t shard = 0, shards = 1;
  bool grey = false;  // write the mean of the channels as a grey PNG
  uint64_t seed = 0;
};

struct GenerateResult {
  int64_t written = 0, present = 0;  // by this run; before it
};

// Image index i = version * N + sample. Its draws depend on (seed, i) only. Writes FOLDER/images,
// manifest.jsonl, classes.txt; goes on where an earlier run stopped.  Error(interrupted) after the
// batch at hand when asked to stop.
GenerateResult generate(Exec& exec, const std::filesystem::path& pipeline, const Embedded& data,
                        const GenerateOptions& options, const std::filesystem::path& folder,
                        Reporter& reporter);

// The sampler alone, for the indices given: latents (B,h,w,C) after the last step, not yet divided
// by the scaling factor.
class Sampler {
 public:
  Sampler(Exec& exec, const UNet& unet, const NoiseSchedule& schedule, double scaling_factor,
          const Embedded& data, const GenerateOptions& options);
  Tensor operator()(const std::vector<int64_t>& indices) const;

 private:
  Exec& exec_;
  const UNet& unet_;
  const NoiseSchedule& schedule_;
  double factor_;
  const Embedded& data_;
  GenerateOptions options_;
  std::vector<StepCoefficients> steps_;
  Tensor class_means_;
};

}  // namespace realfake
