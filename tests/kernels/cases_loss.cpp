#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

// Every loss is one value, its cotangent the host number dloss.
double dloss_of(Exec& ex, const Tensors& dout) {
  return ex.scalar(dout[0]);
}

OpCase mse(const std::string& name, const Shape& x, bool weighted) {
  const int64_t n = x[0], each = x.numel() / n;
  OpCase o;
  o.name = "weighted_mse_" + name;
  o.inputs = {{.shape = x, .gradient = true}, {.shape = x}};
  if (weighted) o.inputs.push_back({.shape = {n}, .fill = uniform(0.2, 5)});
  o.outputs = {{.shape = {1}}};
  o.reduction = static_cast<double>(x.numel());
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    weighted_mse_forward(ex, out[0], in[0], in[1], weighted ? in[2] : kNone);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                   const Tensors& dout) {
    weighted_mse_backward(ex, g[0], in[0], in[1], weighted ? in[2] : kNone, dloss_of(ex, dout));
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    double sum = 0;
    for (size_t i = 0; i < in[0].size(); ++i)
      sum += (weighted ? in[2][i / at(each)] : 1) * std::pow(in[0][i] - in[1][i], 2);
    return std::vector<Numbers>{{sum / static_cast<double>(n * each)}};
  };
  return o;
}

OpCase matching(const std::string& name, const Shape& x, bool weighted) {
  const int64_t n = x[0], each = x.numel() / n;
  std::vector<int64_t> dims = x.vec();
  dims.erase(dims.begin());
  const Shape sample(dims);
  OpCase o;
  o.name = "matching_sum_" + name;
  o.inputs = {{.shape = x, .gradient = true}, {.shape = x}};
  if (weighted) o.inputs.push_back({.shape = {n}, .fill = uniform(0.2, 5)});
  o.outputs = {{.shape = {1}}, {.shape = sample, .cotangent = false}};
  o.reduction = static_cast<double>(x.numel());
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    matching_sum_forward(ex, out[0], out[1], in[0], in[1], weighted ? in[2] : kNone);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                   const Tensors& dout) {
    matching_sum_backward(ex, g[0], out[1], weighted ? in[2] : kNone, dloss_of(ex, dout));
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers diff(at(each));
    for (size_t i = 0; i < in[0].size(); ++i)
      diff[i % at(each)] += (weighted ? in[2][i / at(each)] : 1) * (in[0][i] - in[1][i]);
    double sum = 0;
    for (const double v : diff) sum += v * v;
    return std::vector<Numbers>{{sum / static_cast<double>(each)}, diff};
  };
  return o;
}

Numbers squared_distances(const Numbers& a, const Numbers& b, int64_t n) {
  const size_t each = a.size() / at(n), all = at(2 * n);
  const auto value = [&](size_t i, size_t k) {
    return i < at(n) ? a[i * each + k] : b[(i - at(n)) * each + k];
  };
  Numbers d(all * all);
  for (size_t i = 0; i < all; ++i)
    for (size_t j = 0; j < all; ++j)
      for (size_t k = 0; k < each; ++k) d[i * all + j] += std::pow(value(i, k) - value(j, k), 2);
  return d;
}
double bandwidth(const Numbers& d, int64_t n) {
  double sum = 0;
  for (size_t i = 0; i < at(2 * n); ++i)
    for (size_t j = i + 1; j < at(2 * n); ++j) sum += d[i * at(2 * n) + j];
  return sum / static_cast<double>(n * (2 * n - 1));
}
double mmd_of(const Numbers& d, double s2, int64_t n) {
  double total = 0;
  for (const double f : {0.25, 0.5, 1.0, 2.0, 4.0}) {
    double inside = 0, across = 0;
    for (size_t i = 0; i < at(n); ++i)
      for (size_t j = 0; j < at(n); ++j) {
        const auto kernel = [&](size_t p, size_t q) {
          return std::exp(-d[p * at(2 * n) + q] / (2 * f * s2));
        };
        if (i != j) inside += kernel(i, j) + kernel(at(n) + i, at(n) + j);
        across += kernel(i, at(n) + j);
      }
    const double m = static_cast<double>(n);
    total += inside / (m * (m - 1)) - 2 * across / (m * m);
  }
  return total / 5;
}

OpCase mmd(const std::string& name, const Shape& x) {
  const int64_t n = x[0];
  OpCase o;
  o.name = "mmd_rbf_" + name;
  o.inputs = {{.shape = x, .fill = normal(1, 0.5), .gradient = true}, {.shape = x}};
  o.outputs = {{.shape = {1}, .magnitude = 1}, {.shape = {2 * n, 2 * n}, .cotangent = false}};
  o.reduction = static_cast<double>(x.numel());
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    mmd_rbf_forward(ex, out[0], out[1], in[0], in[1]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                  const Tensors& dout) {
    mmd_rbf_backward(ex, g[0], in[0], in[1], out[1], dloss_of(ex, dout));
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    const Numbers d = squared_distances(in[0], in[1], n);
    return std::vector<Numbers>{{mmd_of(d, bandwidth(d, n), n)}, d};
  };
  o.held_loss = [=](const std::vector<Numbers>& in, const std::vector<Numbers>& base) {
    return mmd_of(squared_distances(in[0], in[1], n),
                  bandwidth(squared_distances(base[0], base[1], n), n), n);
  };
  return o;
}

OpCase cross_entropy(const std::string& name, int64_t n, int64_t k, double smoothing,
                     Fill logits = normal(2)) {
  OpCase o;
  o.name = "cross_entropy_" + name;
  o.inputs = {{.shape = {n, k}, .fill = std::move(logits), .gradient = true},
              {.shape = {n, k}, .fill = probabilities()}};
  o.outputs = {{.shape = {1}}, {.shape = {n, k}, .cotangent = false}};
  o.reduction = static_cast<double>(n * k);
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    cross_entropy_forward(ex, out[0], out[1], in[0], in[1], smoothing);
  };
  // The target's rows sum to 1 only up to float rounding; the gradient uses that they do.
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                   const Tensors& dout) {
    cross_entropy_backward(ex, g[0], out[1], in[1], smoothing, dloss_of(ex, dout));
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers probs(at(n * k));
    double loss = 0;
    for (size_t row = 0; row < probs.size(); row += at(k)) {
      double top = -1e300, sum = 0;
      for (size_t j = 0; j < at(k); ++j) top = std::max(top, in[0][row + j]);
      for (size_t j = 0; j < at(k); ++j) sum += std::exp(in[0][row + j] - top);
      for (size_t j = 0; j < at(k); ++j) {
        const double log_p = in[0][row + j] - top - std::log(sum);
        probs[row + j] = std::exp(log_p);
        loss -= ((1 - smoothing) * in[1][row + j] + smoothing / static_cast<double>(k)) * log_p;
      }
    }
    return std::vector<Numbers>{{loss / static_cast<double>(n)}, probs};
  };
  return o;
}

OpCase one_hot_case() {
  const int64_t n = 7, k = 5;
  OpCase o;
  o.name = "one_hot";
  o.inputs = {{.shape = {n}, .fill = integers(0, k - 1), .dtype = DType::i64}};
  o.outputs = {{.shape = {n, k}, .exact = true}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) { one_hot(ex, out[0], in[0]); };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(at(n * k));
    for (int64_t i = 0; i < n; ++i) y[at(i * k + static_cast<int64_t>(in[0][at(i)]))] = 1;
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase kl(const std::string& name, const Shape& moments, Fill fill, bool backward) {
  const int64_t c = moments[-1] / 2;
  OpCase o;
  o.name = "kl_" + name;
  o.inputs = {{.shape = moments, .fill = std::move(fill), .gradient = backward}};
  o.outputs = {{.shape = {1}}};
  o.reduction = static_cast<double>(moments.numel());
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    kl_forward(ex, out[0], in[0]);
  };
  if (backward)
    o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                    const Tensors& dout) { kl_backward(ex, g[0], in[0], dloss_of(ex, dout)); };
  o.reference = [=](const std::vector<Numbers>& in) {
    double sum = 0;
    const size_t count = in[0].size() / 2;
    for (size_t i = 0; i < count; ++i) {
      const size_t from = i / at(c) * at(2 * c) + i % at(c);
      const double mu = in[0][from], logvar = std::clamp(in[0][from + at(c)], -30.0, 20.0);
      sum += 0.5 * (mu * mu + std::exp(logvar) - 1 - logvar);
    }
    return std::vector<Numbers>{{sum / static_cast<double>(count)}};
  };
  return o;
}

}  // namespace

std::vector<OpCase> loss_cases() {
  return {
      mse("weights", {3, 5, 3, 4}, true),
      mse("plain", {3, 5, 3, 4}, false),
      mse("large", {4, 33, 31, 4}, true),
      matching("weights", {3, 5, 3, 4}, true),
      matching("plain", {5, 7}, false),
      matching("large", {6, 33, 31, 4}, true),
      mmd("odd", {3, 5, 2}),
      mmd("pair", {2, 7}),
      mmd("latents", {5, 9, 7, 4}),
      cross_entropy("soft", 5, 7, 0),
      cross_entropy("smoothing", 5, 7, 0.1),
      cross_entropy("k1000", 3, 1000, 0.1),
      cross_entropy("large_logits", 4, 9, 0.05, normal(20, 100)),
      one_hot_case(),
      kl("odd", {2, 3, 5, 6}, normal(0.8), true),
      kl("clamped_below", {2, 3, 2}, given({0.5, -1, -35, -31, 2, 1}), true),
      kl("clamped_above", {2, 3, 2}, given({0.5, -1, 25, 21, 2, 1}), false),
  };
}

}  // namespace realfake::testing
