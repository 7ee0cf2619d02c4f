#pragma once
// Blocks that the UNet and the VAE share.
#include "model/layers.h"

namespace realfake {

// diffusers ResnetBlock2D: norm1 SiLU conv1 [+ time] norm2 SiLU conv2 + shortcut.
class ResnetBlock {
 public:
  // time_channels == 0: no time embedding.
  ResnetBlock(const Builder& b, int64_t in, int64_t out, int64_t groups, double eps,
              int64_t time_channels);
  // x (N,H,W,Cin); silu_time (N,time_channels) = SiLU of the time embedding, undefined without ->
  // (N,H,W,Cout)
  Var operator()(Tape& t, const Var& x, const Var& silu_time) const;

 private:
  GroupNorm norm1_, norm2_;
  Conv2d conv1_, conv2_, shortcut_;
  Linear time_;
  bool has_shortcut_, has_time_;
};

// diffusers Downsample2D (padding 1, or the VAE's right-and-bottom padding) and Upsample2D.
Conv2d downsampler(const Builder& b, int64_t channels, bool asymmetric);
Conv2d upsampler(const Builder& b, int64_t channels);

}  // namespace realfake
