#include "model/resnet.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace realfake {
namespace {

// He et al. initialisation as timm and torchvision use it: N(0, 2 / fan_out).
Init fan_out(int64_t out, int kernel) {
  return Init::gaussian(std::sqrt(2.0 / static_cast<double>(out * kernel * kernel)));
}

Conv2d conv(const Builder& b, int64_t in, int64_t out, int kernel, int stride) {
  return Conv2d(b, in, out, kernel, ConvParams::same(kernel, stride), false, fan_out(out, kernel));
}

}  // namespace

ResNetConfig ResNetConfig::preset(const std::string& name, int64_t classes) {
  static const std::map<std::string, std::pair<std::vector<int64_t>, bool>> imagenet{
      {"resnet18", {{2, 2, 2, 2}, false}},
      {"resnet34", {{3, 4, 6, 3}, false}},
      {"resnet50", {{3, 4, 6, 3}, true}},
      {"resnet101", {{3, 4, 23, 3}, true}},
      {"resnet152", {{3, 8, 36, 3}, true}}};
  ResNetConfig c;
  c.classes = classes;
  if (name == "resnet8" || name == "resnet14" || name == "resnet20") {
    const int64_t n = name == "resnet8" ? 1 : name == "resnet14" ? 2 : 3;
    c.blocks = {n, n, n};
    return c;
  }
  const auto it = imagenet.find(name);
  if (it == imagenet.end())
    throw UsageError("--model is '" + name +
                     "', expected resnet8, resnet14, resnet20, resnet18, resnet34, resnet50, "
                     "resnet101 or resnet152");
  c.widths = {64, 128, 256, 512};
  c.blocks = it->second.first;
  c.bottleneck = it->second.second;
  c.cifar_stem = false;
  return c;
}

ResNetConfig ResNetConfig::infer(
    const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors,
    const std::string& where) {
  std::map<std::string, std::vector<int64_t>> shapes(tensors.begin(), tensors.end());
  const auto need = [&](const std::string& key, size_t rank) {
    const auto it = shapes.find(key);
    if (it == shapes.end())
      throw InputError(concat(where, ": missing '", key, "' (not a ResNet?)"));
    if (it->second.size() != rank)
      throw InputError(concat(where, ": '", key, "' has rank ", it->second.size()));
    return it->second;
  };
  ResNetConfig c;
  const auto stem = need("conv1.weight", 4), head = need("fc.weight", 2);
  c.in_channels = stem[1];
  c.cifar_stem = stem[2] == 3;
  c.classes = head[0];
  c.widths.clear();
  c.blocks.clear();
  c.bottleneck = shapes.contains("layer1.0.conv3.weight");
  for (int stage = 1; shapes.contains(concat("layer", stage, ".0.conv1.weight")); ++stage) {
    c.widths.push_back(need(concat("layer", stage, ".0.conv1.weight"), 4)[0]);
    int64_t n = 0;
    while (shapes.contains(concat("layer", stage, ".", n, ".conv1.weight"))) ++n;
    c.blocks.push_back(n);
  }
  if (c.widths.empty())
    throw InputError(concat(where, ": missing 'layer1.0.conv1.weight' (not a ResNet?)"));
  return c;
}

ResNet::Norm::Norm(const Builder& b, int64_t channels, bool zero_gamma) {
  gamma = b.get("weight", {channels}, zero_gamma ? Init::zeros() : Init::ones());
  beta = b.get("bias", {channels}, Init::zeros());
  running_mean = b.get("running_mean", {channels}, Init::zeros());
  running_var = b.get("running_var", {channels}, Init::ones());
}

Var ResNet::Norm::operator()(Tape& t, const Var& x, const Var& residual, bool relu,
                             bool training) const {
  return batch_norm(t, x, gamma->var(), beta->var(), running_mean->value, running_var->value,
                    residual, 1e-5, 0.1, relu, training);
}

ResNet::ResNet(const Builder& b, const ResNetConfig& c) : config_(c) {
  const int64_t expansion = c.bottleneck ? 4 : 1, first = c.cifar_stem ? c.widths[0] : 64;
  stem_ = c.cifar_stem ? conv(b / "conv1", c.in_channels, first, 3, 1)
                       : conv(b / "conv1", c.in_channels, first, 7, 2);
  stem_norm_ = Norm(b / "bn1", first);
  int64_t width = first;
  for (size_t stage = 0; stage < c.widths.size(); ++stage)
    for (int64_t i = 0; i < c.blocks[stage]; ++i) {
      const Builder at = b / concat("layer", stage + 1) / i;
      const int64_t mid = c.widths[stage], out = mid * expansion;
      const int stride = stage > 0 && i == 0 ? 2 : 1;
      Block block;
      if (c.bottleneck) {
        block.convs = {conv(at / "conv1", width, mid, 1, 1),
                       conv(at / "conv2", mid, mid, 3, stride), conv(at / "conv3", mid, out, 1, 1)};
        block.norms = {Norm(at / "bn1", mid), Norm(at / "bn2", mid), Norm(at / "bn3", out, true)};
      } else {
        block.convs = {conv(at / "conv1", width, mid, 3, stride),
                       conv(at / "conv2", mid, mid, 3, 1)};
        block.norms = {Norm(at / "bn1", mid), Norm(at / "bn2", mid, true)};
      }
      block.has_down = stride != 1 || width != out;
      if (block.has_down) {
        block.down_conv = conv(at / "downsample" / 0, width, out, 1, stride);
        block.down_norm = Norm(at / "downsample" / 1, out);
      }
      blocks_.push_back(std::move(block));
      width = out;
    }
  head_ = Linear(b / "fc", width, c.classes);
}

Var ResNet::operator()(Tape& t, const Var& x, bool training, Var* features) const {
  Var h = stem_norm_(t, stem_(t, x), Var(), true, training);
  if (!config_.cifar_stem) h = max_pool(t, h, 3, 2, 1);
  for (const Block& block : blocks_) {
    Var y = h;
    const size_t last = block.convs.size() - 1;
    for (size_t i = 0; i < last; ++i)
      y = block.norms[i](t, block.convs[i](t, y), Var(), true, training);
    const Var shortcut =
        block.has_down ? block.down_norm(t, block.down_conv(t, h), Var(), false, training) : h;
    h = block.norms[last](t, block.convs[last](t, y), shortcut, true, training);
  }
  const Var pooled = global_average_pool(t, h);
  if (features) *features = pooled;
  return head_(t, pooled);
}

bool ResNet::is_learned(const Parameter& p) {
  return p.name.find("running_") == std::string::npos;
}

}  // namespace realfake
