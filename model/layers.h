#pragma once
// The small modules that networks are made of. Each takes a Builder at its own prefix and writes
// forward only.
#include "model/functions.h"
#include "model/parameters.h"

namespace realfake {

// One low-rank branch beside a frozen linear layer; scale = alpha / rank times the user's. Shared
// between the layer and the Lora object that owns it (model/lora.h).
struct LoraBranch {
  Param down, up;  // (R,K), (N,R)
  double scale = 1;
};

// torch.nn.Linear: weight (N,K), bias (N) if `bias`. `Layout::pointwise`: stored as a 1x1
// convolution.
class Linear {
 public:
  Linear() = default;
  Linear(const Builder& b, int64_t in, int64_t out, bool bias = true,
         Layout layout = Layout::plain);
  // Several published names for the same layer.
  Linear(const Builder& parent, const std::vector<std::string>& names, int64_t in, int64_t out,
         bool bias);
  Var operator()(Tape& t, const Var& x) const;
  const Param& weight() const { return weight_; }
  int64_t in() const { return weight_->value.dim(1); }
  int64_t out() const { return weight_->value.dim(0); }
  // At most one branch is active at a time.
  void set_lora(std::shared_ptr<LoraBranch> branch) { lora_ = std::move(branch); }

 private:
  Param weight_, bias_;
  std::shared_ptr<LoraBranch> lora_;
};

class Conv2d {
 public:
  Conv2d() = default;
  Conv2d(const Builder& b, int64_t in, int64_t out, int kernel, ConvParams p, bool bias = true);
  Conv2d(const Builder& b, int64_t in, int64_t out, int kernel, ConvParams p, bool bias, Init init);
  Var operator()(Tape& t, const Var& x) const;
  int64_t out() const { return weight_->value.dim(0); }

 private:
  Param weight_, bias_;
  ConvParams params_;
};

class GroupNorm {
 public:
  GroupNorm() = default;
  GroupNorm(const Builder& b, int64_t channels, int64_t groups, double eps);
  Var operator()(Tape& t, const Var& x, bool silu) const;

 private:
  Param gamma_, beta_;
  int64_t groups_ = 1;
  double eps_ = 1e-5;
};

class LayerNorm {
 public:
  LayerNorm() = default;
  LayerNorm(const Builder& b, int64_t width, double eps);
  Var operator()(Tape& t, const Var& x) const;

 private:
  Param gamma_, beta_;
  double eps_ = 1e-5;
};

}  // namespace realfake
