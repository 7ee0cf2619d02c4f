// `finetune`: LoRA on the cached latents of a real data set.
#include "train/finetune.h"

#include <iostream>
#include <memory>

#include "tools/commands.h"
#include "tools/common_run.h"

namespace realfake {
namespace {

struct Finetune {
  CommonOptions common;
  RunOptions run;
  FinetuneOptions options;
  std::filesystem::path model, embedded;
  std::string mmd = "official", token = "off";

  Finetune() { common.seed = 42; }

  void declare(Options& o) {
    o.path("model", &model, "pipeline root (diffusers folder)").required();
    o.path("embedded", &embedded, "embedded.safetensors of `embed`").required();
    run.declare(o, "runs/finetune", true);
    o.integer("rank", &options.rank, 1, 4096, "LoRA rank");
    o.number("learning_rate", &options.learning_rate, 0, 10, "AdamW rate");
    o.text("lr_scheduler", &options.lr_scheduler, "course of the rate", {"constant", "cosine"});
    o.integer("lr_warmup_steps", &options.lr_warmup_steps, 0, 1000000000, "linear warm-up");
    o.integer("max_train_steps", &options.max_train_steps, 1, 1000000000, "optimiser steps");
    o.integer("train_batch_size", &options.train_batch_size, 1, 100000, "images a step");
    o.number("adam_weight_decay", &options.weight_decay, 0, 100, "AdamW weight decay");
    o.number("max_grad_norm", &options.max_grad_norm, 0, 1e9, "clipping; 0: none");
    o.number("snr_gamma", &options.loss.snr_gamma, 0, 1e6, "min-SNR weighting; 0: none");
    o.number("dist_match", &options.loss.dist_match, 0, 1e6, "factor of the matching term");
    o.text("mmd", &mmd, "matching term: published sum form, kernel estimator, or none",
           {"off", "official", "rbf"});
    o.text("batch_by", &options.batch_by, "class: every batch holds one class",
           {"random", "class"});
    o.text("guidance_token", &token, "what replaces the last text token",
           {"off", "image", "class-mean"});
    o.integer("checkpointing_steps", &options.checkpointing_steps, 0, 1000000000,
              "0: only when stopped");
    common.declare(o);
  }

  int go(const Options& o) {
    RunFolder folder(run.folder, o.resolved_toml(), run.display());
    options.loss.matching = parse_matching(mmd);
    options.guidance_token = parse_guidance_token(token);
    options.seed = static_cast<uint64_t>(common.seed);
    Exec exec = common.open();
    const Embedded data = load_embedded(exec, embedded, "");
    require_fits(data, model, embedded.string());
    const FinetuneResult r =
        finetune(exec, model, data, options, run.folder, run.resumes(), folder);
    folder.finish();
    std::cout << "steps: " << r.steps << "\nloss: " << r.loss << " (denoising " << r.denoise
              << ", matching " << r.match
              << ")\nLoRA: " << (run.folder / "pytorch_lora_weights.safetensors").string() << "\n";
    return 0;
  }
};

}  // namespace

Command make_finetune_command() {
  auto c = std::make_shared<Finetune>();
  return {"finetune", "adapt the UNet to a data set: LoRA with denoising and matching loss",
          "realfake finetune --model data/base --embedded runs/embed/embedded.safetensors "
          "--output_dir runs/lora",
          [c](Options& o) { c->declare(o); }, [c](const Options& o) { return c->go(o); }};
}

}  // namespace realfake
