// What `embed` keeps of a data set: its contents, its key, and how a file that is not what it
// should be is met.
#include "train/embed.h"

#include <limits>

#include "model/safetensors.h"
#include "tests/train/tiny_pipeline.h"

namespace realfake::testing {
namespace {

namespace fs = std::filesystem;

Exec& ex() {
  return exec_of(Device::cpu);
}

void expect_same(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.defined(), b.defined());
  if (!a.defined()) return;
  EXPECT_EQ(a.shape().str(), b.shape().str());
  EXPECT_EQ(ex().to_vector<float>(a), ex().to_vector<float>(b));
}

TEST(Embed, HoldsMomentsPromptsAndEmbeddings) {
  const Embedded& e = Tiny::get().embedded;
  EXPECT_EQ(e.size(), 12);
  EXPECT_EQ(e.moments.shape(), Shape({12, 4, 4, 8}));
  EXPECT_EQ(e.image_embeds.shape(), Shape({12, 16}));
  EXPECT_EQ(e.empty_state.shape(), Shape({1, 8, 16}));
  EXPECT_EQ(e.prompts.size(), 6u);  // three classes, two captions
  EXPECT_EQ(e.text_states.shape(), Shape({6, 8, 16}));
  EXPECT_EQ(e.prompts[0], "photo of zero, wide");
  EXPECT_EQ(e.classes, (std::vector<std::string>{"zero", "one", "two"}));
  EXPECT_EQ(e.labels, Tiny::get().set.labels);
  for (size_t i = 0; i < 12; ++i)
    EXPECT_EQ(e.prompts[static_cast<size_t>(e.prompt_of[i])],
              make_prompt(e.classes[static_cast<size_t>(e.labels[i])], i % 2 ? "thin" : "wide"));
}

TEST(Embed, DoesNotDependOnTheBatch) {
  SilentReporter silent;
  EmbedOptions five;
  five.batch = 5;
  const Embedded a = embed_dataset(ex(), Tiny::get().pipeline, Tiny::get().set, five, silent);
  const auto near = [&](const Tensor& x, const Tensor& y) {
    const std::vector<float> u = ex().to_vector<float>(x), v = ex().to_vector<float>(y);
    ASSERT_EQ(u.size(), v.size());
    for (size_t i = 0; i < u.size(); ++i) ASSERT_NEAR(u[i], v[i], 1e-5);
  };
  near(a.moments, Tiny::get().embedded.moments);
  near(a.text_states, Tiny::get().embedded.text_states);
  near(a.image_embeds, Tiny::get().embedded.image_embeds);
}

TEST(Embed, FileComesBackExactly) {
  const Tiny& t = Tiny::get();
  const Embedded e = load_embedded(ex(), t.embedded_file, embedding_key(t.pipeline, t.set, {}));
  expect_same(e.moments, t.embedded.moments);
  expect_same(e.text_states, t.embedded.text_states);
  expect_same(e.empty_state, t.embedded.empty_state);
  expect_same(e.image_embeds, t.embedded.image_embeds);
  EXPECT_EQ(e.prompts, t.embedded.prompts);
  EXPECT_EQ(e.prompt_of, t.embedded.prompt_of);
  EXPECT_EQ(e.labels, t.embedded.labels);
  EXPECT_EQ(e.classes, t.embedded.classes);
  EXPECT_EQ(e.weights, t.embedded.weights);
  EXPECT_EQ(SafetensorsFile(t.embedded_file).info("moments").shape,
            (std::vector<int64_t>{12, 8, 4, 4}));  // NCHW
  const TempDir dir;
  save_embedded(e, ex(), dir / "again", embedding_key(t.pipeline, t.set, {}));
  EXPECT_EQ(bytes_of(dir / "again"), bytes_of(t.embedded_file));
}

TEST(Embed, KeyFollowsPicturesWeightsAndSettings) {
  const Tiny& t = Tiny::get();
  const std::string key = embedding_key(t.pipeline, t.set, {});
  EXPECT_EQ(key, embedding_key(t.pipeline, t.set, {}));
  std::vector<std::string> keys{key};
  const auto differs = [&](const std::string& k, const char* what) {
    for (const std::string& other : keys) EXPECT_NE(k, other) << what;
    keys.push_back(k);
  };
  ImageSet set = t.set;
  set.pixels[700] ^= 1;
  differs(embedding_key(t.pipeline, set, {}), "one pixel");
  set = t.set;
  set.labels[3] = 2;
  differs(embedding_key(t.pipeline, set, {}), "one label");
  set = t.set;
  set.captions[3] = "round";
  differs(embedding_key(t.pipeline, set, {}), "one caption");
  set = t.set;
  set.classes[1] = "eins";
  differs(embedding_key(t.pipeline, set, {}), "a class's name");
  EmbedOptions negative;
  negative.negative_prompt = "thin";
  differs(embedding_key(t.pipeline, t.set, negative), "the negative prompt");
  const TempDir dir;
  for (const char* file :
       {"vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors",
        "image_encoder/model.safetensors", "tokenizer/merges.txt", "vae/config.json"}) {
    fs::copy(t.pipeline, dir / "base", fs::copy_options::recursive);
    EXPECT_EQ(embedding_key(dir / "base", t.set, {}), key);
    flip_bit(dir / "base" / file, -5);
    differs(embedding_key(dir / "base", t.set, {}), file);
    fs::remove_all(dir / "base");
  }
}

TEST(Embed, DamagedFilesAreRefused) {
  const TempDir dir;
  const fs::path file = dir / "embedded.safetensors";
  const std::string whole = bytes_of(Tiny::get().embedded_file);
  for (size_t at = 0; at < whole.size(); at += 97) {
    put_bytes(file, whole);
    flip_bit(file, static_cast<int64_t>(at));
    expect_says(refused<InputError>([&] { load_embedded(ex(), file, ""); }),
                "embedded.safetensors");
  }
  for (const size_t length : {size_t{0}, size_t{7}, whole.size() / 2, whole.size() - 1}) {
    put_bytes(file, whole.substr(0, length));
    EXPECT_THROW(load_embedded(ex(), file, ""), InputError) << length;
  }
  EXPECT_THROW(load_embedded(ex(), dir / "none", ""), Error);
}

TEST(Embed, ForeignFilesAreRefused) {
  const Tiny& t = Tiny::get();
  expect_says(
      refused<InputError>([&] { load_embedded(ex(), t.embedded_file, std::string(64, '0')); }),
      "run `realfake embed` again");
  EXPECT_THROW(load_embedded(ex(), t.pipeline / "vae" / "diffusion_pytorch_model.safetensors", ""),
               InputError);
  const auto save_and_load = [&](const Embedded& e) {
    const TempDir dir;
    save_embedded(e, ex(), dir / "e", "key");
    return refused<InputError>([&] { load_embedded(ex(), dir / "e", ""); });
  };
  Embedded e = t.embedded;
  e.labels[2] = 3;
  expect_says(save_and_load(e), "'labels': 3, expected 0..2");
  e = t.embedded;
  e.prompt_of[2] = -1;
  expect_says(save_and_load(e), "'prompt_of': -1");
  e = t.embedded;
  e.prompts.pop_back();
  expect_says(save_and_load(e), "'prompt_of'");
  e = t.embedded;
  e.image_embeds = take_rows(ex(), e.image_embeds, {0, 1});
  expect_says(save_and_load(e), "'image_embeds'");
  e = t.embedded;
  e.empty_state = ex().zeros({1, 7, 16});
  expect_says(save_and_load(e), "'empty_state'");
}

TEST(Embed, MustFitThePipeline) {
  const Tiny& t = Tiny::get();
  require_fits(t.embedded, t.pipeline, "file");
  Embedded e = t.embedded;
  e.text_states = ex().zeros({6, 8, 24});
  expect_says(refused<InputError>([&] { require_fits(e, t.pipeline, "file"); }),
              "found 24, expected 16");
  e = t.embedded;
  e.moments = ex().zeros({12, 4, 4, 6});
  expect_says(refused<InputError>([&] { require_fits(e, t.pipeline, "file"); }),
              "found 6, expected 8");
  const TempDir dir;
  fs::copy(t.pipeline, dir / "base", fs::copy_options::recursive);
  flip_bit(dir / "base/vae/diffusion_pytorch_model.safetensors", -5);
  expect_says(refused<InputError>([&] { require_fits(t.embedded, dir / "base", "file"); }),
              "other networks");
}

TEST(Embed, SizesAndValuesThatDoNotWork) {
  const Tiny& t = Tiny::get();
  SilentReporter silent;
  ImageSet odd = t.set;
  odd.height = 4;
  odd.width = 7;
  odd.pixels.resize(12 * 28);
  expect_says(refused<InputError>([&] { embed_dataset(ex(), t.pipeline, odd, {}, silent); }),
              "4x7");
  ImageSet none = t.set.subset({});
  expect_says(refused<InputError>([&] { embed_dataset(ex(), t.pipeline, none, {}, silent); }),
              "empty");
  Recorder stops;
  stops.stop_at = 1;
  const std::string said =
      refused<Error>([&] { embed_dataset(ex(), t.pipeline, t.set, {}, stops); });
  expect_says(said, "interrupted");
}

TEST(GuidanceToken, ReplacesOnlyTheLastToken) {
  const Tiny& t = Tiny::get();
  const Tensor context = take_rows(ex(), t.embedded.text_states, {0, 1});
  const std::vector<float> before = ex().to_vector<float>(context);
  const Tensor rows = guidance_rows(ex(), t.embedded, GuidanceToken::image, Tensor(), {4, 7});
  replace_last_token(ex(), context, rows);
  const std::vector<float> after = ex().to_vector<float>(context),
                           embeds = ex().to_vector<float>(t.embedded.image_embeds);
  for (size_t i = 0; i < after.size(); ++i) {
    const size_t n = i / 128, token = i / 16 % 8, k = i % 16;
    EXPECT_EQ(after[i], token == 7 ? embeds[(n == 0 ? 4 : 7) * 16 + k] : before[i]);
  }
  const Tensor means = class_mean_embeds(ex(), t.embedded);
  const std::vector<float> mean = ex().to_vector<float>(means);
  for (size_t k = 0; k < 16; ++k)
    EXPECT_NEAR(
        mean[16 + k],
        (embeds[16 + k] + embeds[4 * 16 + k] + embeds[7 * 16 + k] + embeds[10 * 16 + k]) / 4, 1e-5);
  EXPECT_FALSE(guidance_rows(ex(), t.embedded, GuidanceToken::off, Tensor(), {1}).defined());
  EXPECT_THROW(parse_guidance_token("text"), UsageError);
  Embedded wide = t.embedded;
  wide.image_embeds = ex().zeros({12, 24});
  EXPECT_THROW(guidance_rows(ex(), wide, GuidanceToken::image, Tensor(), {1}), InputError);
  wide.image_embeds = Tensor();
  EXPECT_THROW(guidance_rows(ex(), wide, GuidanceToken::image, Tensor(), {1}), InputError);
}

}  // namespace
}  // namespace realfake::testing
