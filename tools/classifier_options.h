#pragma once
#include "tools/cli.h"
#include "train/classifier.h"

namespace realfake {

// Declares the options of a classifier training; shared by `train` and whoever trains on the way.
void declare_classifier(Options& options, ClassifierOptions& to);

}  // namespace realfake
