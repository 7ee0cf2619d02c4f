#pragma once
// A whole pipeline with freshly drawn weights, small enough that a training step takes a
// millisecond, and a data set of twelve 8x8 pictures in three classes. Made with the product's own
// writers.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "data/captions.h"
#include "data/dataset.h"
#include "model/pipeline.h"
#include "tests/testing/op_case.h"
#include "tests/testing/temp_dir.h"
#include "train/base_configs.h"
#include "train/embed.h"

namespace realfake::testing {

inline std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline void put_bytes(const std::filesystem::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

// One bit of the byte at `offset` (from the end when negative).
inline void flip_bit(const std::filesystem::path& file, int64_t offset) {
  std::string bytes = bytes_of(file);
  auto& c = bytes.at(
      static_cast<size_t>(offset < 0 ? static_cast<int64_t>(bytes.size()) + offset : offset));
  c = static_cast<char>(c ^ 4);
  put_bytes(file, bytes);
}

// The message of the error of this kind that `f` must end with.
template <class Kind, class F>
std::string refused(F&& f) {
  try {
    f();
  } catch (const Kind& e) {
    return e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << "another kind of error: " << e.what();
    return e.what();
  }
  ADD_FAILURE() << "not refused";
  return "";
}

inline void expect_says(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

inline ImageSet tiny_set(int64_t per_class = 4, int shift = 0) {
  ImageSet set;
  set.height = set.width = 8;
  set.channels = 1;
  set.classes = {"zero", "one", "two"};
  for (int64_t i = 0; i < 3 * per_class; ++i) {
    const int64_t label = i % 3;
    set.labels.push_back(label);
    set.captions.push_back(i % 2 ? "thin" : "wide");
    for (int64_t p = 0; p < 64; ++p) {
      const int64_t y = p / 8, x = p % 8;
      const bool ink = label == 0   ? y == 2 || y == 6
                       : label == 1 ? x == 3 + i % 2
                                    : (x + y + i) % 4 == 0;
      set.pixels.push_back(static_cast<uint8_t>((ink ? 200 : 20) + (i * 7 + p * 3 + shift) % 32));
    }
  }
  return set;
}

class Recorder : public Reporter {
 public:
  std::vector<std::string> lines;
  std::vector<std::pair<std::string, int64_t>> steps, rewinds;
  std::vector<Metrics> metrics;
  int64_t stop_at = 0;  // as if a signal came in the n-th step
  void step(const std::string& stage, int64_t step, int64_t, const Metrics& m) override {
    steps.emplace_back(stage, step);
    metrics.push_back(m);
  }
  void rewind(const std::string& stage, int64_t step) override {
    rewinds.emplace_back(stage, step);
  }
  void say(const std::string& line) override { lines.push_back(line); }
  bool stop_requested() const override {
    return stop_at > 0 && static_cast<int64_t>(steps.size()) >= stop_at;
  }
  std::string text() const {
    std::string all;
    for (const std::string& line : lines) all += line + "\n";
    return all;
  }
};

inline void write_tiny_pipeline(const std::filesystem::path& root) {
  namespace fs = std::filesystem;
  Exec& ex = exec_of(Device::cpu);
  const char* vae_file = "diffusion_pytorch_model.safetensors";
  for (const char* part : {"unet", "vae", "text_encoder", "image_encoder", "tokenizer", "scheduler",
                           "feature_extractor"})
    fs::create_directories(root / part);
  const Tokenizer tokenizer(
      train_bpe({"photo of zero, thin", "photo of one, wide", "photo of two"}, 530), 8);
  tokenizer.save(root / "tokenizer");
  const auto changed = [](Json config, const Json& changes) {
    config.update(changes);
    return config;
  };
  const Json small = {{"hidden_size", 16},
                      {"intermediate_size", 32},
                      {"projection_dim", 16},
                      {"num_hidden_layers", 1},
                      {"num_attention_heads", 2}};
  const Json unet = changed(base::unet_config(), {{"block_out_channels", {8, 16}},
                                                  {"norm_num_groups", 4},
                                                  {"attention_head_dim", 2},
                                                  {"cross_attention_dim", 16}});
  const Json vae =
      changed(base::vae_config(), {{"block_out_channels", {8, 8}}, {"norm_num_groups", 4}});
  const Json text =
      changed(changed(base::text_config(tokenizer), small), {{"max_position_embeddings", 8}});
  const Json vision = changed(base::vision_config(), small);
  const auto put = [&](const char* part, const char* file, const Json& config,
                       const auto& network) {
    write_json_atomic(root / part / "config.json", config);
    save_parameters(network->parameters, root / part / file);
  };
  put("unet", vae_file, unet, fresh_unet(ex, unet, 1));
  put("vae", vae_file, vae, fresh_vae(ex, vae, 2));
  put("text_encoder", "model.safetensors", text, fresh_text(ex, text, 3));
  put("image_encoder", "model.safetensors", vision, fresh_vision(ex, vision, 4));
  write_json_atomic(root / "scheduler" / "scheduler_config.json", base::scheduler_config());
  write_json_atomic(root / "feature_extractor" / "preprocessor_config.json",
                    base::preprocessor_config());
  write_json_atomic(root / "model_index.json", base::model_index());
}

// Made once for a test program: the pipeline, the data set as a folder, and what `embed` makes of
// the two.
struct Tiny {
  TempDir dir;
  std::filesystem::path pipeline = dir / "base", data = dir / "data",
                        embedded_file = dir / "embedded.safetensors";
  ImageSet set = tiny_set();
  Embedded embedded;

  static const Tiny& get() {
    static const Tiny tiny;
    return tiny;
  }

 private:
  Tiny() {
    write_tiny_pipeline(pipeline);
    std::filesystem::create_directories(data);
    write_classes(data, set.classes);
    write_idx(data, "train", set);
    write_idx(data, "test", tiny_set(2, 5));
    Exec& ex = exec_of(Device::cpu);
    SilentReporter silent;
    embedded = embed_dataset(ex, pipeline, set, {}, silent);
    save_embedded(embedded, ex, embedded_file, embedding_key(pipeline, set, {}));
  }
};

}  // namespace realfake::testing
