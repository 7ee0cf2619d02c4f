#include "model/unet.h"

#include <cmath>

#include "kernels/embedding.h"

namespace realfake {
namespace {

constexpr double kTransformerEps = 1e-6;  // GroupNorm of Transformer2DModel, fixed in diffusers

// Options that change the computation and are not built: refused by name instead of ignored.
void refuse_unsupported(const JsonReader& j) {
  const std::string kind = j.text_or("_class_name", "UNet2DConditionModel");
  if (kind != "UNet2DConditionModel")
    throw InputError(concat(j.where(), ": '_class_name' ", kind,
                            " is not supported (supported: UNet2DConditionModel)"));
  const auto refuse = [&](const char* key, bool bad) {
    if (bad)
      throw InputError(concat(j.where(), ": '", key, "' is set in a way that is not supported"));
  };
  const auto not_null = [&](const char* key) { return j.has(key) && !j.at(key).is_null(); };
  for (const char* key :
       {"class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim",
        "encoder_hid_dim_type", "time_cond_proj_dim", "timestep_post_act", "time_embedding_act_fn",
        "time_embedding_dim", "mid_block_only_cross_attention", "cross_attention_norm"})
    refuse(key, not_null(key));
  for (const char* key : {"dual_cross_attention", "only_cross_attention", "center_input_sample",
                          "class_embeddings_concat"})
    refuse(key, not_null(key) && !(j.at(key).is_boolean() && !j.at(key).get<bool>()));
  refuse("act_fn", j.text_or("act_fn", "silu") != "silu");
  refuse("resnet_time_scale_shift", j.text_or("resnet_time_scale_shift", "default") != "default");
  refuse("attention_type", j.text_or("attention_type", "default") != "default");
  refuse("time_embedding_type", j.text_or("time_embedding_type", "positional") != "positional");
  refuse("downsample_padding", j.integer_or("downsample_padding", 1, 0, 100) != 1);
  refuse("mid_block_scale_factor", j.number_or("mid_block_scale_factor", 1) != 1);
  refuse("conv_in_kernel", j.integer_or("conv_in_kernel", 3, 1, 99) != 3);
  refuse("conv_out_kernel", j.integer_or("conv_out_kernel", 3, 1, 99) != 3);
  refuse("transformer_layers_per_block", not_null("transformer_layers_per_block") &&
                                             j.at("transformer_layers_per_block") != Json(1));
  refuse("resnet_skip_time_act", j.boolean_or("resnet_skip_time_act", false));
  refuse("resnet_out_scale_factor", j.number_or("resnet_out_scale_factor", 1) != 1);
  refuse("mid_block_type",
         j.text_or("mid_block_type", "UNetMidBlock2DCrossAttn") != "UNetMidBlock2DCrossAttn");
}

std::vector<bool> attention_flags(const JsonReader& j, const char* key, const std::string& with,
                                  const std::string& without, size_t levels) {
  std::vector<bool> flags;
  for (const std::string& name : j.texts(key)) {
    if (name != with && name != without)
      throw InputError(concat(j.where(), ": '", key, "' ", name,
                              " is not supported (supported: ", with, ", ", without, ")"));
    flags.push_back(name == with);
  }
  if (flags.size() != levels)
    throw InputError(
        concat(j.where(), ": '", key, "' has ", flags.size(), " entries, expected ", levels));
  return flags;
}

}  // namespace

UNetConfig UNetConfig::read(const JsonReader& j) {
  refuse_unsupported(j);
  UNetConfig c;
  c.channels = j.integers("block_out_channels", 1, 65536);
  const size_t levels = c.channels.size();
  if (levels < 1 || levels > 8)
    throw InputError(
        concat(j.where(), ": 'block_out_channels' has ", levels, " entries, expected 1..8"));
  c.down_attention =
      attention_flags(j, "down_block_types", "CrossAttnDownBlock2D", "DownBlock2D", levels);
  c.up_attention = attention_flags(j, "up_block_types", "CrossAttnUpBlock2D", "UpBlock2D", levels);
  c.layers_per_block = j.integer_or("layers_per_block", 2, 1, 64);
  c.groups = j.integer_or("norm_num_groups", 32, 1, 65536);
  c.in_channels = j.integer_or("in_channels", 4, 1, 65536);
  c.out_channels = j.integer_or("out_channels", 4, 1, 65536);
  c.context_dim = j.integer("cross_attention_dim", 1, 65536);
  c.sample_size = j.has("sample_size") && !j.at("sample_size").is_null()
                      ? j.integer("sample_size", 1, 16384)
                      : 64;
  c.eps = j.number_or("norm_eps", 1e-5);
  c.linear_projection = j.boolean_or("use_linear_projection", false);
  c.flip_sin_to_cos = j.boolean_or("flip_sin_to_cos", true);
  c.freq_shift = j.number_or("freq_shift", 0);
  const char* key = j.has("num_attention_heads") && !j.at("num_attention_heads").is_null()
                        ? "num_attention_heads"
                        : "attention_head_dim";
  if (j.has(key) && j.at(key).is_array())
    c.heads = j.integers(key, 1, 65536);
  else
    c.heads.assign(levels, j.integer_or(key, 8, 1, 65536));
  if (c.heads.size() != levels)
    throw InputError(
        concat(j.where(), ": '", key, "' has ", c.heads.size(), " entries, expected ", levels));
  for (size_t i = 0; i < levels; ++i) {
    if (c.channels[i] % c.groups)
      throw InputError(
          concat(j.where(), ": norm_num_groups ", c.groups, " does not divide ", c.channels[i]));
    const bool attends = c.down_attention[i] || c.up_attention[levels - 1 - i] || i + 1 == levels;
    if (attends && c.channels[i] % c.heads[i])
      throw InputError(
          concat(j.where(), ": ", key, " ", c.heads[i], " does not divide ", c.channels[i]));
  }
  return c;
}

CrossAttention::CrossAttention(const Builder& b, int64_t width, int64_t context_width,
                               int64_t heads)
    : q_(b / "to_q", width, width, false),
      k_(b / "to_k", context_width, width, false),
      v_(b / "to_v", context_width, width, false),
      out_(b / "to_out" / 0, width, width),
      heads_(heads) {}

Var CrossAttention::operator()(Tape& t, const Var& x, const Var& context) const {
  const double factor = 1.0 / std::sqrt(static_cast<double>(x.dim(2) / heads_));
  return out_(t, attention(t, q_(t, x), k_(t, context), v_(t, context), heads_, factor, false));
}

std::vector<std::pair<std::string, Linear*>> CrossAttention::linears() {
  return {{"to_q", &q_}, {"to_k", &k_}, {"to_v", &v_}, {"to_out.0", &out_}};
}

SpatialTransformer::SpatialTransformer(const Builder& b, int64_t channels, int64_t heads,
                                       int64_t groups, int64_t context_dim, bool linear_projection)
    : norm_(b / "norm", channels, groups, kTransformerEps),
      in_(b / "proj_in", channels, channels, true,
          linear_projection ? Layout::plain : Layout::pointwise),
      out_(b / "proj_out", channels, channels, true,
           linear_projection ? Layout::plain : Layout::pointwise),
      norm1_(b / "transformer_blocks" / 0 / "norm1", channels, 1e-5),
      norm2_(b / "transformer_blocks" / 0 / "norm2", channels, 1e-5),
      norm3_(b / "transformer_blocks" / 0 / "norm3", channels, 1e-5),
      self_(b / "transformer_blocks" / 0 / "attn1", channels, channels, heads),
      cross_(b / "transformer_blocks" / 0 / "attn2", channels, context_dim, heads),
      feed_in_(b / "transformer_blocks" / 0 / "ff" / "net" / 0 / "proj", channels, 8 * channels),
      feed_out_(b / "transformer_blocks" / 0 / "ff" / "net" / 2, 4 * channels, channels) {}

Var SpatialTransformer::operator()(Tape& t, const Var& x, const Var& context) const {
  const int64_t n = x.dim(0), tokens = x.dim(1) * x.dim(2), c = x.dim(3);
  Var h =
      in_(t, reshape(t, norm_(t, x, false), {n, tokens, c}));  // NHWC: the map is the token matrix
  const Var normed = norm1_(t, h);
  h = add(t, h, self_(t, normed, normed));
  h = add(t, h, cross_(t, norm2_(t, h), context));
  h = add(t, h, feed_out_(t, geglu(t, feed_in_(t, norm3_(t, h)))));
  return add(t, x, reshape(t, out_(t, h), x.shape()));
}

void SpatialTransformer::collect(const std::string& prefix,
                                 std::vector<std::pair<std::string, Linear*>>& into) {
  for (auto& [name, linear] : self_.linears())
    into.emplace_back(prefix + ".transformer_blocks.0.attn1." + name, linear);
  for (auto& [name, linear] : cross_.linears())
    into.emplace_back(prefix + ".transformer_blocks.0.attn2." + name, linear);
}

UNet::UNet(const Builder& b, const UNetConfig& c) : config_(c) {
  const size_t levels = c.channels.size();
  const int64_t first = c.channels[0], last = c.channels.back(), time = 4 * first;
  in_ = Conv2d(b / "conv_in", c.in_channels, first, 3, ConvParams::same(3));
  time1_ = Linear(b / "time_embedding" / "linear_1", first, time);
  time2_ = Linear(b / "time_embedding" / "linear_2", time, time);

  int64_t width = first;
  for (size_t i = 0; i < levels; ++i) {
    const Builder at = b / "down_blocks" / static_cast<int64_t>(i);
    Level level;
    for (int64_t j = 0; j < c.layers_per_block; ++j) {
      level.resnets.emplace_back(at / "resnets" / j, width, c.channels[i], c.groups, c.eps, time);
      width = c.channels[i];
      if (c.down_attention[i])
        level.attentions.emplace_back(at / "attentions" / j, width, c.heads[i], c.groups,
                                      c.context_dim, c.linear_projection);
    }
    level.resamples = i + 1 < levels;
    if (level.resamples) level.resample = downsampler(at, width, false);
    down_.push_back(std::move(level));
  }

  const Builder mid = b / "mid_block";
  mid_.resnets.emplace_back(mid / "resnets" / 0, last, last, c.groups, c.eps, time);
  mid_.attentions.emplace_back(mid / "attentions" / 0, last, c.heads.back(), c.groups,
                               c.context_dim, c.linear_projection);
  mid_.resnets.emplace_back(mid / "resnets" / 1, last, last, c.groups, c.eps, time);

  // The i-th up block works at level levels-1-i and takes the skips in reverse order of their
  // making.
  int64_t previous = last;
  for (size_t i = 0; i < levels; ++i) {
    const size_t at_level = levels - 1 - i;
    const int64_t out = c.channels[at_level], in = c.channels[at_level > 0 ? at_level - 1 : 0];
    const Builder at = b / "up_blocks" / static_cast<int64_t>(i);
    Level level;
    for (int64_t j = 0; j < c.layers_per_block + 1; ++j) {
      const int64_t skip = j == c.layers_per_block ? in : out, from = j == 0 ? previous : out;
      level.resnets.emplace_back(at / "resnets" / j, from + skip, out, c.groups, c.eps, time);
      if (c.up_attention[i])
        level.attentions.emplace_back(at / "attentions" / j, out, c.heads[at_level], c.groups,
                                      c.context_dim, c.linear_projection);
    }
    level.resamples = i + 1 < levels;
    if (level.resamples) level.resample = upsampler(at, out);
    up_.push_back(std::move(level));
    previous = out;
  }
  norm_out_ = GroupNorm(b / "conv_norm_out", first, c.groups, c.eps);
  conv_out_ = Conv2d(b / "conv_out", first, c.out_channels, 3, ConvParams::same(3));
}

Var UNet::run(Tape& t, const Level& level, size_t i, Var x, const Var& silu_time,
              const Var& context) const {
  x = level.resnets[i](t, x, silu_time);
  return i < level.attentions.size() ? level.attentions[i](t, x, context) : x;
}

Var UNet::operator()(Tape& t, const Var& sample, const Tensor& timestep, const Var& context) const {
  require(sample.value().rank() == 4 && sample.dim(3) == config_.in_channels, "[unet] sample ",
          sample.shape(), ", expected ", config_.in_channels, " channels");
  require(context.value().rank() == 3 && context.dim(0) == sample.dim(0) &&
              context.dim(2) == config_.context_dim,
          "[unet] context ", context.shape(), ", expected width ", config_.context_dim);
  Exec& ex = t.exec();
  const Tensor features = ex.empty({sample.dim(0), config_.channels[0]}, sample.value().dtype());
  timestep_embedding(ex, features, timestep, config_.flip_sin_to_cos, config_.freq_shift);
  const Var time = time2_(t, activate(t, time1_(t, Var(features)), Activation::silu));
  const Var silu_time = activate(t, time, Activation::silu);
  const auto probe = [&](const std::string& name, const Var& v) {
    if (probe_) probe_(name, v);
  };

  probe("time_embedding", time);
  Var x = in_(t, sample);
  probe("conv_in", x);
  std::vector<Var> skips{x};
  for (size_t i = 0; i < down_.size(); ++i) {
    for (size_t j = 0; j < down_[i].resnets.size(); ++j) {
      x = run(t, down_[i], j, x, silu_time, context);
      skips.push_back(x);
    }
    if (down_[i].resamples) {
      x = down_[i].resample(t, x);
      skips.push_back(x);
    }
    probe(concat("down_blocks.", i), x);
  }

  x = run(t, mid_, 0, x, silu_time, context);
  x = mid_.resnets[1](t, x, silu_time);
  probe("mid_block", x);

  for (size_t i = 0; i < up_.size(); ++i) {
    for (size_t j = 0; j < up_[i].resnets.size(); ++j) {
      x = concat_columns(t, x, skips.back());
      skips.pop_back();
      x = run(t, up_[i], j, x, silu_time, context);
    }
    if (up_[i].resamples) {
      x = upsample_nearest(t, x, skips.back().dim(1), skips.back().dim(2));
      x = up_[i].resample(t, x);
    }
    probe(concat("up_blocks.", i), x);
  }
  return conv_out_(t, norm_out_(t, x, true));
}

std::vector<std::pair<std::string, Linear*>> UNet::attention_linears() {
  std::vector<std::pair<std::string, Linear*>> all;
  const auto level = [&](Level& l, const std::string& prefix) {
    for (size_t j = 0; j < l.attentions.size(); ++j)
      l.attentions[j].collect(concat(prefix, ".attentions.", j), all);
  };
  for (size_t i = 0; i < down_.size(); ++i) level(down_[i], concat("down_blocks.", i));
  level(mid_, "mid_block");
  for (size_t i = 0; i < up_.size(); ++i) level(up_[i], concat("up_blocks.", i));
  return all;
}

}  // namespace realfake
