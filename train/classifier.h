#pragma once
// Training and measuring a ResNet on images in memory (paper.md 3).
#include <filesystem>
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/dataset.h"
#include "model/pipeline.h"
#include "train/reporter.h"

namespace realfake {

struct ClassifierOptions {
  std::string model = "resnet8";
  int64_t max_train_steps = 2400;  // optimiser steps, whatever the set's size, so that sets compare
  int64_t epochs = 0;              // > 0: instead of steps
  int64_t batch_size = 64;
  double lr = 0.1, momentum = 0.9, weight_decay = 5e-4;
  std::string lr_schedule = "cosine";             // or multistep
  std::vector<int64_t> milestones{50, 100, 150};  // epochs, multistep only
  double gamma = 0.2;                             // multistep only
  int64_t warmup_steps = 50;
  double label_smoothing = 0.1;
  double ema_decay = 0;  // 0: no average
  bool augment = true;
  AugmentConfig augmentation;
  std::string normalization = "symmetric";  // or imagenet, clip
  int64_t checkpointing_steps = 1000;
  int64_t stop_after = 0;  // as in FinetuneOptions
  uint64_t seed = 0;
};

// Trains on `set`; FOLDER (when not empty) receives model.safetensors, classes.txt and checkpoints.
// With `resume` goes on from the last checkpoint, to the same bytes.
std::unique_ptr<Component<ResNet>> train_classifier(Exec& exec, const ImageSet& set,
                                                    const ClassifierOptions& options,
                                                    const std::filesystem::path& folder,
                                                    bool resume, Reporter& reporter);

struct ClassAccuracy {
  std::string name;
  int64_t count = 0, correct = 0;
};
struct Evaluation {
  int64_t count = 0;
  double top1 = 0, top5 = 0;     // percent
  double loss = 0;               // mean cross-entropy
  double calibration_error = 0;  // expected calibration error, 15 bins
  std::vector<ClassAccuracy> classes;
  std::vector<int64_t> predicted;  // (N)
};

// Logits (N,K) and, when wanted, pooled features (N,F) of the images, in evaluation mode.
Tensor classifier_logits(Exec& exec, const ResNet& net, const ImageSet& set,
                         const std::string& normalization, int64_t batch,
                         Tensor* features = nullptr);
Evaluation evaluate_classifier(Exec& exec, const ResNet& net, const ImageSet& set,
                               const std::string& normalization);

// The normalisation by name for 3 channels.  UsageError.
Normalization parse_normalization(const std::string& name);

}  // namespace realfake
