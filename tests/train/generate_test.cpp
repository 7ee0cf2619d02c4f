// The synthetic set: what is written, that it does not depend on how the work was cut, and that
// every option works.
#include "train/generate.h"

#include <limits>
#include <map>

#include "data/manifest.h"
#include "data/png.h"
#include "kernels/base/sha256.h"
#include "tests/train/tiny_pipeline.h"
#include "train/finetune.h"

namespace realfake::testing {
namespace {

namespace fs = std::filesystem;

Exec& ex() {
  return exec_of(Device::cpu);
}

GenerateOptions quick() {
  GenerateOptions o;
  o.num_inference_steps = 4;
  o.batch_size = 5;
  return o;
}

GenerateResult make(const GenerateOptions& o, const fs::path& folder, Reporter* reporter = nullptr,
                    const Embedded* data = nullptr) {
  SilentReporter silent;
  const Tiny& t = Tiny::get();
  return generate(ex(), t.pipeline, data ? *data : t.embedded, o, folder,
                  reporter ? *reporter : silent);
}

// Name -> bytes of every picture.
std::map<std::string, std::string> pictures(const fs::path& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::directory_iterator(folder / "images"))
    all[entry.path().filename().string()] = bytes_of(entry.path());
  return all;
}

std::map<std::string, std::string> made(const GenerateOptions& o) {
  const TempDir dir;
  make(o, dir / "set");
  return pictures(dir / "set");
}

const std::map<std::string, std::string>& reference() {
  static const auto all = made(quick());
  return all;
}

int64_t largest_difference(const std::map<std::string, std::string>& a,
                           const std::map<std::string, std::string>& b) {
  int64_t most = a.size() == b.size() ? 0 : 999;
  for (const auto& [name, bytes] : a) {
    const Image x = decode_png(bytes, name), y = decode_png(b.at(name), name);
    if (x.pixels.size() != y.pixels.size()) return 999;
    for (size_t i = 0; i < x.pixels.size(); ++i)
      most = std::max<int64_t>(most, std::abs(int{x.pixels[i]} - int{y.pixels[i]}));
  }
  return most;
}

TEST(Generate, WritesPicturesManifestAndClasses) {
  const TempDir dir;
  GenerateOptions o = quick();
  o.versions = 2;
  o.seed = 5;
  const GenerateResult r = make(o, dir.path());
  EXPECT_EQ(r.written, 24);
  EXPECT_EQ(r.present, 0);
  const Embedded& e = Tiny::get().embedded;
  EXPECT_EQ(classes_of_folder(dir.path()), e.classes);
  const std::vector<ManifestLine> lines = read_manifests(dir.path(), e.classes);
  ASSERT_EQ(lines.size(), 24u);
  for (size_t i = 0; i < 24; ++i) {
    EXPECT_EQ(lines[i].index, static_cast<int64_t>(i));
    EXPECT_EQ(lines[i].label, e.labels[i % 12]);
    EXPECT_EQ(lines[i].prompt, e.prompts[static_cast<size_t>(e.prompt_of[i % 12])]);
    EXPECT_EQ(lines[i].sha256, sha256_of_file(dir.path() / lines[i].file));
  }
  const ImageSet set = load_dataset(dir.path());
  EXPECT_EQ(set.size(), 24);
  EXPECT_EQ(set.height, 8);
  EXPECT_EQ(set.channels, 3);
  EXPECT_NE(bytes_of(dir / "images/000003.png"),
            bytes_of(dir / "images/000015.png"));  // other draws each version
  const Json line = parse_json(read_whole_lines(dir / "manifest.jsonl", 1 << 20).at(15), "line");
  EXPECT_EQ(line["seed"], 5);
  EXPECT_EQ(line["source"], 3);
  EXPECT_EQ(line["strength"], 0.75);
}

TEST(Generate, EqualBytesTwice) {
  EXPECT_EQ(made(quick()), reference());
}

TEST(Generate, APictureDoesNotDependOnTheBatch) {
  for (const int64_t size : {1, 3, 12}) {
    GenerateOptions o = quick();
    o.batch_size = size;
    EXPECT_LE(largest_difference(made(o), reference()), 1) << "batches of " << size;
  }
}

TEST(Generate, ShardsMakeTheSameSet) {
  const TempDir dir;
  GenerateOptions o = quick();
  o.shards = 2;
  o.shard = 1;
  EXPECT_EQ(make(o, dir.path()).written, 5);
  o.shard = 0;
  EXPECT_EQ(make(o, dir.path()).written, 7);
  EXPECT_EQ(pictures(dir.path()), reference());
  EXPECT_EQ(load_dataset(dir.path()).size(), 12);
  // Another cut of the indices would leave some out and make others twice.
  o.batch_size = 4;
  expect_says(refused<InputError>([&] { make(o, dir.path()); }), "batch_size 5, now 4");
  // The whole in one go finds all of it, and makes again what has gone.
  fs::remove(dir / "images/000002.png");
  fs::remove(dir / "images/000007.png");
  const GenerateResult r = make(quick(), dir.path());
  EXPECT_EQ(r.written, 2);
  EXPECT_EQ(r.present, 10);
  EXPECT_EQ(pictures(dir.path()), reference());
  EXPECT_EQ(load_dataset(dir.path()).size(), 12);
  for (const int64_t shard : {-1, 2}) {
    o.shard = shard;
    EXPECT_THROW(make(o, dir.path()), UsageError);
  }
}

TEST(Generate, GoesOnAfterAStop) {
  const TempDir dir;
  Recorder recorder;
  recorder.stop_at = 2;
  const std::string said = refused<Error>([&] { make(quick(), dir.path(), &recorder); });
  expect_says(said, "interrupted after 10 of 12 images");
  EXPECT_EQ(pictures(dir.path()).size(), 10u);
  const GenerateResult r = make(quick(), dir.path());
  EXPECT_EQ(r.written, 2);
  EXPECT_EQ(r.present, 10);
  EXPECT_EQ(pictures(dir.path()), reference());
  EXPECT_EQ(make(quick(), dir.path()).written, 0);
}

TEST(Generate, DamagedAndDeletedPicturesAreMadeAgain) {
  const TempDir dir;
  make(quick(), dir.path());
  const fs::path cut = dir / "images/000001.png", flipped = dir / "images/000006.png";
  put_bytes(cut, bytes_of(cut).substr(0, 60));
  flip_bit(flipped, 50);
  fs::remove(dir / "images/000011.png");
  put_bytes(dir / "images/.000004.png.77-1.tmp", "half a pict");
  const std::string manifest = bytes_of(dir / "manifest.jsonl");
  put_bytes(dir / "manifest.jsonl", manifest + "{\"index\":12,\"fi");
  Recorder recorder;
  const GenerateResult r = make(quick(), dir.path(), &recorder);
  EXPECT_EQ(r.written, 3);
  EXPECT_EQ(pictures(dir.path()), reference());
  expect_says(recorder.text(), "000001.png: not what the manifest says; making it again");
  expect_says(recorder.text(), "000006.png");
  EXPECT_EQ(load_dataset(dir.path()).size(), 12);
}

TEST(Generate, ALostManifestIsMadeAgain) {
  const TempDir dir;
  make(quick(), dir.path());
  fs::remove(dir / "manifest.jsonl");
  EXPECT_EQ(make(quick(), dir.path()).written, 12);
  EXPECT_EQ(pictures(dir.path()), reference());
}

TEST(Generate, OtherSettingsDoNotMixInOneFolder) {
  const TempDir dir;
  GenerateOptions o = quick();
  o.limit = 5;
  make(o, dir.path());
  const auto with = [&](const std::function<void(GenerateOptions&)>& change, const char* part) {
    GenerateOptions other = quick();
    change(other);
    const std::string said = refused<InputError>([&] { make(other, dir.path()); });
    expect_says(said, part);
    expect_says(said, "manifest.jsonl: made with other settings");
  };
  with([](auto& p) { p.guidance_scale = 3; }, "guidance_scale 2.0, now 3.0");
  with([](auto& p) { p.seed = 9; }, "seed 0, now 9");
  with([](auto& p) { p.num_inference_steps = 5; }, "steps 4, now 5");
  with([](auto& p) { p.eta = 0.5; }, "eta 0.0, now 0.5");
  with([](auto& p) { p.grey = true; }, "grey false, now true");
  with([](auto& p) { p.guidance_token = GuidanceToken::image; }, "guidance_token");
  Embedded other = Tiny::get().embedded;
  other.moments = ex().zeros(other.moments.shape());
  expect_says(refused<InputError>([&] { make(quick(), dir.path(), nullptr, &other); }), "data \"");
  EXPECT_EQ(make(quick(), dir.path()).written, 7);  // more of the same may be added
  EXPECT_EQ(pictures(dir.path()), reference());
}

TEST(Generate, EveryOptionDoesSomething) {
  const auto with = [&](const std::function<void(GenerateOptions&)>& change) {
    GenerateOptions o = quick();
    o.limit = 5;
    change(o);
    return made(o);
  };
  std::map<std::string, std::map<std::string, std::string>> all;
  all["base"] = with([](auto&) {});
  all["noise"] = with([](auto& o) { o.from_noise = true; });
  all["strength"] = with([](auto& o) { o.strength = 0.5; });
  all["strength 1"] = with([](auto& o) { o.strength = 1; });
  all["unguided"] = with([](auto& o) { o.guidance_scale = 1; });
  all["guided"] = with([](auto& o) { o.guidance_scale = 6; });
  all["eta"] = with([](auto& o) { o.eta = 1; });
  all["steps"] = with([](auto& o) { o.num_inference_steps = 9; });
  all["seed"] = with([](auto& o) { o.seed = 1; });
  all["image"] = with([](auto& o) { o.guidance_token = GuidanceToken::image; });
  all["mean"] = with([](auto& o) { o.guidance_token = GuidanceToken::class_mean; });
  all["grey"] = with([](auto& o) { o.grey = true; });
  for (const auto& [a, x] : all) {
    EXPECT_EQ(x.size(), 5u) << a;
    for (const auto& [b, y] : all)
      if (a < b) {
        EXPECT_NE(x, y) << a << " and " << b;
      }
  }
  EXPECT_EQ(with([](auto& o) { o.guidance_scale = 0.5; }), all["unguided"]);  // off at 1 and below
  EXPECT_EQ(with([](auto& o) {
              o.from_noise = true;
              o.strength = 0.2;
            }),
            all["noise"]);
  EXPECT_EQ(decode_png(all["grey"].at("000000.png"), "grey").channels, 1);
  const Image colour = decode_png(all["base"].at("000000.png"), "c"),
              grey = decode_png(all["grey"].at("000000.png"), "g");
  for (size_t i = 0; i < grey.pixels.size(); ++i)
    EXPECT_EQ(grey.pixels[i],
              (colour.pixels[3 * i] + colour.pixels[3 * i + 1] + colour.pixels[3 * i + 2] + 1) / 3);
}

TEST(Generate, LowStrengthStaysNearTheRealLatent) {
  // The start is the noised real latent, so that at a low strength the result keeps the posterior's
  // draw.
  const Tiny& t = Tiny::get();
  const auto unet = load_unet(ex(), t.pipeline / "unet");
  const NoiseSchedule schedule = load_schedule(t.pipeline);
  const auto distance = [&](double strength) {
    GenerateOptions o = quick();
    o.num_inference_steps = 50;
    o.strength = strength;
    o.guidance_scale = 1;
    const Tensor z = Sampler(ex(), *unet->net, schedule, 1, t.embedded, o)({0, 1, 2});
    const std::vector<float> x = ex().to_vector<float>(z),
                             m = ex().to_vector<float>(t.embedded.moments);
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t c = i % 4, p = i / 4;
      const double mean = m[p * 8 + c], deviation = std::exp(0.5 * m[p * 8 + 4 + c]);
      sum += std::pow((x[i] - mean) / (1 + deviation), 2);
    }
    return std::sqrt(sum / static_cast<double>(x.size()));
  };
  EXPECT_LT(distance(0.02), 1.2);
  EXPECT_LT(distance(0.02), distance(1));
}

TEST(Generate, ALoraActsAsStrongAsItIsScaled) {
  const TempDir dir;
  SilentReporter silent;
  FinetuneOptions f;
  f.max_train_steps = 20;
  f.learning_rate = 1e-2;
  f.train_batch_size = 3;
  const Tiny& t = Tiny::get();
  finetune(ex(), t.pipeline, t.embedded, f, dir.path(), false, silent);
  GenerateOptions o = quick();
  o.lora = (dir / "pytorch_lora_weights.safetensors").string();
  const auto full = made(o);
  o.lora_scale = 0.5;
  const auto half = made(o);
  o.lora_scale = 0;
  EXPECT_EQ(largest_difference(made(o), reference()), 0);
  EXPECT_GT(largest_difference(full, reference()), 0);
  EXPECT_NE(half, full);
}

TEST(Generate, ValuesThatAreNotFiniteBecomeNoPicture) {
  const TempDir dir;
  Embedded data = Tiny::get().embedded;
  std::vector<float> v = ex().to_vector<float>(data.moments);
  v[7 * 128 + 9] = std::numeric_limits<float>::quiet_NaN();  // sample 7, in the second batch
  data.moments = ex().from_vector(v, data.moments.shape());
  expect_says(refused<NumericError>([&] { make(quick(), dir.path(), nullptr, &data); }),
              "image 7: ");
  EXPECT_EQ(pictures(dir.path()).size(), 5u);
}

TEST(Generate, FolderOfAnotherSetIsRefused) {
  const TempDir dir;
  write_classes(dir.path(), {"cat", "dog"});
  EXPECT_THROW(make(quick(), dir.path()), InputError);
  put_bytes(dir / "file", "");
  EXPECT_THROW(make(quick(), dir / "file"), IoError);
}

}  // namespace
}  // namespace realfake::testing
