#include "data/augment.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/error.h"
#include "kernels/random.h"

namespace realfake {
namespace {

// Draws of one sample are numbered: flip last, so that switching it on leaves the matrices as they
// were.
struct SampleDraws {
  float rotation, scale_x, scale_y, shear, shift_x, shift_y, flip;
};

SampleDraws draw(uint64_t seed, uint64_t counter) {
  Philox random(seed, Stream::augment, counter);
  const auto symmetric = [&] { return 2.0f * random.uniform() - 1.0f; };
  SampleDraws d;
  d.rotation = symmetric();
  d.scale_x = symmetric();
  d.scale_y = symmetric();
  d.shear = symmetric();
  d.shift_x = symmetric();
  d.shift_y = symmetric();
  d.flip = random.uniform();
  return d;
}

AffineMatrix matrix_of(const AugmentConfig& config, const SampleDraws& d) {
  const double angle = config.rotation_degrees * (std::acos(-1.0) / 180) * d.rotation;
  const double c = std::cos(angle), s = std::sin(angle);
  const double sx = 1 + config.scale * d.scale_x, sy = 1 + config.scale * d.scale_y;
  const double k = config.shear * d.shear;
  // rotation x [sx k; 0 sy]
  return {static_cast<float>(c * sx),
          static_cast<float>(c * k - s * sy),
          static_cast<float>(config.shift * d.shift_x),
          static_cast<float>(s * sx),
          static_cast<float>(s * k + c * sy),
          static_cast<float>(config.shift * d.shift_y)};
}

// Batches draw from their own half of the sample numbers.
constexpr uint64_t batch_numbers = uint64_t{1} << 63;

// Gamma(shape, 1), Marsaglia and Tsang 2000; shapes under 1 by the boost u^(1/shape).
double gamma_draw(Philox& random, double shape) {
  if (shape < 1) {
    const double u = 1.0 - random.uniform();
    return gamma_draw(random, shape + 1) * std::pow(u, 1 / shape);
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = random.normal(), v = std::pow(1 + c * x, 3);
    const double u = 1.0 - random.uniform();
    if (v > 0 && std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

double beta_draw(Philox& random, double alpha) {
  const double a = gamma_draw(random, alpha), b = gamma_draw(random, alpha);
  return a + b > 0 ? a / (a + b) : 0.5;
}

}  // namespace

AffineMatrix augment_matrix(const AugmentConfig& config, uint64_t seed, uint64_t counter) {
  return matrix_of(config, draw(seed, counter));
}

bool augment_flip(const AugmentConfig& config, uint64_t seed, uint64_t counter) {
  return config.flip && draw(seed, counter).flip < 0.5f;
}

AugmentBatch augment_batch(const AugmentConfig& config, uint64_t seed,
                           const std::vector<uint64_t>& counters) {
  AugmentBatch batch;
  batch.matrices.reserve(6 * counters.size());
  for (const uint64_t counter : counters) {
    const SampleDraws d = draw(seed, counter);
    const AffineMatrix m = matrix_of(config, d);
    batch.matrices.insert(batch.matrices.end(), m.begin(), m.end());
    batch.flips.push_back(config.flip && d.flip < 0.5f);
  }
  return batch;
}

MixBatch mix_batch(const AugmentConfig& config, uint64_t seed, uint64_t batch_counter, int64_t size,
                   int64_t height, int64_t width) {
  require(size > 0 && size <= UINT32_MAX && height > 0 && width > 0, "[mix_batch] ", size,
          " images of ", width, "x", height);
  require(config.mixup >= 0 && config.cutmix >= 0, "[mix_batch] negative alpha");
  MixBatch mix;
  if (config.mixup == 0 && config.cutmix == 0) return mix;
  Philox random(seed, Stream::augment, batch_numbers + batch_counter);
  const bool heads = random.uniform() < 0.5f;
  const bool cut = config.mixup == 0 || (config.cutmix > 0 && heads);
  mix.kind = cut ? MixBatch::Kind::cutmix : MixBatch::Kind::mixup;
  mix.lambda = beta_draw(random, cut ? config.cutmix : config.mixup);
  for (int64_t i = 0; i < size; ++i) mix.pair.push_back(i);
  for (int64_t i = size - 1; i > 0; --i) {
    std::swap(mix.pair[static_cast<size_t>(i)],
              mix.pair[random.below(static_cast<uint32_t>(i + 1))]);
  }
  if (cut) {
    const double side = std::sqrt(1 - mix.lambda);
    const int64_t box_h = static_cast<int64_t>(static_cast<double>(height) * side);
    const int64_t box_w = static_cast<int64_t>(static_cast<double>(width) * side);
    const int64_t y = random.below(static_cast<uint32_t>(height));
    const int64_t x = random.below(static_cast<uint32_t>(width));
    mix.box.top = std::clamp<int64_t>(y - box_h / 2, 0, height);
    mix.box.bottom = std::clamp<int64_t>(y - box_h / 2 + box_h, 0, height);
    mix.box.left = std::clamp<int64_t>(x - box_w / 2, 0, width);
    mix.box.right = std::clamp<int64_t>(x - box_w / 2 + box_w, 0, width);
    mix.lambda = 1 - static_cast<double>(mix.box.area()) / static_cast<double>(height * width);
  }
  return mix;
}

void apply_cutmix(const MixBatch& mix, std::vector<uint8_t>& pixels, int64_t height, int64_t width,
                  int64_t channels) {
  require(mix.kind == MixBatch::Kind::cutmix, "[apply_cutmix] the batch is not a cutmix");
  const int64_t n = static_cast<int64_t>(mix.pair.size()), image = height * width * channels;
  require(static_cast<int64_t>(pixels.size()) == n * image, "[apply_cutmix] ", pixels.size(),
          " bytes for ", n, " images");
  const std::vector<uint8_t> before = pixels;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t y = mix.box.top; y < mix.box.bottom; ++y) {
      const int64_t row = (y * width + mix.box.left) * channels;
      std::copy_n(before.begin() + mix.pair[static_cast<size_t>(i)] * image + row,
                  (mix.box.right - mix.box.left) * channels, pixels.begin() + i * image + row);
    }
  }
}

Normalization symmetric_normalization(int64_t channels) {
  const size_t n = static_cast<size_t>(channels);
  return {std::vector<float>(n, 0.5f), std::vector<float>(n, 0.5f)};
}

Normalization imagenet_normalization() {
  return {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
}

Normalization clip_normalization() {
  return {{0.48145466f, 0.4578275f, 0.40821073f}, {0.26862954f, 0.26130258f, 0.27577711f}};
}

Normalization measured_normalization(const std::vector<uint8_t>& pixels, int64_t channels) {
  const size_t c = static_cast<size_t>(channels);
  require(c > 0 && !pixels.empty() && pixels.size() % c == 0, "[measured_normalization] ",
          pixels.size(), " bytes, ", channels, " channels");
  std::vector<uint64_t> sum(c), square(c);
  for (size_t i = 0; i < pixels.size(); ++i) {
    sum[i % c] += pixels[i];
    square[i % c] += uint64_t{pixels[i]} * pixels[i];
  }
  Normalization out;
  const double n = static_cast<double>(pixels.size() / c);
  for (size_t i = 0; i < c; ++i) {
    const double mean = static_cast<double>(sum[i]) / n;
    const double variance = std::max(0.0, static_cast<double>(square[i]) / n - mean * mean);
    out.mean.push_back(static_cast<float>(mean / 255));
    out.std.push_back(static_cast<float>(std::max(std::sqrt(variance) / 255, 1e-3)));
  }
  return out;
}

}  // namespace realfake
