// Frechet distance, fidelity's parts and the copy check against closed forms.
#include "train/distances.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/base/error.h"
#include "kernels/random.h"

namespace realfake {
namespace {

// n rows of `width` normals with these means and deviations per column.
std::vector<float> gaussian_rows(int64_t n, const std::vector<double>& mean,
                                 const std::vector<double>& deviation, uint64_t seed) {
  std::vector<float> rows;
  for (int64_t i = 0; i < n; ++i) {
    Philox random(seed, Stream::user, static_cast<uint64_t>(i));
    for (size_t j = 0; j < mean.size(); ++j)
      rows.push_back(static_cast<float>(mean[j] + deviation[j] * random.normal()));
  }
  return rows;
}

TEST(SymmetricEigen, RebuildsTheMatrix) {
  constexpr int64_t n = 7;
  std::vector<double> a(n * n);
  Philox random(3, Stream::user, 0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; ++j)
      a[static_cast<size_t>(i * n + j)] = a[static_cast<size_t>(j * n + i)] = random.normal();
  std::vector<double> values, vectors;
  symmetric_eigen(a, n, values, vectors);
  for (int64_t k = 1; k < n; ++k)
    EXPECT_LE(values[static_cast<size_t>(k - 1)], values[static_cast<size_t>(k)]);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, dot = 0;
      for (int64_t k = 0; k < n; ++k) {
        sum += values[static_cast<size_t>(k)] * vectors[static_cast<size_t>(i * n + k)] *
               vectors[static_cast<size_t>(j * n + k)];
        dot += vectors[static_cast<size_t>(k * n + i)] * vectors[static_cast<size_t>(k * n + j)];
      }
      EXPECT_NEAR(sum, a[static_cast<size_t>(i * n + j)], 1e-10);
      EXPECT_NEAR(dot, i == j ? 1 : 0, 1e-10);
    }
}

TEST(Frechet, OfIndependentNormalsIsTheClosedForm) {
  const std::vector<double> ma{0, 1, -2}, mb{0.5, 1, 1}, sa{1, 2, 0.5}, sb{1.5, 1, 0.5};
  double expected = 0;
  for (size_t j = 0; j < 3; ++j)
    expected += (ma[j] - mb[j]) * (ma[j] - mb[j]) + (sa[j] - sb[j]) * (sa[j] - sb[j]);
  const double measured =
      frechet_distance(gaussian_rows(40000, ma, sa, 1), gaussian_rows(40000, mb, sb, 2), 3);
  EXPECT_NEAR(measured, expected, 0.03 * expected);
}

TEST(Frechet, OfASetToItselfIsZeroAndItScalesWithTheSquare) {
  const std::vector<float> a = gaussian_rows(200, {0, 0, 3, 1}, {1, 2, 0.1, 1}, 5);
  EXPECT_NEAR(frechet_distance(a, a, 4), 0, 1e-9);
  const std::vector<float> b = gaussian_rows(150, {1, 0, 3, 0}, {1, 1, 0.3, 2}, 6);
  std::vector<float> a3 = a, b3 = b;
  for (float& v : a3) v *= 3;
  for (float& v : b3) v *= 3;
  const double d = frechet_distance(a, b, 4);
  EXPECT_GT(d, 0.5);
  EXPECT_NEAR(frechet_distance(a3, b3, 4), 9 * d, 1e-4 * d);
  EXPECT_NEAR(frechet_distance(b, a, 4), d, 1e-9 * d + 1e-12);
}

TEST(Frechet, NeedsTwoImages) {
  EXPECT_THROW(frechet_distance({1, 2}, {1, 2, 3, 4}, 2), InputError);
}

ImageSet two_by_two(const std::vector<std::vector<uint8_t>>& images) {
  ImageSet set;
  set.height = set.width = 2;
  set.channels = 1;
  set.classes = {"a"};
  for (const auto& image : images) {
    set.pixels.insert(set.pixels.end(), image.begin(), image.end());
    set.labels.push_back(0);
  }
  return set;
}

TEST(CopyCheck, FindsOwnSourceAndNearestOther) {
  const ImageSet real = two_by_two({{0, 0, 0, 0}, {255, 0, 0, 0}, {255, 255, 0, 0}});
  // The first is a copy of its source; the second lies on another image than its own.
  const ImageSet synthetic = two_by_two({{0, 0, 0, 0}, {255, 0, 0, 0}});
  const CopyCheck c = copy_check(real, synthetic, {0, 2});
  EXPECT_DOUBLE_EQ(c.own_is_nearest_percent, 50);
  EXPECT_NEAR(c.own_source_median, 0.5, 1e-6);     // 0 and 1
  EXPECT_NEAR(c.nearest_other_median, 0.5, 1e-6);  // 1 and 0
  EXPECT_NEAR(c.real_real_median, 1, 1e-6);
}

}  // namespace
}  // namespace realfake
