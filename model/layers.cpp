#include "model/layers.h"

namespace realfake {
namespace {

Var var_or_none(const Param& p) {
  return p ? p->var() : Var();
}

}  // namespace

Linear::Linear(const Builder& b, int64_t in, int64_t out, bool bias, Layout layout) {
  std::vector<int64_t> shape{out, in};
  if (layout == Layout::pointwise) shape = {out, in, 1, 1};
  weight_ = b.get("weight", shape, Init::fan_in(in), layout);
  if (bias) bias_ = b.get("bias", {out}, Init::fan_in(in));
}

Linear::Linear(const Builder& parent, const std::vector<std::string>& names, int64_t in,
               int64_t out, bool bias) {
  std::vector<std::string> weights, biases;
  for (const std::string& n : names) {
    weights.push_back(n + ".weight");
    biases.push_back(n + ".bias");
  }
  weight_ = parent.get_any(weights, {out, in}, Init::fan_in(in));
  if (bias) bias_ = parent.get_any(biases, {out}, Init::fan_in(in));
}

Var Linear::operator()(Tape& t, const Var& x) const {
  if (lora_)
    return lora_linear(t, x, weight_->var(), var_or_none(bias_), lora_->down->var(),
                       lora_->up->var(), lora_->scale);
  return linear(t, x, weight_->var(), var_or_none(bias_));
}

Conv2d::Conv2d(const Builder& b, int64_t in, int64_t out, int kernel, ConvParams p, bool bias)
    : Conv2d(b, in, out, kernel, p, bias, Init::fan_in(in * kernel * kernel)) {}

Conv2d::Conv2d(const Builder& b, int64_t in, int64_t out, int kernel, ConvParams p, bool bias,
               Init init)
    : params_(p) {
  weight_ = b.get("weight", {out, in, kernel, kernel}, init, Layout::conv);
  if (bias) bias_ = b.get("bias", {out}, Init::fan_in(in * kernel * kernel));
}

Var Conv2d::operator()(Tape& t, const Var& x) const {
  return conv2d(t, x, weight_->var(), var_or_none(bias_), params_);
}

GroupNorm::GroupNorm(const Builder& b, int64_t channels, int64_t groups, double eps)
    : groups_(groups), eps_(eps) {
  gamma_ = b.get("weight", {channels}, Init::ones());
  beta_ = b.get("bias", {channels}, Init::zeros());
}

Var GroupNorm::operator()(Tape& t, const Var& x, bool silu) const {
  return group_norm(t, x, gamma_->var(), beta_->var(), groups_, eps_, silu);
}

LayerNorm::LayerNorm(const Builder& b, int64_t width, double eps) : eps_(eps) {
  gamma_ = b.get("weight", {width}, Init::ones());
  beta_ = b.get("bias", {width}, Init::zeros());
}

Var LayerNorm::operator()(Tape& t, const Var& x) const {
  return layer_norm(t, x, gamma_->var(), beta_->var(), eps_);
}

}  // namespace realfake
