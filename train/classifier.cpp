#include "train/classifier.h"

#include <algorithm>
#include <cmath>

#include "data/captions.h"
#include "kernels/base/sha256.h"
#include "kernels/elementwise.h"
#include "kernels/image.h"
#include "kernels/loss.h"
#include "kernels/random.h"
#include "train/loop.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

// The images `index` of the set as u8 (n,H,W,3).
std::vector<uint8_t> gather_rgb(const ImageSet& set, const std::vector<int64_t>& index) {
  std::vector<uint8_t> out;
  out.reserve(index.size() * static_cast<size_t>(set.height * set.width * 3));
  const int64_t pixels = set.height * set.width;
  for (const int64_t i : index) {
    const uint8_t* p = set.pixels.data() + i * set.pixels_per_image();
    if (set.channels == 3) {
      out.insert(out.end(), p, p + pixels * 3);
    } else {
      for (int64_t j = 0; j < pixels; ++j) out.insert(out.end(), 3, p[j]);
    }
  }
  return out;
}

std::string settings_text(const ClassifierOptions& o, const ImageSet& set) {
  Sha256 h;
  h.update(set.pixels.data(), set.pixels.size());
  h.update(set.labels.data(), set.labels.size() * sizeof(int64_t));
  return Json{{"model", o.model},
              {"max_train_steps", o.max_train_steps},
              {"epochs", o.epochs},
              {"batch_size", o.batch_size},
              {"lr", o.lr},
              {"momentum", o.momentum},
              {"weight_decay", o.weight_decay},
              {"lr_schedule", o.lr_schedule},
              {"milestones", o.milestones},
              {"gamma", o.gamma},
              {"warmup_steps", o.warmup_steps},
              {"label_smoothing", o.label_smoothing},
              {"ema_decay", o.ema_decay},
              {"augment", o.augment},
              {"augmentation",
               {o.augmentation.rotation_degrees, o.augmentation.shift, o.augmentation.scale,
                o.augmentation.shear, o.augmentation.flip ? 1.0 : 0.0, o.augmentation.mixup,
                o.augmentation.cutmix}},
              {"normalization", o.normalization},
              {"seed", o.seed},
              {"data", h.hex().substr(0, 16)}}
      .dump();
}

// One training batch, ready for the network.
struct Batch {
  Tensor images, target;
};

class BatchMaker {
 public:
  BatchMaker(Exec& exec, const ImageSet& set, const ClassifierOptions& o)
      : exec_(exec), set_(set), o_(o), classes_(static_cast<int64_t>(set.classes.size())) {
    const Normalization n = parse_normalization(o.normalization);
    mean_ = exec.from_vector(n.mean, {3});
    std_ = exec.from_vector(n.std, {3});
    // Black after normalisation is what lies outside an image; the mean over channels serves all
    // three.
    for (size_t c = 0; c < 3; ++c) border_ -= n.mean[c] / n.std[c] / 3;
  }

  Batch operator()(int64_t step) {
    const int64_t n = set_.size(), b = o_.batch_size;
    std::vector<int64_t> index, labels;
    std::vector<uint64_t> counters;
    for (int64_t i = step * b; i < (step + 1) * b; ++i) {
      if (i / n != epoch_) {
        epoch_ = i / n;
        order_ = permutation(n, o_.seed, Stream::shuffle, static_cast<uint64_t>(epoch_));
      }
      index.push_back(order_[static_cast<size_t>(i % n)]);
      labels.push_back(set_.labels[static_cast<size_t>(index.back())]);
      counters.push_back(static_cast<uint64_t>(i));
    }
    std::vector<uint8_t> pixels = gather_rgb(set_, index);
    const MixBatch mix = o_.augment
                             ? mix_batch(o_.augmentation, o_.seed, static_cast<uint64_t>(step), b,
                                         set_.height, set_.width)
                             : MixBatch{};
    if (mix.kind == MixBatch::Kind::cutmix) apply_cutmix(mix, pixels, set_.height, set_.width, 3);
    const Shape shape{b, set_.height, set_.width, 3};
    Batch out{exec_.empty(shape), exec_.empty({b, classes_})};
    normalize_u8(exec_, out.images, exec_.from_vector(pixels, shape), mean_, std_);
    one_hot(exec_, out.target, exec_.from_vector(labels, {b}));
    if (o_.augment) {
      const AugmentBatch a = augment_batch(o_.augmentation, o_.seed, counters);
      const Tensor moved = exec_.empty(shape);
      affine_sample(exec_, moved, out.images, exec_.from_vector(a.matrices, {b, 6}), border_);
      out.images = moved;
      if (o_.augmentation.flip) {
        const Tensor flipped = exec_.empty(shape);
        flip_horizontal(exec_, flipped, out.images, exec_.from_vector(a.flips, {b}));
        out.images = flipped;
      }
    }
    if (mix.kind != MixBatch::Kind::none) {
      const Tensor pair = exec_.from_vector(mix.pair, {b});
      const Tensor share = exec_.full({b}, mix.lambda);
      const Tensor target = exec_.empty(out.target.shape());
      mix_samples(exec_, target, out.target, share, pair);
      out.target = target;
      if (mix.kind == MixBatch::Kind::mixup) {
        const Tensor images = exec_.empty(shape);
        mix_samples(exec_, images, out.images, share, pair);
        out.images = images;
      }
    }
    return out;
  }

 private:
  Exec& exec_;
  const ImageSet& set_;
  const ClassifierOptions& o_;
  int64_t classes_, epoch_ = -1;
  std::vector<int64_t> order_;
  Tensor mean_, std_;
  double border_ = 0;
};

double rate_at(const ClassifierOptions& o, int64_t step, int64_t total, int64_t steps_per_epoch) {
  if (o.lr_schedule == "cosine") return cosine_rate(o.lr, step, total, o.warmup_steps);
  double rate = constant_rate(o.lr, step, o.warmup_steps);
  // timm counts so that a drop at milestone m lands at epoch index m - 1 (paper.md 3).
  for (const int64_t m : o.milestones)
    if (step / steps_per_epoch >= m - 1) rate *= o.gamma;
  return rate;
}

}  // namespace

Normalization parse_normalization(const std::string& name) {
  if (name == "symmetric") return symmetric_normalization(3);
  if (name == "imagenet") return imagenet_normalization();
  if (name == "clip") return clip_normalization();
  throw UsageError("--normalization is '" + name + "', expected symmetric, imagenet or clip");
}

std::unique_ptr<Component<ResNet>> train_classifier(Exec& exec, const ImageSet& set,
                                                    const ClassifierOptions& o,
                                                    const fs::path& folder, bool resume,
                                                    Reporter& reporter) {
  if (set.size() == 0) throw InputError("the training set is empty");
  if (o.lr_schedule != "cosine" && o.lr_schedule != "multistep")
    throw UsageError("--lr_schedule is '" + o.lr_schedule + "', expected cosine or multistep");
  auto net = fresh_resnet(
      exec, ResNetConfig::preset(o.model, static_cast<int64_t>(set.classes.size())), o.seed);
  net->parameters.set_trainable(true, &ResNet::is_learned);
  const std::vector<Param> params = net->parameters.trainable();
  Sgd optimizer(exec, params, {.lr = o.lr, .momentum = o.momentum, .weight_decay = o.weight_decay});
  std::unique_ptr<Ema> ema;
  if (o.ema_decay > 0) ema = std::make_unique<Ema>(exec, net->parameters.all(), o.ema_decay);
  const int64_t per_epoch = std::max<int64_t>(1, set.size() / o.batch_size);
  const int64_t total = o.epochs > 0 ? o.epochs * per_epoch : o.max_train_steps;

  std::unique_ptr<Checkpoint> checkpoint;
  if (!folder.empty()) checkpoint = std::make_unique<Checkpoint>(folder, settings_text(o, set));
  BatchMaker batches(exec, set, o);
  run_loop(
      exec,
      {.stage = "train",
       .steps = total,
       .clip = 0,
       .checkpoint_every = o.checkpointing_steps,
       .stop_after = o.stop_after},
      net->parameters.all(), optimizer, ema.get(), checkpoint.get(), resume, reporter,
      [&](int64_t step) { return rate_at(o, step, total, per_epoch); },
      [&](Tape& tape, int64_t step) -> LoopStep {
        const Batch batch = batches(step);
        const Var logits = (*net->net)(tape, Var(batch.images), true);
        return {cross_entropy(tape, logits, batch.target, o.label_smoothing), {}};
      });
  net->parameters.set_trainable(false);
  if (ema) ema->swap();
  if (checkpoint) {
    write_classes(folder, set.classes);
    save_parameters(net->parameters, folder / "model.safetensors");
    checkpoint->remove();
  }
  return net;
}

Tensor classifier_logits(Exec& exec, const ResNet& net, const ImageSet& set,
                         const std::string& normalization, int64_t batch, Tensor* features) {
  const Normalization norm = parse_normalization(normalization);
  const Tensor mean = exec.from_vector(norm.mean, {3}), std = exec.from_vector(norm.std, {3});
  const int64_t n = set.size();
  const Tensor logits = exec.empty({n, net.config().classes});
  Tape tape(exec, false);
  for (int64_t first = 0; first < n; first += batch) {
    const int64_t last = std::min(n, first + batch);
    std::vector<int64_t> index;
    for (int64_t i = first; i < last; ++i) index.push_back(i);
    const Shape shape{last - first, set.height, set.width, 3};
    const Tensor x = exec.empty(shape);
    normalize_u8(exec, x, exec.from_vector(gather_rgb(set, index), shape), mean, std);
    Var pooled;
    copy(exec, logits.slice(first, last), net(tape, Var(x), false, &pooled).value());
    if (features) {
      if (!features->defined()) *features = exec.empty({n, pooled.dim(1)});
      copy(exec, features->slice(first, last), pooled.value());
    }
  }
  return logits;
}

Evaluation evaluate_classifier(Exec& exec, const ResNet& net, const ImageSet& set,
                               const std::string& normalization) {
  const int64_t n = set.size(), k = net.config().classes;
  if (static_cast<int64_t>(set.classes.size()) != k)
    throw InputError(
        concat("the data set has ", set.classes.size(), " classes, the classifier ", k));
  const std::vector<float> logits =
      exec.to_vector<float>(classifier_logits(exec, net, set, normalization, 256));
  Evaluation e;
  e.count = n;
  for (const std::string& name : set.classes) e.classes.push_back({name, 0, 0});
  constexpr size_t kBins = 15;
  std::vector<double> confidence(kBins, 0), hits(kBins, 0);
  int64_t top1 = 0, top5 = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float* row = logits.data() + i * k;
    const int64_t label = set.labels[static_cast<size_t>(i)];
    const int64_t best = std::max_element(row, row + k) - row;
    int64_t above = 0;  // how many logits beat the label's; ties count against it
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) {
      above += j != label && row[j] >= row[label];
      sum += std::exp(static_cast<double>(row[j] - row[best]));
    }
    const double p = 1 / sum;
    e.loss -= (row[label] - row[best] - std::log(sum)) / static_cast<double>(n);
    const bool hit = best == label;
    top1 += hit;
    top5 += above < 5;
    auto& c = e.classes[static_cast<size_t>(label)];
    ++c.count;
    c.correct += hit;
    const auto bin = std::min(kBins - 1, static_cast<size_t>(p * kBins));
    confidence[bin] += p;
    hits[bin] += hit;
    e.predicted.push_back(best);
  }
  e.top1 = 100.0 * static_cast<double>(top1) / static_cast<double>(n);
  e.top5 = 100.0 * static_cast<double>(top5) / static_cast<double>(n);
  for (size_t b = 0; b < kBins; ++b)
    e.calibration_error += std::abs(confidence[b] - hits[b]) / static_cast<double>(n);
  return e;
}

}  // namespace realfake
