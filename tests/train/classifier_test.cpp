// Training and measuring classifiers: equal bytes, going on, the weight average, mixing, and the
// guard of classes.
#include "train/classifier.h"

#include "model/safetensors.h"
#include "tests/train/tiny_pipeline.h"

namespace realfake::testing {
namespace {

namespace fs = std::filesystem;

Exec& ex() {
  return exec_of(Device::cpu);
}

ClassifierOptions quick() {
  ClassifierOptions o;
  o.max_train_steps = 10;
  o.batch_size = 5;
  o.warmup_steps = 2;
  o.checkpointing_steps = 4;
  return o;
}

std::unique_ptr<Component<ResNet>> fit(const ClassifierOptions& o, const fs::path& folder,
                                       bool resume = false, Reporter* reporter = nullptr) {
  SilentReporter silent;
  return train_classifier(ex(), Tiny::get().set, o, folder, resume, reporter ? *reporter : silent);
}

std::string fitted(const ClassifierOptions& o) {
  const TempDir dir;
  fit(o, dir.path());
  return bytes_of(dir / "model.safetensors");
}

TEST(Classifier, WritesModelAndClassesAndLearns) {
  const TempDir dir;
  ClassifierOptions o = quick();
  o.max_train_steps = 60;
  o.augment = false;
  o.batch_size = 12;
  const auto net = fit(o, dir.path());
  EXPECT_EQ(classes_of_folder(dir.path()), Tiny::get().set.classes);
  EXPECT_FALSE(fs::exists(dir / "checkpoint.safetensors"));
  const Evaluation e = evaluate_classifier(ex(), *net->net, Tiny::get().set, o.normalization);
  EXPECT_EQ(e.top1, 100);
  EXPECT_EQ(e.top5, 100);
  EXPECT_EQ(e.count, 12);
  ASSERT_EQ(e.classes.size(), 3u);
  EXPECT_EQ(e.classes[1].correct, 4);
  EXPECT_EQ(e.predicted, Tiny::get().set.labels);
  const auto again = load_resnet(ex(), dir.path());
  EXPECT_EQ(evaluate_classifier(ex(), *again->net, Tiny::get().set, o.normalization).loss, e.loss);
}

TEST(Classifier, MeasuresAgreeWithTheLogits) {
  const auto net = fit(quick(), "");
  const ImageSet& set = Tiny::get().set;
  const Evaluation e = evaluate_classifier(ex(), *net->net, set, "symmetric");
  Tensor features;
  const Tensor logits = classifier_logits(ex(), *net->net, set, "symmetric", 5, &features);
  EXPECT_EQ(features.dim(0), 12);
  const std::vector<float> z = ex().to_vector<float>(logits);
  double loss = 0;
  int64_t right = 0;
  std::vector<double> sure(15, 0), hit(15, 0);
  for (size_t i = 0; i < 12; ++i) {
    double sum = 0, most = 0;
    size_t best = 0;
    for (size_t k = 0; k < 3; ++k) sum += std::exp(double{z[3 * i + k]});
    for (size_t k = 0; k < 3; ++k) {
      const double p = std::exp(double{z[3 * i + k]}) / sum;
      if (p > most) most = p, best = k;
    }
    const auto label = static_cast<size_t>(set.labels[i]);
    loss -= std::log(std::exp(double{z[3 * i + label]}) / sum) / 12;
    right += best == label;
    const auto bin = std::min<size_t>(14, static_cast<size_t>(most * 15));
    sure[bin] += most;
    hit[bin] += best == label;
  }
  double calibration = 0;
  for (size_t b = 0; b < 15; ++b) calibration += std::abs(sure[b] - hit[b]) / 12;
  EXPECT_NEAR(e.loss, loss, 1e-5);
  EXPECT_NEAR(e.top1, 100.0 * static_cast<double>(right) / 12, 1e-9);
  EXPECT_NEAR(e.calibration_error, calibration, 1e-5);
}

TEST(Classifier, EqualBytesTwiceAndGoingOn) {
  for (const bool mixing : {false, true}) {
    ClassifierOptions o = quick();
    if (mixing) {
      o.ema_decay = 0.9;
      o.augmentation.mixup = 0.4;
      o.augmentation.cutmix = 1;
      o.augmentation.flip = true;
    }
    const std::string whole = fitted(o);
    EXPECT_EQ(fitted(o), whole);
    for (const int64_t step : {1, 4, 7, 9}) {
      const TempDir dir;
      ClassifierOptions stopped = o;
      stopped.stop_after = step;
      EXPECT_THROW(fit(stopped, dir.path()), Error);
      EXPECT_FALSE(fs::exists(dir / "model.safetensors"));
      fit(o, dir.path(), true);
      EXPECT_EQ(bytes_of(dir / "model.safetensors"), whole) << "stopped after " << step;
    }
  }
}

TEST(Classifier, ADamagedCheckpointFallsBackAndOtherSettingsAreRefused) {
  const TempDir dir;
  ClassifierOptions stopped = quick();
  stopped.stop_after = 6;  // checkpoints after 4 and 6
  EXPECT_THROW(fit(stopped, dir.path()), Error);
  ClassifierOptions other = quick();
  other.lr = 0.05;
  expect_says(refused<InputError>([&] { fit(other, dir.path(), true); }), "lr 0.1, now 0.05");
  flip_bit(dir / "checkpoint.safetensors", -40);
  Recorder recorder;
  fit(quick(), dir.path(), true, &recorder);
  expect_says(recorder.text(), "checksum mismatch");
  EXPECT_EQ(recorder.steps.front().second, 5);
  EXPECT_EQ(bytes_of(dir / "model.safetensors"), fitted(quick()));
}

// The average of a run whose weights do not move is those weights; of one that moves, something
// else.
TEST(Classifier, TheAverageIsWhatIsWritten) {
  ClassifierOptions o = quick();
  const std::string plain = fitted(o);
  o.ema_decay = 0.5;
  EXPECT_NE(fitted(o), plain);
  o.ema_decay = 1e-9;  // follows at once, up to rounding
  const TempDir a, b;
  fit(o, a.path());
  fit(quick(), b.path());
  const SafetensorsFile x(a / "model.safetensors"), y(b / "model.safetensors");
  ASSERT_EQ(x.names(), y.names());
  for (const std::string& name : x.names()) {
    if (name.find("num_batches") != std::string::npos) continue;
    const std::vector<float> u = x.read_f32(name), v = y.read_f32(name);
    for (size_t i = 0; i < u.size(); ++i)
      ASSERT_NEAR(u[i], v[i], 1e-5 * (1 + std::abs(v[i]))) << name;
  }
}

TEST(Classifier, EveryOptionDoesSomething) {
  std::vector<std::string> all{fitted(quick())};
  const auto with = [&](const char* what, const std::function<void(ClassifierOptions&)>& change) {
    ClassifierOptions o = quick();
    change(o);
    const std::string bytes = fitted(o);
    for (const std::string& other : all) EXPECT_NE(bytes, other) << what;
    all.push_back(bytes);
  };
  with("mixup", [](auto& o) { o.augmentation.mixup = 1; });
  with("cutmix", [](auto& o) { o.augmentation.cutmix = 1; });
  with("flip", [](auto& o) { o.augmentation.flip = true; });
  with("no augmentation", [](auto& o) { o.augment = false; });
  with("smoothing", [](auto& o) { o.label_smoothing = 0; });
  with("normalization", [](auto& o) { o.normalization = "imagenet"; });
  with("momentum", [](auto& o) { o.momentum = 0; });
  with("decay", [](auto& o) { o.weight_decay = 0; });
  with("warmup", [](auto& o) { o.warmup_steps = 0; });
  with("epochs", [](auto& o) { o.epochs = 3; });
  with("seed", [](auto& o) { o.seed = 1; });
  with("multistep", [](auto& o) {
    o.lr_schedule = "multistep";
    o.milestones = {2, 3};
  });
}

TEST(Classifier, RefusesWhatCannotWork) {
  SilentReporter silent;
  ClassifierOptions o = quick();
  o.lr_schedule = "step";
  EXPECT_THROW(fit(o, ""), UsageError);
  o = quick();
  o.normalization = "none";
  EXPECT_THROW(fit(o, ""), UsageError);
  EXPECT_THROW(train_classifier(ex(), Tiny::get().set.subset({}), quick(), "", false, silent),
               InputError);
  ImageSet other = Tiny::get().set;
  other.classes.push_back("three");
  const auto net = fit(quick(), "");
  expect_says(
      refused<InputError>([&] { evaluate_classifier(ex(), *net->net, other, "symmetric"); }),
      "4 classes");
}

TEST(Classifier, AnOverflowStopsItAndWritesNothing) {
  const TempDir dir;
  ClassifierOptions o = quick();
  o.lr = 1e30;
  o.max_train_steps = 6;
  const std::string said = refused<NumericError>([&] { fit(o, dir.path()); });
  EXPECT_FALSE(said.empty());
  EXPECT_FALSE(fs::exists(dir / "model.safetensors"));
}

}  // namespace
}  // namespace realfake::testing
