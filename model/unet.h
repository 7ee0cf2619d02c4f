#pragma once
// UNet2DConditionModel (diffusers): SD 1.x and 2.x, and the tiny pipeline that ships, from the same
// config file.
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/json.h"
#include "model/blocks.h"

namespace realfake {

struct UNetConfig {
  std::vector<int64_t> channels;  // block_out_channels
  std::vector<bool> down_attention,
      up_attention;            // CrossAttn*Block2D or plain, in the file's order
  std::vector<int64_t> heads;  // per level: the file's attention_head_dim is a number of heads
  int64_t layers_per_block = 2, groups = 32, in_channels = 4, out_channels = 4, context_dim = 0;
  int64_t sample_size = 64;
  double eps = 1e-5;
  bool linear_projection = false, flip_sin_to_cos = true;
  double freq_shift = 0;
  static UNetConfig read(const JsonReader& config);
};

// diffusers Attention of a BasicTransformerBlock: q from x, k and v from `context` (or x).
class CrossAttention {
 public:
  CrossAttention(const Builder& b, int64_t width, int64_t context_width, int64_t heads);
  Var operator()(Tape& t, const Var& x, const Var& context) const;
  std::vector<std::pair<std::string, Linear*>> linears();  // "to_q", "to_k", "to_v", "to_out.0"

 private:
  Linear q_, k_, v_, out_;
  int64_t heads_;
};

// diffusers Transformer2DModel with one BasicTransformerBlock.
class SpatialTransformer {
 public:
  SpatialTransformer(const Builder& b, int64_t channels, int64_t heads, int64_t groups,
                     int64_t context_dim, bool linear_projection);
  // x (N,H,W,C), context (N,T,D)
  Var operator()(Tape& t, const Var& x, const Var& context) const;
  void collect(const std::string& prefix, std::vector<std::pair<std::string, Linear*>>& into);

 private:
  GroupNorm norm_;
  Linear in_, out_;
  LayerNorm norm1_, norm2_, norm3_;
  CrossAttention self_, cross_;
  Linear feed_in_, feed_out_;
};

class UNet {
 public:
  UNet(const Builder& b, const UNetConfig& c);
  // x (N,h,w,Cin), timestep i64 (N), context (N,T,D) -> (N,h,w,Cout). h and w need not be multiples
  // of anything: upsampling goes to the skip's size.
  Var operator()(Tape& t, const Var& x, const Tensor& timestep, const Var& context) const;
  // Called after each block with its diffusers name ("time_embedding", "conv_in", "down_blocks.0",
  // ...): for parity tests.
  using Probe = std::function<void(const std::string&, const Var&)>;
  void set_probe(Probe probe) { probe_ = std::move(probe); }
  const UNetConfig& config() const { return config_; }
  // The linear layers that LoRA adapts, under their published names
  // ("down_blocks.0.attentions.0....attn1.to_q").
  std::vector<std::pair<std::string, Linear*>> attention_linears();

 private:
  struct Level {
    std::vector<ResnetBlock> resnets;
    std::vector<SpatialTransformer> attentions;  // as many as resnets, or none
    Conv2d resample;
    bool resamples = false;
  };
  Var run(Tape& t, const Level& level, size_t i, Var x, const Var& silu_time,
          const Var& context) const;
  UNetConfig config_;
  Conv2d in_, conv_out_;
  Linear time1_, time2_;
  std::vector<Level> down_, up_;
  Level mid_;
  GroupNorm norm_out_;
  Probe probe_;
};

}  // namespace realfake
