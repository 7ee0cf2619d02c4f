#include "model/vae.h"

#include <cmath>

namespace realfake {
namespace {

constexpr double kEps = 1e-6;  // diffusers: fixed for the VAE's norms

}  // namespace

VaeConfig VaeConfig::read(const JsonReader& j) {
  VaeConfig c;
  const std::string kind = j.text_or("_class_name", "AutoencoderKL");
  if (kind != "AutoencoderKL")
    throw InputError(concat(j.where(), ": '_class_name' ", kind,
                            " is not supported (supported: AutoencoderKL)"));
  const auto refuse = [&](const char* key, bool bad) {
    if (bad)
      throw InputError(concat(j.where(), ": '", key, "' is set in a way that is not supported"));
  };
  refuse("act_fn", j.text_or("act_fn", "silu") != "silu");
  refuse("mid_block_add_attention", !j.boolean_or("mid_block_add_attention", true));
  for (const char* key : {"use_quant_conv", "use_post_quant_conv"})
    refuse(key, !j.boolean_or(key, true));
  for (const char* key : {"shift_factor", "latents_mean", "latents_std"}) refuse(key, j.has(key));
  c.channels = j.integers("block_out_channels", 1, 65536);
  c.layers_per_block = j.integer_or("layers_per_block", 1, 1, 64);
  c.groups = j.integer_or("norm_num_groups", 32, 1, 65536);
  c.latent_channels = j.integer_or("latent_channels", 4, 1, 256);
  c.in_channels = j.integer_or("in_channels", 3, 1, 64);
  c.out_channels = j.integer_or("out_channels", 3, 1, 64);
  c.scaling_factor = j.number_or("scaling_factor", 0.18215);
  if (!(c.scaling_factor > 0))
    throw InputError(concat(j.where(), ": 'scaling_factor' is ", c.scaling_factor));
  if (c.channels.empty() || c.channels.size() > 8)
    throw InputError(concat(j.where(), ": 'block_out_channels' has ", c.channels.size(),
                            " entries, expected 1..8"));
  for (size_t i = 0; i < c.channels.size(); ++i)
    if (c.channels[i] % c.groups)
      throw InputError(
          concat(j.where(), ": norm_num_groups ", c.groups, " does not divide ", c.channels[i]));
  return c;
}

VaeAttention::VaeAttention(const Builder& b, int64_t channels, int64_t groups)
    : norm_(b / "group_norm", channels, groups, kEps),
      q_(b, {"to_q", "query"}, channels, channels, true),
      k_(b, {"to_k", "key"}, channels, channels, true),
      v_(b, {"to_v", "value"}, channels, channels, true),
      out_(b, {"to_out.0", "proj_attn"}, channels, channels, true) {}

Var VaeAttention::operator()(Tape& t, const Var& x) const {
  const int64_t n = x.dim(0), tokens = x.dim(1) * x.dim(2), c = x.dim(3);
  const Var h = reshape(t, norm_(t, x, false), {n, tokens, c});
  const Var a =
      attention(t, q_(t, h), k_(t, h), v_(t, h), 1, 1.0 / std::sqrt(static_cast<double>(c)), false);
  return add(t, x, reshape(t, out_(t, a), x.shape()));
}

Vae::Middle::Middle(const Builder& b, int64_t channels, int64_t groups)
    : first(b / "resnets" / 0, channels, channels, groups, kEps, 0),
      second(b / "resnets" / 1, channels, channels, groups, kEps, 0),
      attention(b / "attentions" / 0, channels, groups) {}

Var Vae::Middle::operator()(Tape& t, const Var& x) const {
  return second(t, attention(t, first(t, x, Var())), Var());
}

Vae::Vae(const Builder& b, const VaeConfig& c) : config_(c) {
  const auto levels = static_cast<int64_t>(c.channels.size());
  const int64_t widest = c.channels.back(), moments = 2 * c.latent_channels;
  const ConvParams same = ConvParams::same(3);

  const Builder e = b / "encoder";
  encoder_in_ = Conv2d(e / "conv_in", c.in_channels, c.channels[0], 3, same);
  int64_t width = c.channels[0];
  for (int64_t i = 0; i < levels; ++i) {
    const Builder at = e / "down_blocks" / i;
    Level level;
    for (int64_t j = 0; j < c.layers_per_block; ++j) {
      level.resnets.emplace_back(at / "resnets" / j, width, c.channels[static_cast<size_t>(i)],
                                 c.groups, kEps, 0);
      width = c.channels[static_cast<size_t>(i)];
    }
    level.resamples = i + 1 < levels;
    if (level.resamples) level.resample = downsampler(at, width, true);
    down_.push_back(std::move(level));
  }
  encoder_middle_ = std::make_unique<Middle>(e / "mid_block", widest, c.groups);
  encoder_norm_ = GroupNorm(e / "conv_norm_out", widest, c.groups, kEps);
  encoder_out_ = Conv2d(e / "conv_out", widest, moments, 3, same);
  quant_ = Linear(b / "quant_conv", moments, moments, true, Layout::pointwise);

  post_quant_ =
      Linear(b / "post_quant_conv", c.latent_channels, c.latent_channels, true, Layout::pointwise);
  const Builder d = b / "decoder";
  decoder_in_ = Conv2d(d / "conv_in", c.latent_channels, widest, 3, same);
  decoder_middle_ = std::make_unique<Middle>(d / "mid_block", widest, c.groups);
  width = widest;
  for (int64_t i = 0; i < levels; ++i) {
    const Builder at = d / "up_blocks" / i;
    const int64_t out = c.channels[static_cast<size_t>(levels - 1 - i)];
    Level level;
    for (int64_t j = 0; j < c.layers_per_block + 1; ++j) {
      level.resnets.emplace_back(at / "resnets" / j, width, out, c.groups, kEps, 0);
      width = out;
    }
    level.resamples = i + 1 < levels;
    if (level.resamples) level.resample = upsampler(at, width);
    up_.push_back(std::move(level));
  }
  decoder_norm_ = GroupNorm(d / "conv_norm_out", width, c.groups, kEps);
  decoder_out_ = Conv2d(d / "conv_out", width, c.out_channels, 3, same);
}

Var Vae::encode(Tape& t, const Var& image) const {
  Var x = encoder_in_(t, image);
  for (const Level& level : down_) {
    for (const ResnetBlock& r : level.resnets) x = r(t, x, Var());
    if (level.resamples) x = level.resample(t, x);
  }
  x = encoder_out_(t, encoder_norm_(t, (*encoder_middle_)(t, x), true));
  return quant_(t, x);
}

Var Vae::decode(Tape& t, const Var& latent) const {
  Var x = (*decoder_middle_)(t, decoder_in_(t, post_quant_(t, latent)));
  for (const Level& level : up_) {
    for (const ResnetBlock& r : level.resnets) x = r(t, x, Var());
    if (level.resamples) x = level.resample(t, upsample_nearest(t, x, 2 * x.dim(1), 2 * x.dim(2)));
  }
  return decoder_out_(t, decoder_norm_(t, x, true));
}

}  // namespace realfake
