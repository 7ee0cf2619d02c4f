#include "train/distances.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace realfake {
namespace {

struct Moments {
  std::vector<double> mean, covariance;  // (F), (F,F)
};

Moments moments_of(const std::vector<float>& x, int64_t f) {
  const int64_t n = static_cast<int64_t>(x.size()) / f;
  if (n < 2) throw InputError(concat("a Frechet distance needs at least 2 images, found ", n));
  Moments m{std::vector<double>(static_cast<size_t>(f), 0),
            std::vector<double>(static_cast<size_t>(f * f), 0)};
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < f; ++j)
      m.mean[static_cast<size_t>(j)] += x[static_cast<size_t>(i * f + j)] / static_cast<double>(n);
  std::vector<double> d(static_cast<size_t>(f));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < f; ++j)
      d[static_cast<size_t>(j)] =
          x[static_cast<size_t>(i * f + j)] - m.mean[static_cast<size_t>(j)];
    for (int64_t j = 0; j < f; ++j)
      for (int64_t k = 0; k < f; ++k)
        m.covariance[static_cast<size_t>(j * f + k)] +=
            d[static_cast<size_t>(j)] * d[static_cast<size_t>(k)] / static_cast<double>(n - 1);
  }
  return m;
}

std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b, int64_t n) {
  std::vector<double> c(static_cast<size_t>(n * n), 0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < n; ++k)
      for (int64_t j = 0; j < n; ++j)
        c[static_cast<size_t>(i * n + j)] +=
            a[static_cast<size_t>(i * n + k)] * b[static_cast<size_t>(k * n + j)];
  return c;
}

std::vector<double> square_root(const std::vector<double>& a, int64_t n) {
  std::vector<double> values, vectors;
  symmetric_eigen(a, n, values, vectors);
  std::vector<double> out(static_cast<size_t>(n * n), 0);
  for (int64_t k = 0; k < n; ++k) {
    const double root = std::sqrt(std::max(0.0, values[static_cast<size_t>(k)]));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        out[static_cast<size_t>(i * n + j)] += root * vectors[static_cast<size_t>(i * n + k)] *
                                               vectors[static_cast<size_t>(j * n + k)];
  }
  return out;
}

double median(std::vector<double> v) {
  if (v.empty()) return 0;
  const size_t mid = v.size() / 2;
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(mid), v.end());
  if (v.size() % 2) return v[mid];
  return 0.5 *
         (v[mid] + *std::max_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(mid)));
}

// One channel per pixel: grey sets compare whatever their files hold.
std::vector<float> grey_rows(const ImageSet& set) {
  const int64_t pixels = set.height * set.width;
  std::vector<float> rows(static_cast<size_t>(set.size() * pixels));
  for (size_t i = 0; i < rows.size(); ++i) {
    double sum = 0;
    for (int64_t c = 0; c < set.channels; ++c)
      sum += set.pixels[i * static_cast<size_t>(set.channels) + static_cast<size_t>(c)];
    rows[i] = static_cast<float>(sum / static_cast<double>(set.channels) / 255);
  }
  return rows;
}

double distance(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(static_cast<double>(sum));
}

}  // namespace

void symmetric_eigen(std::vector<double> a, int64_t n, std::vector<double>& values,
                     std::vector<double>& vectors) {
  const auto at = [n](std::vector<double>& m, int64_t i, int64_t j) -> double& {
    return m[static_cast<size_t>(i * n + j)];
  };
  vectors.assign(static_cast<size_t>(n * n), 0);
  for (int64_t i = 0; i < n; ++i) at(vectors, i, i) = 1;
  double scale = 0;
  for (const double v : a) scale += v * v;
  for (int sweep = 0; sweep < 100; ++sweep) {
    double off = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = i + 1; j < n; ++j) off += at(a, i, j) * at(a, i, j);
    if (off <= 1e-28 * scale) break;
    for (int64_t p = 0; p < n; ++p)
      for (int64_t q = p + 1; q < n; ++q) {
        if (at(a, p, q) == 0) continue;
        const double theta = (at(a, q, q) - at(a, p, p)) / (2 * at(a, p, q));
        const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (int64_t k = 0; k < n; ++k) {
          const double kp = at(a, k, p), kq = at(a, k, q);
          at(a, k, p) = c * kp - s * kq;
          at(a, k, q) = s * kp + c * kq;
        }
        for (int64_t k = 0; k < n; ++k) {
          const double pk = at(a, p, k), qk = at(a, q, k);
          at(a, p, k) = c * pk - s * qk;
          at(a, q, k) = s * pk + c * qk;
        }
        for (int64_t k = 0; k < n; ++k) {
          const double kp = at(vectors, k, p), kq = at(vectors, k, q);
          at(vectors, k, p) = c * kp - s * kq;
          at(vectors, k, q) = s * kp + c * kq;
        }
      }
  }
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int64_t i, int64_t j) { return at(a, i, i) < at(a, j, j); });
  values.clear();
  std::vector<double> sorted(vectors.size());
  for (int64_t k = 0; k < n; ++k) {
    const int64_t from = order[static_cast<size_t>(k)];
    values.push_back(at(a, from, from));
    for (int64_t i = 0; i < n; ++i) sorted[static_cast<size_t>(i * n + k)] = at(vectors, i, from);
  }
  vectors = std::move(sorted);
}

double total_variance(const std::vector<float>& features, int64_t width) {
  const Moments m = moments_of(features, width);
  double trace = 0;
  for (int64_t i = 0; i < width; ++i) trace += m.covariance[static_cast<size_t>(i * width + i)];
  return trace;
}

double frechet_distance(const std::vector<float>& a, const std::vector<float>& b, int64_t width) {
  const Moments ma = moments_of(a, width), mb = moments_of(b, width);
  double sum = 0;
  for (size_t i = 0; i < ma.mean.size(); ++i)
    sum += (ma.mean[i] - mb.mean[i]) * (ma.mean[i] - mb.mean[i]);
  for (int64_t i = 0; i < width; ++i)
    sum += ma.covariance[static_cast<size_t>(i * width + i)] +
           mb.covariance[static_cast<size_t>(i * width + i)];
  // tr (C_a C_b)^(1/2) = tr (C_a^(1/2) C_b C_a^(1/2))^(1/2), whose argument is symmetric.
  const std::vector<double> root = square_root(ma.covariance, width);
  std::vector<double> inner = product(product(root, mb.covariance, width), root, width);
  std::vector<double> values, vectors;
  symmetric_eigen(std::move(inner), width, values, vectors);
  for (const double v : values) sum -= 2 * std::sqrt(std::max(0.0, v));
  return std::max(0.0, sum);
}

SetDistance set_distance(Exec& exec, const ResNet& judge, const std::string& normalization,
                         const ImageSet& real, const ImageSet& synthetic) {
  Tensor real_features, synthetic_features;
  classifier_logits(exec, judge, real, normalization, 256, &real_features);
  classifier_logits(exec, judge, synthetic, normalization, 256, &synthetic_features);
  const int64_t width = real_features.dim(1);
  const std::vector<float> a = exec.to_vector<float>(real_features),
                           b = exec.to_vector<float>(synthetic_features);
  return {frechet_distance(a, b, width) / total_variance(a, width),
          evaluate_classifier(exec, judge, synthetic, normalization).top1};
}

CopyCheck copy_check(const ImageSet& real, const ImageSet& synthetic,
                     const std::vector<int64_t>& source) {
  if (real.height != synthetic.height || real.width != synthetic.width)
    throw InputError(concat("copy check: real images are ", real.height, "x", real.width,
                            ", synthetic ", synthetic.height, "x", synthetic.width));
  require(static_cast<int64_t>(source.size()) == synthetic.size(), "[copy_check] ", source.size(),
          " sources for ", synthetic.size(), " images");
  const int64_t pixels = real.height * real.width;
  const std::vector<float> r = grey_rows(real), s = grey_rows(synthetic);
  std::vector<double> own, other, real_real;
  int64_t nearest_is_own = 0;
  for (int64_t i = 0; i < synthetic.size(); ++i) {
    double best = std::numeric_limits<double>::infinity(), mine = 0;
    for (int64_t j = 0; j < real.size(); ++j) {
      const double d = distance(s.data() + i * pixels, r.data() + j * pixels, pixels);
      if (j == source[static_cast<size_t>(i)])
        mine = d;
      else
        best = std::min(best, d);
    }
    own.push_back(mine);
    other.push_back(best);
    nearest_is_own += mine < best;
  }
  for (int64_t i = 0; i < real.size(); ++i) {
    double best = std::numeric_limits<double>::infinity();
    for (int64_t j = 0; j < real.size(); ++j)
      if (j != i)
        best = std::min(best, distance(r.data() + i * pixels, r.data() + j * pixels, pixels));
    real_real.push_back(best);
  }
  return {median(own), median(other),
          100.0 * static_cast<double>(nearest_is_own) / static_cast<double>(synthetic.size()),
          median(real_real)};
}

}  // namespace realfake
