// Fine-tuning: the file it makes, equal bytes, going on after a stop, and what it refuses.
#include "train/finetune.h"

#include <limits>
#include <set>

#include "kernels/elementwise.h"
#include "model/lora.h"
#include "model/safetensors.h"
#include "tests/train/tiny_pipeline.h"

namespace realfake::testing {
namespace {

namespace fs = std::filesystem;

const char* lora_file = "pytorch_lora_weights.safetensors";

Exec& ex() {
  return exec_of(Device::cpu);
}

FinetuneOptions quick() {
  FinetuneOptions o;
  o.max_train_steps = 12;
  o.train_batch_size = 3;
  o.learning_rate = 1e-3;
  o.checkpointing_steps = 4;
  return o;
}

FinetuneResult tune(const FinetuneOptions& o, const fs::path& folder, bool resume = false,
                    const Embedded* data = nullptr) {
  SilentReporter silent;
  const Tiny& t = Tiny::get();
  return finetune(ex(), t.pipeline, data ? *data : t.embedded, o, folder, resume, silent);
}

std::string tuned(const FinetuneOptions& o) {
  const TempDir dir;
  tune(o, dir.path());
  return bytes_of(dir / lora_file);
}

// Stopped after `step`, as by a signal.
void tune_until(int64_t step, FinetuneOptions o, const fs::path& folder, bool resume = false) {
  o.stop_after = step;
  EXPECT_THROW(tune(o, folder, resume), Error);
  EXPECT_FALSE(fs::exists(folder / lora_file));
}

TEST(BatchIndices, EveryEpochIsAPermutation) {
  const std::vector<int64_t>& labels = Tiny::get().set.labels;
  std::vector<int64_t> drawn;
  for (int64_t step = 0; step < 12; ++step) {
    const std::vector<int64_t> b = batch_indices(labels, 3, false, 5, 42, step);
    EXPECT_EQ(b, batch_indices(labels, 3, false, 5, 42, step));
    drawn.insert(drawn.end(), b.begin(), b.end());
  }
  std::set<std::vector<int64_t>> epochs;
  for (int e = 0; e < 5; ++e) {  // 60 draws of 12 samples
    const std::vector<int64_t> epoch(drawn.begin() + 12 * e, drawn.begin() + 12 * (e + 1));
    EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), 12u);
    epochs.insert(epoch);
  }
  EXPECT_EQ(epochs.size(), 5u);
  EXPECT_NE(batch_indices(labels, 3, false, 5, 42, 0), batch_indices(labels, 3, false, 5, 43, 0));
}

TEST(BatchIndices, OfOneClassEach) {
  const std::vector<int64_t>& labels = Tiny::get().set.labels;
  for (const int64_t size : {2, 4, 9}) {  // fewer than, as many as, more than a class has
    std::vector<int64_t> turns(3, 0), used(12, 0);
    for (int64_t step = 0; step < 60; ++step) {
      const std::vector<int64_t> b = batch_indices(labels, 3, true, size, 7, step);
      EXPECT_EQ(b, batch_indices(labels, 3, true, size, 7, step));
      ASSERT_EQ(b.size(), static_cast<size_t>(size));
      std::set<int64_t> classes, samples(b.begin(), b.end());
      for (const int64_t i : b) {
        classes.insert(labels[static_cast<size_t>(i)]);
        ++used[static_cast<size_t>(i)];
      }
      EXPECT_EQ(classes.size(), 1u);
      if (size <= 4) {
        EXPECT_EQ(samples.size(), b.size());
      }
      ++turns[static_cast<size_t>(*classes.begin())];
    }
    EXPECT_EQ(turns, (std::vector<int64_t>{20, 20, 20}));
    for (const int64_t n : used) EXPECT_GT(n, 0);
  }
  // A class without samples does not stop the run.
  EXPECT_EQ(batch_indices({0, 0, 2, 2}, 3, true, 2, 7, 0).size(), 2u);
}

TEST(Finetune, WritesALoraThatLoadsAndHasLearnt) {
  const TempDir dir;
  const FinetuneResult r = tune(quick(), dir.path());
  EXPECT_EQ(r.steps, 12);
  EXPECT_TRUE(std::isfinite(r.loss) && r.denoise > 0);
  EXPECT_NEAR(r.loss, r.denoise + 0.003 * r.match, 1e-5 * r.loss);
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(dir.path()))
    files.push_back(entry.path().filename());
  EXPECT_EQ(files, (std::vector<std::string>{lora_file}));  // no checkpoint is left over
  const auto unet = load_unet(ex(), Tiny::get().pipeline / "unet");
  const Lora lora(ex(), *unet->net, dir / lora_file);
  EXPECT_EQ(lora.rank(), 4);
  double up = 0;
  const SafetensorsFile f(dir / lora_file);
  for (const std::string& name : f.names())
    if (name.find("lora_B") != std::string::npos)
      for (const float v : f.read_f32(name)) up += std::abs(v);
  EXPECT_GT(up, 0);
}

TEST(Finetune, LossFalls) {
  const TempDir dir;
  Recorder recorder;
  FinetuneOptions o = quick();
  o.max_train_steps = 120;
  o.learning_rate = 3e-3;
  o.train_batch_size = 6;
  const Tiny& t = Tiny::get();
  finetune(ex(), t.pipeline, t.embedded, o, dir.path(), false, recorder);
  double first = 0, last = 0;
  for (size_t i = 0; i < 30; ++i) {
    first += recorder.metrics[i][0].second;
    last += recorder.metrics[90 + i][0].second;
  }
  EXPECT_LT(last, first);
  EXPECT_EQ(recorder.metrics[0][0].first, "loss");
}

TEST(Finetune, EqualBytesTwiceAndOtherBytesForOtherSettings) {
  const std::string base = tuned(quick());
  EXPECT_EQ(tuned(quick()), base);
  std::set<std::string> all{base};
  const auto with = [&](const char* what, const std::function<void(FinetuneOptions&)>& change) {
    FinetuneOptions o = quick();
    change(o);
    EXPECT_TRUE(all.insert(tuned(o)).second) << what << " changes nothing";
  };
  with("seed", [](auto& o) { o.seed = 43; });
  with("off", [](auto& o) { o.loss.matching = Matching::off; });
  with("rbf", [](auto& o) { o.loss.matching = Matching::rbf; });
  with("class", [](auto& o) { o.batch_by = "class"; });
  with("image", [](auto& o) { o.guidance_token = GuidanceToken::image; });
  with("class mean", [](auto& o) { o.guidance_token = GuidanceToken::class_mean; });
  with("cosine", [](auto& o) { o.lr_scheduler = "cosine"; });
  with("snr", [](auto& o) { o.loss.snr_gamma = 0; });
  with("rank", [](auto& o) { o.rank = 2; });
  // What does not change the result: where checkpoints fall, and a matching term of weight 0.
  FinetuneOptions o = quick();
  o.checkpointing_steps = 5;
  EXPECT_EQ(tuned(o), base);
  o.loss.matching = Matching::official;
  o.loss.dist_match = 0;
  const std::string none = tuned(o);
  o.loss.matching = Matching::off;
  EXPECT_EQ(tuned(o), none);
}

TEST(Finetune, GoesOnToTheSameBytes) {
  FinetuneOptions o = quick();
  o.batch_by = "class";
  o.guidance_token = GuidanceToken::image;
  o.lr_scheduler = "cosine";
  const std::string whole = tuned(o);
  for (const int64_t step : {1, 4, 7, 11}) {
    const TempDir dir;
    tune_until(step, o, dir.path());
    tune(o, dir.path(), true);
    EXPECT_EQ(bytes_of(dir / lora_file), whole) << "stopped after " << step;
  }
  const TempDir dir;  // several times in one run
  for (const int64_t step : {2, 3, 9}) tune_until(step, o, dir.path(), true);
  tune(o, dir.path(), true);
  EXPECT_EQ(bytes_of(dir / lora_file), whole);
}

TEST(Finetune, ResumingReportsWhereItGoesOn) {
  const TempDir dir;
  tune_until(5, quick(), dir.path());
  Recorder recorder;
  const Tiny& t = Tiny::get();
  finetune(ex(), t.pipeline, t.embedded, quick(), dir.path(), true, recorder);
  EXPECT_EQ(recorder.steps.front().second, 6);
  EXPECT_EQ(recorder.rewinds, (std::vector<std::pair<std::string, int64_t>>{{"finetune", 5}}));
  expect_says(recorder.text(), "going on after step 5");
}

TEST(Finetune, AStopIsSavedAndSaid) {
  const TempDir dir;
  Recorder recorder;
  recorder.stop_at = 3;
  const Tiny& t = Tiny::get();
  try {
    finetune(ex(), t.pipeline, t.embedded, quick(), dir.path(), false, recorder);
    FAIL() << "not stopped";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::interrupted);
    expect_says(e.what(), "interrupted after step 3; saved");
  }
  tune(quick(), dir.path(), true);
  EXPECT_EQ(bytes_of(dir / lora_file), tuned(quick()));
}

TEST(Finetune, OtherSettingsDoNotGoOn) {
  const TempDir dir;
  tune_until(5, quick(), dir.path());
  FinetuneOptions o = quick();
  o.rank = 8;
  const std::string said = refused<InputError>([&] { tune(o, dir.path(), true); });
  expect_says(said, "rank 4, now 8");
  EXPECT_EQ(said.find("seed"), std::string::npos) << said;
  Embedded other = Tiny::get().embedded;
  other.moments = ex().clone(other.moments);
  scale(ex(), other.moments, other.moments, 0.5);
  expect_says(refused<InputError>([&] { tune(quick(), dir.path(), true, &other); }), "data \"");
  o = quick();
  o.checkpointing_steps = 3;  // cadence may change
  tune(o, dir.path(), true);
  EXPECT_EQ(bytes_of(dir / lora_file), tuned(quick()));
}

TEST(Finetune, ADamagedCheckpointFallsBackToThePrevious) {
  const TempDir dir;
  tune_until(10, quick(), dir.path());  // checkpoints after 8 and 10
  flip_bit(dir / "checkpoint.safetensors", -40);
  Recorder recorder;
  const Tiny& t = Tiny::get();
  finetune(ex(), t.pipeline, t.embedded, quick(), dir.path(), true, recorder);
  expect_says(recorder.text(), "warning: ");
  expect_says(recorder.text(), "checksum mismatch in '");
  EXPECT_EQ(recorder.steps.front().second, 9);
  EXPECT_EQ(bytes_of(dir / lora_file), tuned(quick()));
}

TEST(Finetune, ValuesThatAreNotFiniteStopIt) {
  Embedded data = Tiny::get().embedded;
  std::vector<float> v = ex().to_vector<float>(data.moments);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const TempDir dir;
    for (size_t i = 0; i < v.size(); i += 128) v[i] = bad;  // each sample's first mean
    data.moments = ex().from_vector(v, data.moments.shape());
    expect_says(refused<NumericError>([&] { tune(quick(), dir.path(), false, &data); }),
                "finetune: step 1: loss is");
    EXPECT_TRUE(fs::is_empty(dir.path()));
  }
  FinetuneOptions wild = quick();
  wild.learning_rate = 1e30;
  wild.max_grad_norm = 0;
  const TempDir dir;
  expect_says(refused<NumericError>([&] { tune(wild, dir.path()); }), "step");
  EXPECT_FALSE(fs::exists(dir / lora_file));
}

TEST(Finetune, RefusesWhatCannotWork) {
  const TempDir dir;
  const auto with = [&](const std::function<void(FinetuneOptions&)>& change) {
    FinetuneOptions o = quick();
    change(o);
    return refused<UsageError>([&] { tune(o, dir.path()); });
  };
  expect_says(with([](auto& o) {
                o.loss.matching = Matching::rbf;
                o.train_batch_size = 1;
              }),
              "--train_batch_size");
  expect_says(with([](auto& o) { o.batch_by = "size"; }), "--batch_by");
  expect_says(with([](auto& o) { o.lr_scheduler = "step"; }), "--lr_scheduler");
  put_bytes(dir / "file", "");
  EXPECT_THROW(tune(quick(), dir / "file"), IoError);
}

TEST(Finetune, TheEmulatedDeviceAgreesForOneStep) {
  Exec& emulated = exec_of(Device::emulated);
  const Tiny& t = Tiny::get();
  FinetuneOptions o = quick();
  o.max_train_steps = 1;
  const TempDir a, b;
  tune(o, a.path());
  SilentReporter silent;
  finetune(emulated, t.pipeline, load_embedded(emulated, t.embedded_file, ""), o, b.path(), false,
           silent);
  const SafetensorsFile x(a / lora_file), y(b / lora_file);
  ASSERT_EQ(x.names(), y.names());
  for (const std::string& name : x.names()) {
    const std::vector<float> u = x.read_f32(name), v = y.read_f32(name);
    ASSERT_EQ(u.size(), v.size());
    for (size_t i = 0; i < u.size(); ++i) EXPECT_NEAR(u[i], v[i], 1e-4) << name;
  }
}

}  // namespace
}  // namespace realfake::testing
