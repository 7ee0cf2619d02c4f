#pragma once
// AutoencoderKL (diffusers): images (N,H,W,3) in [-1,1] <-> latents (N,h,w,C).
#include <vector>

#include "kernels/base/json.h"
#include "model/blocks.h"

namespace realfake {

struct VaeConfig {
  std::vector<int64_t> channels;  // block_out_channels
  int64_t layers_per_block = 2, groups = 32, latent_channels = 4, in_channels = 3, out_channels = 3;
  double scaling_factor = 0.18215;
  static VaeConfig read(const JsonReader& config);
  int64_t factor() const {
    return int64_t{1} << (channels.size() - 1);
  }  // image side / latent side
};

// diffusers Attention in the VAE's middle: group norm, one head, residual.
class VaeAttention {
 public:
  VaeAttention(const Builder& b, int64_t channels, int64_t groups);
  Var operator()(Tape& t, const Var& x) const;

 private:
  GroupNorm norm_;
  Linear q_, k_, v_, out_;
};

class Vae {
 public:
  Vae(const Builder& b, const VaeConfig& c);
  // (N,H,W,3) -> moments (N,h,w,2C) = [mean | logvar], logvar not yet clamped.
  Var encode(Tape& t, const Var& image) const;
  // latent as the network takes it (already divided by scaling_factor) -> (N,H,W,3)
  Var decode(Tape& t, const Var& latent) const;
  const VaeConfig& config() const { return config_; }

 private:
  struct Level {
    std::vector<ResnetBlock> resnets;
    Conv2d resample;
    bool resamples = false;
  };
  struct Middle {
    ResnetBlock first, second;
    VaeAttention attention;
    Middle(const Builder& b, int64_t channels, int64_t groups);
    Var operator()(Tape& t, const Var& x) const;
  };
  VaeConfig config_;
  Conv2d encoder_in_, encoder_out_, decoder_in_, decoder_out_;
  std::vector<Level> down_, up_;
  std::unique_ptr<Middle> encoder_middle_, decoder_middle_;
  GroupNorm encoder_norm_, decoder_norm_;
  Linear quant_, post_quant_;
};

}  // namespace realfake
