#include "model/blocks.h"

namespace realfake {

ResnetBlock::ResnetBlock(const Builder& b, int64_t in, int64_t out, int64_t groups, double eps,
                         int64_t time_channels)
    : norm1_(b / "norm1", in, groups, eps),
      norm2_(b / "norm2", out, groups, eps),
      conv1_(b / "conv1", in, out, 3, ConvParams::same(3)),
      conv2_(b / "conv2", out, out, 3, ConvParams::same(3)),
      has_shortcut_(in != out),
      has_time_(time_channels > 0) {
  if (has_shortcut_) shortcut_ = Conv2d(b / "conv_shortcut", in, out, 1, ConvParams{});
  if (has_time_) time_ = Linear(b / "time_emb_proj", time_channels, out);
}

Var ResnetBlock::operator()(Tape& t, const Var& x, const Var& silu_time) const {
  Var h = conv1_(t, norm1_(t, x, true));
  if (has_time_) h = add_broadcast(t, h, time_(t, silu_time));
  h = conv2_(t, norm2_(t, h, true));
  return add(t, has_shortcut_ ? shortcut_(t, x) : x, h);
}

Conv2d downsampler(const Builder& b, int64_t channels, bool asymmetric) {
  const ConvParams p = asymmetric ? ConvParams{2, 0, 1, 0, 1} : ConvParams::same(3, 2);
  return Conv2d(b / "downsamplers" / 0 / "conv", channels, channels, 3, p);
}

Conv2d upsampler(const Builder& b, int64_t channels) {
  return Conv2d(b / "upsamplers" / 0 / "conv", channels, channels, 3, ConvParams::same(3));
}

}  // namespace realfake
