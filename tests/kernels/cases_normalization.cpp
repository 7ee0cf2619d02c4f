#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

OpCase group_norm(const std::string& name, const Shape& x, int64_t groups, bool silu) {
  const int64_t n = x[0], c = x[-1], inner = x.numel() / (n * c), width = c / groups;
  const double eps = 1e-5;
  OpCase o;
  o.name = "group_norm_" + name;
  o.inputs = {{.shape = x, .fill = normal(1.3, 0.4), .gradient = true},
              {.shape = {c}, .fill = normal(0.7, 1), .gradient = true},
              {.shape = {c}, .fill = normal(0.5), .gradient = true}};
  o.outputs = {{.shape = x},
               {.shape = {n, groups}, .cotangent = false, .dense = true},
               {.shape = {n, groups}, .cotangent = false, .dense = true}};
  o.reduction = static_cast<double>(std::max(inner * width, n * inner));
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    group_norm_forward(ex, out[0], out[1], out[2], in[0], in[1], in[2], groups, eps, silu);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                   const Tensors& dout) {
    group_norm_backward(ex, g[0], g[1], g[2], dout[0], in[0], out[1], out[2], in[1], in[2], groups,
                        silu);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(in[0].size()), means(at(n * groups)), rstds(at(n * groups));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t g = 0; g < groups; ++g) {
        double mean = 0, square = 0;
        const auto index = [&](int64_t p, int64_t k) {
          return at((i * inner + p) * c + g * width + k);
        };
        for (int64_t p = 0; p < inner; ++p)
          for (int64_t k = 0; k < width; ++k) mean += in[0][index(p, k)];
        mean /= static_cast<double>(inner * width);
        for (int64_t p = 0; p < inner; ++p)
          for (int64_t k = 0; k < width; ++k) square += std::pow(in[0][index(p, k)] - mean, 2);
        const double rstd = 1 / std::sqrt(square / static_cast<double>(inner * width) + eps);
        means[at(i * groups + g)] = mean;
        rstds[at(i * groups + g)] = rstd;
        for (int64_t p = 0; p < inner; ++p)
          for (int64_t k = 0; k < width; ++k) {
            const double z = (in[0][index(p, k)] - mean) * rstd * in[1][at(g * width + k)] +
                             in[2][at(g * width + k)];
            y[index(p, k)] = silu ? z * sigmoid(z) : z;
          }
      }
    return std::vector<Numbers>{y, means, rstds};
  };
  return o;
}

OpCase layer_norm(const std::string& name, const Shape& x) {
  const int64_t d = x[-1], rows = x.numel() / d;
  const double eps = 1e-5;
  OpCase o;
  o.name = "layer_norm_" + name;
  o.inputs = {{.shape = x, .fill = normal(1.3, 0.4), .gradient = true},
              {.shape = {d}, .fill = normal(0.7, 1), .gradient = true},
              {.shape = {d}, .fill = normal(0.5), .gradient = true}};
  o.outputs = {
      {.shape = x}, {.shape = {rows}, .cotangent = false}, {.shape = {rows}, .cotangent = false}};
  o.reduction = static_cast<double>(std::max(d, rows));
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    layer_norm_forward(ex, out[0], out[1], out[2], in[0], in[1], in[2], eps);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                  const Tensors& dout) {
    layer_norm_backward(ex, g[0], g[1], g[2], dout[0], in[0], out[1], out[2], in[1]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(in[0].size()), means(at(rows)), rstds(at(rows));
    for (int64_t r = 0; r < rows; ++r) {
      double mean = 0, square = 0;
      for (int64_t k = 0; k < d; ++k) mean += in[0][at(r * d + k)] / static_cast<double>(d);
      for (int64_t k = 0; k < d; ++k) square += std::pow(in[0][at(r * d + k)] - mean, 2);
      const double rstd = 1 / std::sqrt(square / static_cast<double>(d) + eps);
      means[at(r)] = mean;
      rstds[at(r)] = rstd;
      for (int64_t k = 0; k < d; ++k)
        y[at(r * d + k)] = (in[0][at(r * d + k)] - mean) * rstd * in[1][at(k)] + in[2][at(k)];
    }
    return std::vector<Numbers>{y, means, rstds};
  };
  return o;
}

// Inputs: x, gamma, beta, running mean, running variance [, residual].
OpCase batch_norm(const std::string& name, const Shape& x, bool residual, bool relu,
                  bool training) {
  const int64_t c = x[-1], rows = x.numel() / c;
  const double eps = 1e-5, momentum = 0.1;
  OpCase o;
  o.name = (training ? "batch_norm_" : "batch_norm_inference_") + name;
  o.inputs = {{.shape = x, .fill = normal(1.3, 0.4), .gradient = training},
              {.shape = {c}, .fill = normal(0.7, 1), .gradient = training},
              {.shape = {c}, .fill = normal(0.5), .gradient = training},
              {.shape = {c}, .fill = normal(0.3)},
              {.shape = {c}, .fill = uniform(0.5, 2)}};
  if (residual) o.inputs.push_back({.shape = x, .fill = normal(0.8), .gradient = training});
  o.outputs = {{.shape = x}};
  o.reduction = static_cast<double>(training ? rows : 1);
  if (training) {
    o.outputs.push_back({.shape = {c}, .cotangent = false});
    o.outputs.push_back({.shape = {c}, .cotangent = false});
    o.outputs.push_back({.shape = {c}, .cotangent = false, .start = 3});
    o.outputs.push_back({.shape = {c}, .cotangent = false, .start = 4});
  }
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    const Tensor& extra = residual ? in[5] : kNone;
    if (training)
      batch_norm_forward(ex, out[0], out[1], out[2], out[3], out[4], in[0], in[1], in[2], extra,
                         eps, momentum, relu);
    else
      batch_norm_inference(ex, out[0], in[3], in[4], in[0], in[1], in[2], extra, eps, relu);
  };
  if (training)
    o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                     const Tensors& dout) {
      batch_norm_backward(ex, g[0], g[1], g[2], residual ? g[5] : kNoGrad, dout[0], in[0], out[0],
                          out[1], out[2], in[1], relu);
    };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(in[0].size()), means(at(c)), rstds(at(c)), running_mean(at(c)), running_var(at(c));
    const double n = static_cast<double>(rows);
    for (int64_t k = 0; k < c; ++k) {
      double mean = 0, square = 0;
      for (int64_t r = 0; r < rows; ++r) mean += in[0][at(r * c + k)] / n;
      for (int64_t r = 0; r < rows; ++r) square += std::pow(in[0][at(r * c + k)] - mean, 2);
      running_mean[at(k)] = 0.9 * in[3][at(k)] + 0.1 * mean;
      running_var[at(k)] = 0.9 * in[4][at(k)] + 0.1 * square / (n - 1);
      double rstd = 1 / std::sqrt(square / n + eps);
      if (!training) {
        mean = in[3][at(k)];
        rstd = 1 / std::sqrt(in[4][at(k)] + eps);
      }
      means[at(k)] = mean;
      rstds[at(k)] = rstd;
      for (int64_t r = 0; r < rows; ++r) {
        double z = (in[0][at(r * c + k)] - mean) * rstd * in[1][at(k)] + in[2][at(k)];
        if (residual) z += in[5][at(r * c + k)];
        y[at(r * c + k)] = relu && z < 0 ? 0 : z;
      }
    }
    if (!training) return std::vector<Numbers>{y};
    return std::vector<Numbers>{y, means, rstds, running_mean, running_var};
  };
  return o;
}

OpCase l2_normalize(const std::string& name, const Shape& x) {
  const int64_t d = x[-1], rows = x.numel() / d;
  OpCase o;
  o.name = "l2_normalize_" + name;
  o.inputs = {{.shape = x, .fill = normal(1.5, 0.3), .gradient = true}};
  o.outputs = {{.shape = x}, {.shape = {rows}, .cotangent = false}};
  o.reduction = static_cast<double>(d);
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    l2_normalize_forward(ex, out[0], out[1], in[0]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors& out,
                  const Tensors& dout) {
    l2_normalize_backward(ex, g[0], dout[0], out[0], out[1]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(in[0].size()), norms(at(rows));
    for (int64_t r = 0; r < rows; ++r) {
      double square = 0;
      for (int64_t k = 0; k < d; ++k) square += std::pow(in[0][at(r * d + k)], 2);
      norms[at(r)] = std::sqrt(square);
      for (int64_t k = 0; k < d; ++k) y[at(r * d + k)] = in[0][at(r * d + k)] / norms[at(r)];
    }
    return std::vector<Numbers>{y, norms};
  };
  return o;
}

}  // namespace

std::vector<OpCase> normalization_cases() {
  return with_strided({
      group_norm("groups3", {2, 5, 3, 12}, 3, false),
      group_norm("groups3_silu", {2, 5, 3, 12}, 3, true),
      group_norm("one_channel_each_silu", {3, 4, 7, 5}, 5, true),
      group_norm("one_group", {2, 3, 5, 7}, 1, false),
      group_norm("tokens_silu", {2, 35, 24}, 4, true),
      group_norm("wide_silu", {2, 9, 11, 320}, 32, true),
      layer_norm("d33", {3, 5, 33}),
      layer_norm("d1row", {1, 7}),
      layer_norm("d257", {7, 257}),
      layer_norm("d768", {2, 3, 768}),
      layer_norm("rows301", {301, 20}),
      batch_norm("plain", {3, 5, 4, 7}, false, false, true),
      batch_norm("relu", {3, 5, 4, 7}, false, true, true),
      batch_norm("residual", {2, 3, 5, 6}, true, false, true),
      batch_norm("residual_relu", {2, 3, 5, 6}, true, true, true),
      batch_norm("rows", {37, 5}, false, true, true),
      batch_norm("large", {4, 17, 13, 33}, true, false, true),
      batch_norm("plain", {3, 5, 4, 7}, false, false, false),
      batch_norm("residual_relu", {2, 3, 5, 6}, true, true, false),
      l2_normalize("d5", {7, 5}),
      l2_normalize("d515", {3, 515}),
  });
}

}  // namespace realfake::testing
