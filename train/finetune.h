#pragma once
// Fine-tuning: LoRA with the denoising and the matching loss on cached latents (Real-Fake 1.2).
#include <filesystem>
#include <string>

#include "train/diffusion_loss.h"
#include "train/embed.h"

namespace realfake {

struct FinetuneOptions {
  int64_t rank = 4;
  double learning_rate = 1e-4;
  std::string lr_scheduler = "constant";  // or cosine
  int64_t lr_warmup_steps = 0;
  int64_t max_train_steps = 1000;
  int64_t train_batch_size = 8;
  double weight_decay = 1e-2;
  double max_grad_norm = 1;
  DiffusionLossOptions loss{.snr_gamma = 5, .dist_match = 0.003, .matching = Matching::official};
  std::string batch_by = "random";  // or class: each batch of one class, so that the matching term
                                    // sees class conditionals
  GuidanceToken guidance_token = GuidanceToken::off;
  int64_t checkpointing_steps = 500;
  int64_t stop_after = 0;  // stop (as if interrupted) after this many steps; 0: run to the end. For
                           // tests of resuming.
  uint64_t seed = 42;
};

struct FinetuneResult {
  double loss = 0, denoise = 0, match = 0;  // means of the last tenth of the steps
  int64_t steps = 0;
};

// Trains on all samples of `data` and writes FOLDER/pytorch_lora_weights.safetensors; checkpoints
// in FOLDER/checkpoint.safetensors (previous one kept beside it) every checkpointing_steps and on a
// requested stop. With `resume` goes on from the last checkpoint: the finished file is byte for
// byte that of an uninterrupted run.  Error(interrupted) after saving when asked to stop.
FinetuneResult finetune(Exec& exec, const std::filesystem::path& pipeline, const Embedded& data,
                        const FinetuneOptions& options, const std::filesystem::path& folder,
                        bool resume, Reporter& reporter);

// Which samples step `step` trains on: a function of (seed, step) alone.
std::vector<int64_t> batch_indices(const std::vector<int64_t>& labels, int64_t classes,
                                   bool by_class, int64_t batch, uint64_t seed, int64_t step);

}  // namespace realfake
