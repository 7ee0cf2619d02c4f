// Bad configs, weights that do not fit, bad LoRA files: each is an InputError that names the file
// and the place.
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "kernels/base/file.h"
#include "model/lora.h"
#include "model/pipeline.h"
#include "tests/model/golden.h"
#include "tests/testing/temp_dir.h"

namespace realfake::testing {
namespace {

Exec& cpu() {
  return exec_of(Device::cpu);
}

// `run` throws an InputError "FILE: ...CORE...".
void expect_refused(const std::string& what, const std::filesystem::path& file,
                    const std::string& core, const std::function<void()>& run) {
  try {
    run();
    ADD_FAILURE() << what << " was accepted";
  } catch (const InputError& e) {
    const std::string text = e.what();
    EXPECT_EQ(text.rfind(file.string() + ": ", 0), 0u) << what << ": " << text;
    EXPECT_NE(text.find(core), std::string::npos)
        << what << ": " << text << "\n  expected: " << core;
  } catch (const std::exception& e) {
    ADD_FAILURE() << what << ": not an InputError: " << e.what();
  }
}

enum class Kind { unet, vae, text, vision };
const char* folder_of(Kind k) {
  return k == Kind::unet   ? "unet"
         : k == Kind::vae  ? "vae"
         : k == Kind::text ? "text_encoder"
                           : "image_encoder";
}
void load(Kind k, const std::filesystem::path& folder) {
  if (k == Kind::unet) load_unet(cpu(), folder);
  if (k == Kind::vae) load_vae(cpu(), folder);
  if (k == Kind::text) load_text(cpu(), folder);
  if (k == Kind::vision) load_vision(cpu(), folder);
}

// A copy of one component of odd/ in a folder of its own.
struct Copied {
  explicit Copied(Kind kind) : kind(kind) {
    const auto from = golden_dir() / "odd" / folder_of(kind);
    for (const auto& entry : std::filesystem::directory_iterator(from)) {
      std::filesystem::copy_file(entry.path(), dir / entry.path().filename());
      if (entry.path().extension() == ".safetensors") weights = dir / entry.path().filename();
    }
  }
  TempDir dir;
  Kind kind;
  std::filesystem::path weights;
  std::filesystem::path config() const { return dir / "config.json"; }
};

struct ConfigCase {
  const char* name;
  Kind kind;
  const char* key;
  Json value;  // null: the key is removed
  const char* core;
};

TEST(BadConfigs, Refused) {
  const std::vector<ConfigCase> cases{
      {"cfg-missing", Kind::unet, "cross_attention_dim", nullptr, "no key 'cross_attention_dim'"},
      {"cfg-missing", Kind::unet, "block_out_channels", nullptr, "no key 'block_out_channels'"},
      {"cfg-missing", Kind::text, "hidden_size", nullptr, "no key 'hidden_size'"},
      {"cfg-missing", Kind::vision, "patch_size", nullptr, "no key 'patch_size'"},
      {"cfg-missing", Kind::vae, "block_out_channels", nullptr, "no key 'block_out_channels'"},
      {"cfg-type", Kind::unet, "layers_per_block", "2",
       "'layers_per_block' is a string, expected an integer"},
      {"cfg-type", Kind::unet, "layers_per_block", 2.5,
       "'layers_per_block' is 2.5, expected an integer"},
      {"cfg-type", Kind::unet, "block_out_channels", 12,
       "'block_out_channels' is 12, expected an array"},
      {"cfg-type",
       Kind::unet,
       "down_block_types",
       {1, 2, 3},
       "'down_block_types[0]' is 1, expected a string"},
      {"cfg-type", Kind::unet, "use_linear_projection", "yes",
       "'use_linear_projection' is a string"},
      {"cfg-type", Kind::text, "hidden_act", 3, "'hidden_act' is 3, expected a string"},
      {"cfg-neg",
       Kind::unet,
       "block_out_channels",
       {12, -1, 24},
       "'block_out_channels[1]' is -1, expected 1..65536"},
      {"cfg-zero",
       Kind::unet,
       "block_out_channels",
       {0, 20, 24},
       "'block_out_channels[0]' is 0, expected 1..65536"},
      {"cfg-zero", Kind::unet, "norm_num_groups", 0, "'norm_num_groups' is 0, expected 1..65536"},
      {"cfg-zero", Kind::text, "num_attention_heads", 0,
       "'num_attention_heads' is 0, expected 1..1024"},
      {"cfg-zero", Kind::vision, "patch_size", 0, "'patch_size' is 0"},
      {"cfg-zero", Kind::vae, "latent_channels", 0, "'latent_channels' is 0"},
      {"cfg-zero", Kind::vae, "scaling_factor", 0, "'scaling_factor' is 0"},
      {"cfg-1e18",
       Kind::unet,
       "block_out_channels",
       {12, 20, 1000000000000000000},
       "'block_out_channels[2]' is 1000000000000000000, expected 1..65536"},
      {"cfg-1e18", Kind::unet, "layers_per_block", 1e18,
       "'layers_per_block' is 1e+18, expected an integer"},
      {"cfg-1e18", Kind::text, "vocab_size", 18446744073709551615u,
       "'vocab_size' is 18446744073709551615, expected"},
      {"cfg-len-mismatch",
       Kind::unet,
       "down_block_types",
       {"DownBlock2D", "DownBlock2D"},
       "'down_block_types' has 2 entries, expected 3"},
      {"cfg-len-mismatch",
       Kind::unet,
       "attention_head_dim",
       {4, 4},
       "'attention_head_dim' has 2 entries, expected 3"},
      {"cfg-len-mismatch", Kind::unet, "block_out_channels", Json::array(),
       "'block_out_channels' has 0 entries"},
      {"cfg-heads", Kind::unet, "attention_head_dim", 7, "attention_head_dim 7 does not divide 12"},
      {"cfg-heads", Kind::text, "num_attention_heads", 7,
       "num_attention_heads 7 does not divide 20"},
      {"cfg-heads", Kind::unet, "norm_num_groups", 5, "norm_num_groups 5 does not divide 12"},
      {"cfg-heads", Kind::vae, "norm_num_groups", 5, "norm_num_groups 5 does not divide 16"},
      {"cfg-heads", Kind::vision, "patch_size", 5, "patch_size 5 does not divide 12"},
      {"cfg-arch", Kind::unet, "_class_name", "SD3Transformer2DModel",
       "'_class_name' SD3Transformer2DModel is not supported (supported: UNet2DConditionModel)"},
      {"cfg-arch", Kind::vae, "_class_name", "VQModel",
       "'_class_name' VQModel is not supported (supported: Auto"},
      {"cfg-arch",
       Kind::unet,
       "up_block_types",
       {"UpBlock2D", "AttnUpBlock2D", "UpBlock2D"},
       "'up_block_types' AttnUpBlock2D is not supported (supported: CrossAttnUpBlock2D, "
       "UpBlock2D)"},
      {"cfg-arch", Kind::unet, "addition_embed_type", "text_time",
       "'addition_embed_type' is set in a way"},
      {"cfg-arch",
       Kind::unet,
       "transformer_layers_per_block",
       {1, 2, 10},
       "'transformer_layers_per_block' is set"},
      {"cfg-arch", Kind::unet, "act_fn", "mish", "'act_fn' is set"},
      {"cfg-arch", Kind::vae, "shift_factor", 0.1, "'shift_factor' is set"},
      {"cfg-arch", Kind::text, "hidden_act", "tanh", "activation 'tanh' is not supported"},
  };
  for (const ConfigCase& c : cases) {
    const Copied copy(c.kind);
    Json config = read_json(copy.config());
    if (c.value.is_null())
      config.erase(c.key);
    else
      config[c.key] = c.value;
    write_json_atomic(copy.config(), config);
    expect_refused(concat(c.name, " ", c.key), copy.config(), c.core,
                   [&] { load(c.kind, copy.dir.path()); });
  }
}

TEST(BadConfigs, NoConfigOrNoWeights) {
  for (const Kind kind : {Kind::unet, Kind::vae, Kind::text, Kind::vision}) {
    const Copied copy(kind);
    load(kind, copy.dir.path());  // the valid twin
    write_file_atomic(copy.config(), "[1]");
    expect_refused("array", copy.config(), "found an array, expected a JSON object",
                   [&] { load(kind, copy.dir.path()); });
    std::filesystem::remove(copy.config());
    EXPECT_THROW(load(kind, copy.dir.path()), Error);
  }
  const Copied copy(Kind::vae);
  std::filesystem::remove(copy.weights);
  EXPECT_THROW(load(Kind::vae, copy.dir.path()), Error);
}

// A config that claims 10^12 weights must not cost memory: what is not in the file is not
// allocated.
TEST(BadConfigs, SizesThatOnlyTheConfigClaims) {
  const Copied copy(Kind::text);
  Json config = read_json(copy.config());
  config["num_hidden_layers"] = 1000;
  config["intermediate_size"] = 200000;
  write_json_atomic(copy.config(), config);
  const size_t before = cpu().peak_bytes();
  EXPECT_THROW(load(Kind::text, copy.dir.path()), InputError);
  EXPECT_LE(cpu().peak_bytes(), before + (64u << 20));
}

using Tensors32 = std::map<std::string, std::pair<std::vector<int64_t>, std::vector<float>>>;
Tensors32 read_all(const std::filesystem::path& file) {
  Tensors32 all;
  const SafetensorsFile f(file);
  for (const std::string& name : f.names()) all[name] = {f.info(name).shape, f.read_f32(name)};
  return all;
}
void write_all(const std::filesystem::path& file, const Tensors32& all) {
  SafetensorsWriter w;
  for (const auto& [name, t] : all) w.add_f32(name, t.first, t.second.data());
  w.write(file);
}

TEST(BadWeights, MissingAndExtra) {
  const Copied copy(Kind::unet);
  Tensors32 all = read_all(copy.weights);
  int dropped = 0;
  for (auto it = all.begin(); it != all.end();)
    if (it->first.rfind("mid_block.", 0) == 0) {
      it = all.erase(it);
      ++dropped;
    } else {
      ++it;
    }
  write_all(copy.weights, all);
  expect_refused("st-missing", copy.weights,
                 concat("missing 'mid_block.resnets.0.norm1.weight' and ", dropped - 1, " more"),
                 [&] { load(Kind::unet, copy.dir.path()); });

  all = read_all(golden_dir() / "odd/unet/diffusion_pytorch_model.safetensors");
  all.erase("conv_out.bias");
  write_all(copy.weights, all);
  expect_refused("st-missing one", copy.weights, "missing 'conv_out.bias'",
                 [&] { load(Kind::unet, copy.dir.path()); });

  all["conv_out.bias"] = {{4}, {0, 0, 0, 0}};
  all["ema.decay"] = {{1}, {0.5f}};
  all["zzz"] = {{1}, {0.5f}};
  write_all(copy.weights, all);
  EXPECT_EQ(load_unet(cpu(), copy.dir.path())->unused,
            (std::vector<std::string>{"ema.decay", "zzz"}));
}

TEST(BadWeights, WrongShape) {
  const Copied copy(Kind::unet);
  Tensors32 all = read_all(copy.weights);
  const Tensors32 good = all;
  all["conv_in.weight"] = {{12, 9, 3, 3}, std::vector<float>(12 * 81, 0.1f)};
  write_all(copy.weights, all);
  expect_refused("st-wrong-shape", copy.weights,
                 "'conv_in.weight' is [12,9,3,3], model expects [12,4,3,3] (inpainting model?)",
                 [&] { load(Kind::unet, copy.dir.path()); });
  all = good;
  all["conv_in.bias"] = {{3, 4}, std::vector<float>(12, 0.1f)};
  write_all(copy.weights, all);
  expect_refused("st-wrong-shape", copy.weights, "'conv_in.bias' is [3,4], model expects [12]",
                 [&] { load(Kind::unet, copy.dir.path()); });
  all = good;
  all["conv_in.bias"].second[3] = std::numeric_limits<float>::quiet_NaN();
  write_all(copy.weights, all);
  expect_refused("st-nonfinite", copy.weights, "tensor 'conv_in.bias': 1 NaN, first at index 3",
                 [&] { load(Kind::unet, copy.dir.path()); });
}

TEST(BadWeights, NotAResNet) {
  const TempDir dir;
  const auto file = dir / "model.safetensors";
  const Tensors32 good = read_all(golden_dir() / "odd/vae/diffusion_pytorch_model.safetensors");
  write_all(file, good);
  expect_refused("a VAE", file, "missing 'conv1.weight' (not a ResNet?)",
                 [&] { load_resnet(cpu(), file); });
  write_all(file, {{"conv1.weight", {{2, 3, 3, 3}, std::vector<float>(54)}},
                   {"fc.weight", {{2, 2}, {1, 2, 3, 4}}}});
  expect_refused("no layers", file, "missing 'layer1.0.conv1.weight'",
                 [&] { load_resnet(cpu(), file); });
}

// ---- LoRA
// ---------------------------------------------------------------------------------------------
class BadLora : public ::testing::Test {
 protected:
  std::unique_ptr<Component<UNet>> unet_ = load_unet(cpu(), golden_dir() / "odd/unet");
  TempDir dir_;
  std::filesystem::path file_ = dir_ / "lora.safetensors";
  // Layers of width 24 to 24 that reads text states 20 wide.
  const std::string layer_ = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
  const std::string down_ = "unet." + layer_ + ".lora_A.weight",
                    up_ = "unet." + layer_ + ".lora_B.weight";
  const std::string kohya_ = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";

  static std::pair<std::vector<int64_t>, std::vector<float>> zeros(
      const std::vector<int64_t>& shape, float value = 0) {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return {shape, std::vector<float>(static_cast<size_t>(n), value)};
  }
  void refused(const std::string& name, const Tensors32& tensors, const std::string& core) {
    write_all(file_, tensors);
    expect_refused(name, file_, core, [&] { Lora(cpu(), *unet_->net, file_); });
  }
  void refused_metadata(const std::string& text, const std::string& core) {
    SafetensorsWriter w;
    const auto a = zeros({2, 20}), b = zeros({24, 2});
    w.add_f32(down_, a.first, a.second.data());
    w.add_f32(up_, b.first, b.second.data());
    w.set_metadata("lora_adapter_metadata", text);
    w.write(file_);
    expect_refused(text, file_, core, [&] { Lora(cpu(), *unet_->net, file_); });
  }
};

TEST_F(BadLora, ValidTwin) {
  write_all(file_, {{down_, zeros({4, 20})}, {up_, zeros({24, 4})}});
  EXPECT_EQ(Lora(cpu(), *unet_->net, file_).layers(), 1u);
  write_all(file_, {{kohya_ + ".lora_down.weight", zeros({4, 20, 1, 1})},
                    {kohya_ + ".lora_up.weight", zeros({24, 4, 1, 1})},
                    {kohya_ + ".alpha", zeros({}, 2)}});
  EXPECT_EQ(Lora(cpu(), *unet_->net, file_).layers(), 1u);
}

TEST_F(BadLora, RanksAndPartners) {
  refused("lora-rank-mismatch", {{down_, zeros({4, 20})}, {up_, zeros({24, 8})}},
          "'" + layer_ + "': up has rank 8, down has rank 4");
  refused("lora-orphan", {{kohya_ + ".lora_down.weight", zeros({4, 20})}},
          "'" + kohya_ + ".lora_down.weight' has no '" + kohya_ + ".lora_up.weight'");
  refused("lora-orphan", {{up_, zeros({24, 4})}}, "'" + up_ + "' has no '" + down_ + "'");
  refused("lora-orphan", {{"unet." + layer_ + ".lora.down.weight", zeros({4, 20})}},
          "has no 'unet." + layer_ + ".lora.up.weight'");
  refused("alpha alone", {{kohya_ + ".alpha", zeros({}, 2)}},
          "'" + kohya_ + ".alpha' has no factors beside it");
  refused(
      "twice",
      {{down_, zeros({4, 20})}, {layer_ + ".lora_A.weight", zeros({4, 20})}, {up_, zeros({24, 4})}},
      "are the same tensor");
  refused("lora-rank-0", {{down_, zeros({0, 20})}, {up_, zeros({24, 0})}},
          "rank is 0, expected 1..24");
  refused("lora-rank-4096-on-320", {{down_, zeros({4096, 20})}, {up_, zeros({24, 4096})}},
          "rank is 4096, expected 1..24");
  refused("not a matrix", {{down_, zeros({20})}, {up_, zeros({24, 4})}},
          "is [20], expected a matrix");
  refused("3x3", {{down_, zeros({4, 20, 3, 3})}, {up_, zeros({24, 4, 1, 1})}},
          "is [4,20,3,3], expected a matrix");
}

TEST_F(BadLora, OtherBaseModels) {
  refused("lora-wrong-base", {{down_, zeros({4, 2048})}, {up_, zeros({24, 4})}},
          "made for width 2048, model has 20 (SDXL LoRA on SD 1.x?)");
  refused("lora-wrong-base", {{down_, zeros({4, 32})}, {up_, zeros({24, 4})}},
          "made for width 32, model has 20");
  refused("lora-wrong-base", {{down_, zeros({4, 20})}, {up_, zeros({32, 4})}},
          "made for output width 32, model has 24");
  Tensors32 none;
  for (int i = 0; i < 264; ++i) {
    const std::string name = concat("lora_unet_input_blocks_", i, "_0_attn1_to_q");
    none[name + ".lora_down.weight"] = zeros({1, 2});
    none[name + ".lora_up.weight"] = zeros({2, 1});
    none[name + ".alpha"] = zeros({}, 1);
  }
  refused("lora-no-match", none, "none of 264 modules match this model");
  none[down_] = zeros({4, 20});
  none[up_] = zeros({24, 4});
  refused("lora-some", none, "more LoRA tensors match no layer of this model");
  refused("empty", {}, "none of 0 modules match this model");
  refused("text encoder", {{"lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", zeros({}, 1)}},
          "LoRA of the text encoder is not supported");
  refused("LoHa", {{kohya_ + ".hada_w1_a", zeros({1, 2})}}, "adapters are not supported");
  refused("weights of a network", {{"conv_in.weight", zeros({1, 2})}},
          "is not a LoRA tensor of a known dialect");
}

TEST_F(BadLora, Alpha) {
  const auto with = [&](std::pair<std::vector<int64_t>, std::vector<float>> alpha) {
    return Tensors32{{kohya_ + ".lora_down.weight", zeros({4, 20})},
                     {kohya_ + ".lora_up.weight", zeros({24, 4})},
                     {kohya_ + ".alpha", std::move(alpha)}};
  };
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              inf = std::numeric_limits<float>::infinity();
  refused("lora-alpha-nan", with(zeros({}, nan)), "'" + kohya_ + ".alpha' is NaN");
  refused("lora-alpha-inf", with(zeros({}, inf)), "'" + kohya_ + ".alpha' is infinite");
  refused("alpha of two", with(zeros({2}, 1)), "'" + kohya_ + ".alpha' has 2 values, expected 1");
  refused("alpha of none", with(zeros({0})), "'" + kohya_ + ".alpha' has 0 values, expected 1");
  refused("NaN factor", {{down_, zeros({4, 20}, nan)}, {up_, zeros({24, 4})}},
          "80 NaN, first at index 0");
  refused_metadata("{", "lora_adapter_metadata");
  refused_metadata("[]", "lora_adapter_metadata: found an array, expected a JSON object");
  refused_metadata(R"({"unet.lora_alpha": "x"})",
                   "'unet.lora_alpha' is a string, expected a number");
  refused_metadata(R"({"unet.alpha_pattern": 3})", "expected a JSON object");
  refused_metadata(R"({"unet.alpha_pattern": {")" + layer_ + R"(": "x"}})",
                   "is a string, expected a number");
  refused_metadata(R"({"unet.use_rslora": true})", "'unet.use_rslora' is not supported");
}

}  // namespace
}  // namespace realfake::testing
