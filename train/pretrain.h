#pragma once
// Making the tiny base pipeline that ships, from printed digits alone: a BPE vocabulary, an
// AutoencoderKL, a contrastive CLIP pair and a text-conditional UNet, in the folder layout of
// Stable Diffusion 1.5.
#include <filesystem>
#include <string>
#include <vector>

#include "data/printed_digits.h"
#include "train/reporter.h"

namespace realfake {

class Exec;

struct PretrainOptions {
  int64_t vae_steps = 1500, clip_steps = 2200, unet_steps = 2000, unet_rich_steps = 1200;
  int64_t batch = 128, vae_batch = 64;
  int64_t latents = 30000;  // cached printed latents of each UNet stage
  double token_probability =
      0.5;  // stage 2: share of samples whose last text token is the image embedding
  int64_t check_images = 500;       // generated and recognised at the end
  int64_t classifier_steps = 1500;  // of the printed-digit classifier that judges
  int64_t checkpointing_steps = 250;
  uint64_t seed = 0;
};

struct PretrainResult {
  double vae_mse = 0;  // on printed digits not trained on
  double recognised_percent =
      0;  // generated from text, told right by a classifier of printed digits
  double scaling_factor = 0;
};

// Writes FOLDER/{unet,vae,text_encoder,image_encoder,tokenizer,feature_extractor,scheduler},
// model_index.json and pretrain.json (the manifest of the run). A stage that is complete is not run
// again; `resume` goes on inside a stage.
PretrainResult pretrain(Exec& exec, const std::vector<Face>& faces, const PretrainOptions& options,
                        const std::filesystem::path& folder, bool resume, Reporter& reporter);

}  // namespace realfake
