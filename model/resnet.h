#pragma once
// ResNet classifiers under torchvision's key names. Basic blocks; 3x3 stem (CIFAR) or 7x7 stem with
// max pooling.
#include <string>
#include <vector>

#include "model/layers.h"

namespace realfake {

struct ResNetConfig {
  std::vector<int64_t> widths{16, 32, 64};  // of the stages; stage i > 0 halves the map
  std::vector<int64_t> blocks{1, 1, 1};
  int64_t classes = 10, in_channels = 3;
  bool cifar_stem = true;
  bool bottleneck = false;  // v1.5: stride in conv2, expansion 4
  // "resnet8", "resnet20" (CIFAR), "resnet18", "resnet34", "resnet50", "resnet101", "resnet152";
  // UsageError otherwise.
  static ResNetConfig preset(const std::string& name, int64_t classes);
  // Read off the keys and shapes of a weight file: name -> file shape.
  static ResNetConfig infer(
      const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors,
      const std::string& where);
};

class ResNet {
 public:
  ResNet(const Builder& b, const ResNetConfig& c);
  // x (N,H,W,3) -> logits (N,K). `training`: batch statistics, and running ones are updated.
  // features, when given, receives the pooled (N,F) input of the last layer.
  Var operator()(Tape& t, const Var& x, bool training, Var* features = nullptr) const;
  const ResNetConfig& config() const { return config_; }
  // Which parameters are learned: running statistics are stored but not trained.
  static bool is_learned(const Parameter& p);

 private:
  struct Norm {
    Param gamma, beta, running_mean, running_var;
    Norm() = default;
    Norm(const Builder& b, int64_t channels, bool zero_gamma = false);
    Var operator()(Tape& t, const Var& x, const Var& residual, bool relu, bool training) const;
  };
  struct Block {
    std::vector<Conv2d> convs;
    std::vector<Norm> norms;
    Conv2d down_conv;
    Norm down_norm;
    bool has_down = false;
  };
  ResNetConfig config_;
  Conv2d stem_;
  Norm stem_norm_;
  std::vector<Block> blocks_;
  Linear head_;
};

}  // namespace realfake
