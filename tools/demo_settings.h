#pragma once
// What the demo runs with. Chosen on the validation part of the 1,000 training digits
// (docs/demo.md), never on the 797.
#include <filesystem>
#include <string>

#include "train/classifier.h"
#include "train/finetune.h"
#include "train/generate.h"

namespace realfake {

struct DemoSettings {
  std::filesystem::path model = "data/base", data = "data/digits", printed = "data/printed";
  bool tiny = false;        // see make_tiny
  bool validation = false;  // train on the first half of the training digits, measure on the second
  int64_t seeds = 1, first_seed = 0;
  int64_t train_limit = 0;  // first images of the training part only; 0: all

  FinetuneOptions finetune;   // of the full method, without and with the matching term
  double dist_match = 0.003;  // of the rows with the matching term
  std::string mmd = "official";
  bool token_in_method = false;  // realfake_*: with the image token
  GenerateOptions generate;
  int64_t versions = 5;
  ClassifierOptions classifier;

  int64_t few_per_class = 5, few_finetune_steps = 200, few_versions = 20,
          few_classifier_steps = 600;
  double few_strength = 0.75;

  std::vector<std::string> rows;  // only these rows of the table; empty: all

  DemoSettings();
  void make_tiny();  // one small step of each stage: for the emulator
  Json json() const;
};

}  // namespace realfake
