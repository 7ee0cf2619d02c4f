#include "tools/demo_settings.h"

namespace realfake {

DemoSettings::DemoSettings() {
  finetune.rank = 4;
  finetune.learning_rate = 5e-3;
  finetune.lr_scheduler = "cosine";
  finetune.lr_warmup_steps = 20;
  finetune.max_train_steps = 600;
  finetune.train_batch_size = 32;
  finetune.batch_by = "class";
  finetune.checkpointing_steps = 200;
  generate.num_inference_steps = 20;
  generate.strength = 0.5;
  generate.guidance_scale = 1.5;
  generate.batch_size = 100;
  generate.grey = true;
  classifier.max_train_steps = 2400;
}

void DemoSettings::make_tiny() {
  tiny = true;
  train_limit = 24;
  finetune.max_train_steps = 1;
  finetune.train_batch_size = 2;
  generate.num_inference_steps = 2;
  generate.limit = 2;
  generate.batch_size = 2;
  versions = 1;
  classifier.max_train_steps = 1;
  classifier.batch_size = 4;
  few_per_class = 1;
  few_finetune_steps = 1;
  few_versions = 1;
  few_classifier_steps = 1;
}

Json DemoSettings::json() const {
  return {{"fine-tuning",
           {{"rank", finetune.rank},
            {"learning_rate", finetune.learning_rate},
            {"schedule", finetune.lr_scheduler},
            {"steps", finetune.max_train_steps},
            {"batch", finetune.train_batch_size},
            {"batch_by", finetune.batch_by},
            {"snr_gamma", finetune.loss.snr_gamma},
            {"mmd", mmd},
            {"dist_match", dist_match}}},
          {"generation",
           {{"sampler", "DDIM"},
            {"steps", generate.num_inference_steps},
            {"strength", generate.strength},
            {"guidance_scale", generate.guidance_scale},
            {"image_token", token_in_method}}},
          {"classifier",
           {{"model", classifier.model},
            {"steps", classifier.max_train_steps},
            {"batch", classifier.batch_size},
            {"lr", classifier.lr},
            {"label_smoothing", classifier.label_smoothing}}},
          {"few shots",
           {{"digits_per_class", few_per_class},
            {"fine-tuning_steps", few_finetune_steps},
            {"strength", few_strength},
            {"versions", few_versions},
            {"classifier_steps", few_classifier_steps}}},
          {"data",
           {{"measured_on",
             validation ? "validation half of the training digits" : "held-out test digits"},
            {"seeds", seeds}}}};
}

}  // namespace realfake
