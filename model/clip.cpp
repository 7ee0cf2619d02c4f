#include "model/clip.h"

#include <cmath>

namespace realfake {
namespace {

constexpr int64_t kMaxWidth = 65536;

void read_common(ClipConfig& c, const JsonReader& j) {
  c.hidden_size = j.integer("hidden_size", 1, kMaxWidth);
  c.intermediate_size = j.integer("intermediate_size", 1, 4 * kMaxWidth);
  c.layers = j.integer("num_hidden_layers", 1, 1024);
  c.heads = j.integer("num_attention_heads", 1, 1024);
  c.projection_dim = j.integer_or("projection_dim", 512, 1, kMaxWidth);
  c.eps = j.number_or("layer_norm_eps", 1e-5);
  c.act = parse_activation(j.text_or("hidden_act", "quick_gelu"), j.where());
  if (c.hidden_size % c.heads)
    throw InputError(
        concat(j.where(), ": num_attention_heads ", c.heads, " does not divide ", c.hidden_size));
}

}  // namespace

Activation parse_activation(const std::string& name, const std::string& where) {
  if (name == "quick_gelu") return Activation::quick_gelu;
  if (name == "gelu") return Activation::gelu;
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "relu") return Activation::relu;
  throw InputError(
      concat(where, ": activation '", name, "' is not supported (quick_gelu, gelu, silu, relu)"));
}

ClipConfig ClipConfig::text(const JsonReader& j) {
  ClipConfig c;
  read_common(c, j);
  c.vocab_size = j.integer("vocab_size", 2, 1 << 24);
  c.max_positions = j.integer("max_position_embeddings", 2, 1 << 20);
  return c;
}

ClipConfig ClipConfig::vision(const JsonReader& j) {
  ClipConfig c;
  read_common(c, j);
  c.image_size = j.integer("image_size", 1, 16384);
  c.patch_size = j.integer("patch_size", 1, c.image_size);
  c.channels = j.integer_or("num_channels", 3, 1, 64);
  if (c.image_size % c.patch_size)
    throw InputError(
        concat(j.where(), ": patch_size ", c.patch_size, " does not divide ", c.image_size));
  return c;
}

ClipEncoderLayer::ClipEncoderLayer(const Builder& b, const ClipConfig& c)
    : norm1_(b / "layer_norm1", c.hidden_size, c.eps),
      norm2_(b / "layer_norm2", c.hidden_size, c.eps),
      q_(b / "self_attn" / "q_proj", c.hidden_size, c.hidden_size),
      k_(b / "self_attn" / "k_proj", c.hidden_size, c.hidden_size),
      v_(b / "self_attn" / "v_proj", c.hidden_size, c.hidden_size),
      out_(b / "self_attn" / "out_proj", c.hidden_size, c.hidden_size),
      fc1_(b / "mlp" / "fc1", c.hidden_size, c.intermediate_size),
      fc2_(b / "mlp" / "fc2", c.intermediate_size, c.hidden_size),
      heads_(c.heads),
      act_(c.act) {}

Var ClipEncoderLayer::operator()(Tape& t, const Var& x, bool causal) const {
  const double factor = 1.0 / std::sqrt(static_cast<double>(x.dim(2) / heads_));
  const Var h = norm1_(t, x);
  const Var a = attention(t, q_(t, h), k_(t, h), v_(t, h), heads_, factor, causal);
  const Var y = add(t, x, out_(t, a));
  return add(t, y, fc2_(t, activate(t, fc1_(t, norm2_(t, y)), act_)));
}

ClipText::ClipText(const Builder& root, const ClipConfig& c) : config_(c) {
  const std::vector<int64_t> token_shape{c.vocab_size, c.hidden_size};
  const bool bare = root.has("embeddings.token_embedding.weight", token_shape);
  const Builder b = bare ? root : root / "text_model";
  tokens_ = (b / "embeddings").get("token_embedding.weight", token_shape, Init::gaussian(0.02));
  positions_ =
      (b / "embeddings")
          .get("position_embedding.weight", {c.max_positions, c.hidden_size}, Init::gaussian(0.01));
  for (int64_t i = 0; i < c.layers; ++i) layers_.emplace_back(b / "encoder" / "layers" / i, c);
  final_norm_ = LayerNorm(b / "final_layer_norm", c.hidden_size, c.eps);
}

Var ClipText::operator()(Tape& t, const Tensor& ids) const {
  require(ids.rank() == 2 && ids.dim(1) <= config_.max_positions, "[clip_text] ids ", ids.shape(),
          ", at most ", config_.max_positions, " positions");
  Var x = embedding(t, tokens_->var(), ids);
  const Var all = positions_->var();
  require(ids.dim(1) == config_.max_positions || !all.needs_grad(),
          "[clip_text] training needs prompts of full length");
  const Var pos = ids.dim(1) == config_.max_positions ? all : Var(all.value().slice(0, ids.dim(1)));
  x = add_positions(t, x, pos);
  for (const ClipEncoderLayer& layer : layers_) x = layer(t, x, true);
  return final_norm_(t, x);
}

ClipVision::ClipVision(const Builder& root, const ClipConfig& c) : config_(c) {
  const Builder b = root / "vision_model";
  const int64_t side = c.image_size / c.patch_size;
  class_embedding_ =
      (b / "embeddings").get("class_embedding", {c.hidden_size}, Init::gaussian(0.02));
  patches_ = Conv2d(b / "embeddings" / "patch_embedding", c.channels, c.hidden_size,
                    static_cast<int>(c.patch_size),
                    ConvParams{.stride = static_cast<int>(c.patch_size)}, false);
  positions_ =
      (b / "embeddings")
          .get("position_embedding.weight", {side * side + 1, c.hidden_size}, Init::gaussian(0.02));
  pre_norm_ = LayerNorm(b / "pre_layrnorm", c.hidden_size, c.eps);
  for (int64_t i = 0; i < c.layers; ++i) layers_.emplace_back(b / "encoder" / "layers" / i, c);
  post_norm_ = LayerNorm(b / "post_layernorm", c.hidden_size, c.eps);
  projection_ = Linear(root / "visual_projection", c.hidden_size, c.projection_dim, false);
}

Var ClipVision::operator()(Tape& t, const Var& pixels) const {
  require(pixels.value().rank() == 4 && pixels.dim(1) == config_.image_size &&
              pixels.dim(2) == config_.image_size,
          "[clip_vision] pixels ", pixels.shape(), ", expected side ", config_.image_size);
  const Var maps = patches_(t, pixels);
  const int64_t n = maps.dim(0), tokens = maps.dim(1) * maps.dim(2), d = maps.dim(3);
  Var x = prepend_token(t, class_embedding_->var(), reshape(t, maps, {n, tokens, d}));
  x = pre_norm_(t, add_positions(t, x, positions_->var()));
  for (const ClipEncoderLayer& layer : layers_) x = layer(t, x, false);
  const Tensor first = t.exec().from_vector(std::vector<int64_t>(static_cast<size_t>(n), 0), {n});
  return projection_(t, post_norm_(t, gather_tokens(t, x, first)));
}

}  // namespace realfake
