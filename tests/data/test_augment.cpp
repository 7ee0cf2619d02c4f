#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "data/augment.h"
#include "kernels/base/error.h"

namespace realfake {
namespace {

TEST(Augment, MatricesStayInTheirRanges) {
  const AugmentConfig config;
  std::vector<uint64_t> counters(2000);
  for (size_t i = 0; i < counters.size(); ++i) counters[i] = i;
  const AugmentBatch batch = augment_batch(config, 5, counters);
  ASSERT_EQ(batch.matrices.size(), 6 * counters.size());
  double largest_shift = 0, shift_sum = 0, smallest_area = 9, largest_area = 0, largest_turn = 0;
  for (size_t i = 0; i < counters.size(); ++i) {
    const float* m = &batch.matrices[6 * i];
    for (const int k : {2, 5}) largest_shift = std::max(largest_shift, std::abs(double{m[k]}));
    shift_sum += m[2];
    const double area = double{m[0]} * m[4] - double{m[1]} * m[3];
    smallest_area = std::min(smallest_area, area);
    largest_area = std::max(largest_area, area);
    largest_turn = std::max(largest_turn, std::abs(std::atan2(double{m[3]}, double{m[0]})));
    EXPECT_EQ(batch.flips[i], 0);
  }
  EXPECT_LE(largest_shift, 0.12);
  EXPECT_GT(largest_shift, 0.11);
  EXPECT_NEAR(shift_sum / 2000, 0, 0.01);
  EXPECT_GE(smallest_area, 0.88 * 0.88 - 1e-6);
  EXPECT_LE(largest_area, 1.12 * 1.12 + 1e-6);
  EXPECT_NEAR(largest_turn, 10 * std::acos(-1.0) / 180, 0.005);
}

TEST(Augment, SampleDrawsDoNotDependOnTheBatch) {
  AugmentConfig config;
  const AugmentBatch together = augment_batch(config, 1, {7, 8, 9});
  const AffineMatrix alone = augment_matrix(config, 1, 8);
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.matrices.begin() + 6));
  config.flip = true;  // leaves the matrices as they were
  EXPECT_EQ(augment_matrix(config, 1, 8), alone);
  int flips = 0;
  for (uint64_t i = 0; i < 1000; ++i) flips += augment_flip(config, 1, i);
  EXPECT_NEAR(flips, 500, 70);
  const AugmentConfig none{0, 0, 0, 0, false, 0, 0};
  EXPECT_EQ(augment_matrix(none, 1, 8), (AffineMatrix{1, 0, 0, 0, 1, 0}));
}

TEST(Augment, MixupSharesFollowTheBetaLaw) {
  AugmentConfig config;
  EXPECT_EQ(mix_batch(config, 0, 0, 4, 8, 8).kind, MixBatch::Kind::none);
  config.mixup = 0.2;
  double sum = 0, square = 0;
  for (uint64_t b = 0; b < 4000; ++b) {
    const MixBatch mix = mix_batch(config, 3, b, 5, 8, 8);
    ASSERT_EQ(mix.kind, MixBatch::Kind::mixup);
    ASSERT_TRUE(mix.lambda >= 0 && mix.lambda <= 1);
    std::vector<int64_t> pair = mix.pair;
    std::sort(pair.begin(), pair.end());
    ASSERT_EQ(pair, (std::vector<int64_t>{0, 1, 2, 3, 4}));
    sum += mix.lambda;
    square += mix.lambda * mix.lambda;
  }
  const double mean = sum / 4000, variance = square / 4000 - mean * mean;
  EXPECT_NEAR(mean, 0.5, 0.03);
  EXPECT_NEAR(variance, 0.25 / 1.4, 0.01);  // Beta(a,a): 1 / (4 (2 a + 1))
}

TEST(Augment, CutmixLambdaIsTheShareKept) {
  AugmentConfig config;
  config.cutmix = 1;
  for (uint64_t b = 0; b < 200; ++b) {
    const MixBatch mix = mix_batch(config, 3, b, 3, 8, 6);
    ASSERT_EQ(mix.kind, MixBatch::Kind::cutmix);
    std::vector<uint8_t> pixels;
    for (int n = 0; n < 3; ++n) pixels.insert(pixels.end(), 8 * 6, static_cast<uint8_t>(n));
    apply_cutmix(mix, pixels, 8, 6, 1);
    for (int64_t n = 0; n < 3; ++n) {
      if (mix.pair[static_cast<size_t>(n)] == n) continue;
      const auto kept = std::count(pixels.begin() + n * 48, pixels.begin() + (n + 1) * 48, n);
      EXPECT_NEAR(mix.lambda, static_cast<double>(kept) / 48, 1e-12);
    }
  }
  config.mixup = 1;
  int cut = 0;
  for (uint64_t b = 0; b < 400; ++b)
    cut += mix_batch(config, 3, b, 3, 8, 6).kind == MixBatch::Kind::cutmix;
  EXPECT_NEAR(cut, 200, 50);
}

TEST(Augment, NormalizationIsMeasuredByChannel) {
  const Normalization n = measured_normalization({0, 255, 0, 255}, 2);
  EXPECT_FLOAT_EQ(n.mean[0], 0);
  EXPECT_FLOAT_EQ(n.mean[1], 1);
  EXPECT_FLOAT_EQ(n.std[0], 1e-3f);
  EXPECT_FLOAT_EQ(measured_normalization({0, 255}, 1).std[0], 0.5f);
  EXPECT_THROW(measured_normalization({1, 2, 3}, 2), ContractError);
}

}  // namespace
}  // namespace realfake
