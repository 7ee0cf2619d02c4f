// `train`: a ResNet on real images, synthetic ones, or both.
#include <iostream>
#include <memory>

#include "tools/classifier_options.h"
#include "tools/commands.h"
#include "tools/common_run.h"

namespace realfake {
namespace {

struct Train {
  CommonOptions common;
  RunOptions run;
  ClassifierOptions options;
  std::vector<std::filesystem::path> data;
  std::string split = "train";

  void declare(Options& o) {
    o.paths("train_data_dir", &data, "data sets to train on, joined").required();
    o.text("split", &split, "part of a data set that has several");
    run.declare(o, "runs/classifier", true);
    declare_classifier(o, options);
    common.declare(o);
  }

  int go(const Options& o) {
    RunFolder folder(run.folder, o.resolved_toml(), run.display());
    options.seed = static_cast<uint64_t>(common.seed);
    Exec exec = common.open();
    const ImageSet set = read_sets(data, split, folder);
    train_classifier(exec, set, options, run.folder, run.resumes(), folder);
    folder.finish();
    std::cout << "trained on " << set.size()
              << " images: " << (run.folder / "model.safetensors").string() << "\n";
    return 0;
  }
};

}  // namespace

void declare_classifier(Options& o, ClassifierOptions& c) {
  o.text("model", &c.model, "architecture",
         {"resnet8", "resnet14", "resnet20", "resnet18", "resnet34", "resnet50", "resnet101",
          "resnet152"});
  o.integer("max_train_steps", &c.max_train_steps, 1, 1000000000,
            "optimiser steps, whatever the set's size");
  o.integer("epochs", &c.epochs, 0, 1000000, "epochs instead of steps; 0: steps");
  o.integer("batch_size", &c.batch_size, 1, 100000, "images a step");
  o.number("lr", &c.lr, 0, 100, "SGD rate");
  o.number("momentum", &c.momentum, 0, 1, "Nesterov momentum");
  o.number("weight_decay", &c.weight_decay, 0, 100, "not on norms and biases");
  o.text("lr_schedule", &c.lr_schedule, "course of the rate", {"cosine", "multistep"});
  o.integer("warmup_steps", &c.warmup_steps, 0, 1000000000, "linear warm-up");
  o.number("label_smoothing", &c.label_smoothing, 0, 1, "cross-entropy smoothing");
  o.number("ema_decay", &c.ema_decay, 0, 1, "average of the weights; 0: none");
  o.flag("augment", &c.augment, "affine augmentation");
  o.flag("flip", &c.augmentation.flip, "mirror left to right");
  o.number("mixup", &c.augmentation.mixup, 0, 100, "mixup alpha; 0: off");
  o.number("cutmix", &c.augmentation.cutmix, 0, 100, "cutmix alpha; 0: off");
  o.text("normalization", &c.normalization, "of the pixels", {"symmetric", "imagenet", "clip"});
  o.integer("checkpointing_steps", &c.checkpointing_steps, 0, 1000000000, "0: only when stopped");
}

Command make_train_command() {
  auto c = std::make_shared<Train>();
  return {"train", "train a ResNet on real, synthetic or both",
          "realfake train --train_data_dir runs/realfake_1x --output_dir runs/classifier",
          [c](Options& o) { c->declare(o); }, [c](const Options& o) { return c->go(o); }};
}

}  // namespace realfake
