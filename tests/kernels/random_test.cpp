#include "kernels/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/philox.h"
#include "tests/testing/op_case.h"

namespace realfake::testing {

namespace {

std::vector<Device> host_devices() {
  return {Device::cpu, Device::emulated};
}

std::vector<float> normals(Exec& ex, const Shape& shape, uint64_t seed, uint64_t first) {
  const Tensor t = ex.empty(shape);
  random_normal(ex, t, seed, Stream::latent_noise, first);
  return ex.to_vector<float>(t);
}

// Known answers of the authors' library (Random123, kat_vectors).
TEST(Philox, KnownAnswers) {
  const auto expect = [](PhiloxBlock b, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3) {
    EXPECT_EQ(b.w[0], a0);
    EXPECT_EQ(b.w[1], a1);
    EXPECT_EQ(b.w[2], a2);
    EXPECT_EQ(b.w[3], a3);
  };
  expect(philox4x32_10(0, 0, 0, 0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  const uint32_t f = 0xffffffff;
  expect(philox4x32_10(f, f, f, f, f, f), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  expect(philox4x32_10(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0),
         0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST(Random, ASampleDependsOnItsNumberAlone) {
  for (const Device device : host_devices()) {
    Exec& ex = exec_of(device);
    const auto all = normals(ex, {8, 5, 7}, 99, 10);
    for (int64_t i = 0; i < 8; ++i) {
      const auto one = normals(ex, {1, 5, 7}, 99, 10 + static_cast<uint64_t>(i));
      EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + i * 35)) << "sample " << 10 + i;
    }
    const auto late = normals(ex, {3, 5, 7}, 99, 13);
    EXPECT_TRUE(std::equal(late.begin(), late.end(), all.begin() + 3 * 35));
    // A longer sample begins with the same draws.
    const auto longer = normals(ex, {1, 100}, 99, 10);
    EXPECT_TRUE(std::equal(all.begin(), all.begin() + 35, longer.begin()));
  }
}

TEST(Random, SampleNumbersMayBeGiven) {
  for (const Device device : host_devices()) {
    Exec& ex = exec_of(device);
    const Tensor t = ex.empty({3, 11});
    random_normal_samples(ex, t, 5, Stream::latent_noise,
                          ex.from_vector(std::vector<int64_t>{6, 2, 2}, {3}));
    const auto v = ex.to_vector<float>(t);
    const auto six = normals(ex, {1, 11}, 5, 6), two = normals(ex, {1, 11}, 5, 2);
    EXPECT_TRUE(std::equal(six.begin(), six.end(), v.begin()));
    EXPECT_TRUE(std::equal(two.begin(), two.end(), v.begin() + 11));
    EXPECT_TRUE(std::equal(two.begin(), two.end(), v.begin() + 22));
  }
}

TEST(Random, ExecutorsAndHostAgreeInEveryBit) {
  Exec& ex = exec_of(Device::cpu);
  const auto a = normals(ex, {2, 333}, 1234567890123ull, 3);
  EXPECT_EQ(a, normals(exec_of(Device::emulated), {2, 333}, 1234567890123ull, 3));
  for (uint64_t n = 0; n < 2; ++n) {
    Philox host(1234567890123ull, Stream::latent_noise, 3 + n);
    for (size_t k = 0; k < 333; ++k) ASSERT_EQ(host.normal(), a[n * 333 + k]) << n << " " << k;
  }
}

TEST(Random, SeedStreamAndSampleAllMatter) {
  Exec& ex = exec_of(Device::cpu);
  const auto base = normals(ex, {1, 64}, 1, 0);
  EXPECT_NE(base, normals(ex, {1, 64}, 2, 0));
  EXPECT_NE(base, normals(ex, {1, 64}, 1, 1));
  EXPECT_NE(base, normals(ex, {1, 64}, 1 + (uint64_t{1} << 32), 0));
  EXPECT_NE(base, normals(ex, {1, 64}, 1, uint64_t{1} << 32));
  const Tensor t = ex.empty({1, 64});
  random_normal(ex, t, 1, Stream::train_noise, 0);
  EXPECT_NE(base, ex.to_vector<float>(t));
}

TEST(Random, NormalHasTheMomentsOfANormal) {
  Exec& ex = exec_of(Device::cpu);
  const auto v = normals(ex, {64, 4096}, 42, 0);
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
  const double n = static_cast<double>(v.size());
  for (const float f : v) {
    const double x = f;
    m1 += x / n;
    m2 += x * x / n;
    m3 += x * x * x / n;
    m4 += x * x * x * x / n;
  }
  // Five standard errors each.
  EXPECT_NEAR(m1, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(m2, 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(m3, 0, 5 * std::sqrt(15 / n));
  EXPECT_NEAR(m4, 3, 5 * std::sqrt(96 / n));
}

TEST(Random, UniformFillsTheUnitIntervalWithout1) {
  Exec& ex = exec_of(Device::cpu);
  const Tensor t = ex.empty({16, 4096});
  random_uniform(ex, t, 42, Stream::user, 0);
  const auto v = ex.to_vector<float>(t);
  EXPECT_GE(*std::min_element(v.begin(), v.end()), 0.0f);
  EXPECT_LT(*std::max_element(v.begin(), v.end()), 1.0f);
  std::vector<int> bins(32);
  for (const float x : v) ++bins[static_cast<size_t>(x * 32)];
  double chi = 0;
  for (const int b : bins) chi += std::pow(b - 2048.0, 2) / 2048;
  EXPECT_LT(chi, 31 + 5 * std::sqrt(62.0));
}

TEST(Random, BelowIsInRangeAndEven) {
  Philox philox(3, Stream::augment, 0);
  std::vector<int> count(7);
  for (int i = 0; i < 70000; ++i) {
    const uint32_t v = philox.below(7);
    ASSERT_LT(v, 7u);
    ++count[v];
  }
  for (const int c : count) EXPECT_NEAR(c, 10000, 500);
  EXPECT_EQ(philox.below(1), 0u);
}

TEST(Random, PermutationIsOneAndDependsOnTheEpoch) {
  for (const int64_t n : {0, 1, 2, 97, 1000}) {
    auto p = permutation(n, 11, Stream::shuffle, 4);
    EXPECT_EQ(p, permutation(n, 11, Stream::shuffle, 4));
    if (n > 10) {
      EXPECT_NE(p, permutation(n, 11, Stream::shuffle, 5));
      EXPECT_NE(p, permutation(n, 12, Stream::shuffle, 4));
    }
    std::sort(p.begin(), p.end());
    std::vector<int64_t> all(static_cast<size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(p, all);
  }
}

TEST(Random, F64IsTheSameNumbersWidened) {
  Exec& ex = exec_of(Device::cpu);
  const Tensor wide = ex.empty({2, 9}, DType::f64);
  random_normal(ex, wide, 8, Stream::latent_noise, 0);
  const auto narrow = normals(ex, {2, 9}, 8, 0);
  const auto v = ex.to_vector<double>(wide);
  for (size_t i = 0; i < v.size(); ++i) EXPECT_EQ(v[i], static_cast<double>(narrow[i]));
}

}  // namespace

}  // namespace realfake::testing
