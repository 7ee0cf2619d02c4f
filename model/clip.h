#pragma once
// CLIP text and image towers (transformers CLIPTextModel, CLIPVisionModelWithProjection).
#include <vector>

#include "kernels/base/json.h"
#include "model/layers.h"

namespace realfake {

struct ClipConfig {
  int64_t hidden_size = 0, intermediate_size = 0, layers = 0, heads = 0;
  int64_t projection_dim = 0;
  double eps = 1e-5;
  Activation act = Activation::quick_gelu;
  // text
  int64_t vocab_size = 0, max_positions = 0;
  // image
  int64_t image_size = 0, patch_size = 0, channels = 3;

  static ClipConfig text(const JsonReader& config);
  static ClipConfig vision(const JsonReader& config);
};

class ClipEncoderLayer {
 public:
  ClipEncoderLayer(const Builder& b, const ClipConfig& c);
  Var operator()(Tape& t, const Var& x, bool causal) const;  // (B,T,D) -> (B,T,D)

 private:
  LayerNorm norm1_, norm2_;
  Linear q_, k_, v_, out_, fc1_, fc2_;
  int64_t heads_;
  Activation act_;
};

class ClipText {
 public:
  // `b` at the root of the component; the `text_model.` prefix may be there or not.
  ClipText(const Builder& b, const ClipConfig& c);
  // ids i64 (B,T), T <= max_positions -> last_hidden_state (B,T,D), after the final norm.
  Var operator()(Tape& t, const Tensor& ids) const;
  const ClipConfig& config() const { return config_; }

 private:
  ClipConfig config_;
  Param tokens_, positions_;
  std::vector<ClipEncoderLayer> layers_;
  LayerNorm final_norm_;
};

class ClipVision {
 public:
  ClipVision(const Builder& b, const ClipConfig& c);
  // pixels (B,H,W,3), normalised -> image_embeds (B,P), not L2-normalised.
  Var operator()(Tape& t, const Var& pixels) const;
  const ClipConfig& config() const { return config_; }

 private:
  ClipConfig config_;
  Param class_embedding_, positions_;
  Conv2d patches_;
  LayerNorm pre_norm_, post_norm_;
  std::vector<ClipEncoderLayer> layers_;
  Linear projection_;
};

Activation parse_activation(const std::string& name, const std::string& where);

}  // namespace realfake
