#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

OpCase normalize() {
  const Shape x{2, 5, 7, 3};
  OpCase o;
  o.name = "normalize_u8";
  o.inputs = {{.shape = x, .fill = integers(0, 255), .dtype = DType::u8},
              {.shape = {3}, .fill = uniform(0.3, 0.6)},
              {.shape = {3}, .fill = uniform(0.2, 0.4)}};
  o.outputs = {{.shape = x}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    normalize_u8(ex, out[0], in[0], in[1], in[2]);
  };
  o.reference = [](const std::vector<Numbers>& in) {
    Numbers y(in[0].size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = (in[0][i] / 255 - in[1][i % 3]) / in[2][i % 3];
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase quantize() {
  const Shape x{2, 5, 7, 3};
  OpCase o;
  o.name = "quantize_u8";
  o.inputs = {{.shape = x, .fill = uniform(-1.3, 1.3)}};
  o.outputs = {{.shape = x, .dtype = DType::u8}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    quantize_u8(ex, out[0], in[0]);
  };
  o.reference = [](const std::vector<Numbers>& in) {
    Numbers y;
    for (const double v : in[0]) y.push_back(std::round(std::clamp((v + 1) / 2, 0.0, 1.0) * 255));
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase affine(const std::string& name, const Shape& x, int64_t p, int64_t q, double border,
              Fill maps) {
  const int64_t n = x[0], h = x[1], w = x[2], c = x[3];
  OpCase o;
  o.name = "affine_sample_" + name;
  o.inputs = {{.shape = x}, {.shape = {n, 6}, .fill = std::move(maps)}};
  o.outputs = {{.shape = {n, p, q, c}}};
  o.reduction =
      static_cast<double>(std::max(h, w) * 16);  // a position is rounded at the size of the image
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    affine_sample(ex, out[0], in[0], in[1], border);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y;
    const auto dd = [](int64_t v) { return static_cast<double>(v); };
    for (int64_t i = 0; i < n; ++i)
      for (int64_t a = 0; a < p; ++a)
        for (int64_t b = 0; b < q; ++b) {
          const double* m = in[1].data() + i * 6;
          const double gx = (2 * dd(b) + 1) / dd(q) - 1, gy = (2 * dd(a) + 1) / dd(p) - 1;
          const double u = m[0] * gx + m[1] * gy + m[2], v = m[3] * gx + m[4] * gy + m[5];
          const double px = ((u + 1) * dd(w) - 1) / 2, py = ((v + 1) * dd(h) - 1) / 2;
          const auto x0 = static_cast<int64_t>(std::floor(px)),
                     y0 = static_cast<int64_t>(std::floor(py));
          for (int64_t e = 0; e < c; ++e) {
            const auto pixel = [&](int64_t row, int64_t column) {
              if (row < 0 || row >= h || column < 0 || column >= w) return border;
              return in[0][at(((i * h + row) * w + column) * c + e)];
            };
            const double fx = px - dd(x0), fy = py - dd(y0);
            y.push_back((1 - fy) * ((1 - fx) * pixel(y0, x0) + fx * pixel(y0, x0 + 1)) +
                        fy * ((1 - fx) * pixel(y0 + 1, x0) + fx * pixel(y0 + 1, x0 + 1)));
          }
        }
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase flip() {
  const Shape x{4, 3, 5, 2};
  OpCase o;
  o.name = "flip_horizontal";
  o.inputs = {{.shape = x}, {.shape = {4}, .fill = given({1, 0, 0, 1}), .dtype = DType::u8}};
  o.outputs = {{.shape = x, .exact = true}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    flip_horizontal(ex, out[0], in[0], in[1]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y;
    for (int64_t row = 0; row < 12; ++row)
      for (int64_t w = 0; w < 5; ++w)
        for (int64_t c = 0; c < 2; ++c)
          y.push_back(in[0][at((row * 5 + (in[1][at(row / 3)] != 0 ? 4 - w : w)) * 2 + c)]);
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase mix(const std::string& name, const Shape& x) {
  const int64_t n = x[0], each = x.numel() / n;
  OpCase o;
  o.name = "mix_samples_" + name;
  o.inputs = {{.shape = x},
              {.shape = {n}, .fill = uniform(0, 1)},
              {.shape = {n}, .fill = given({2, 0, 1, 3}), .dtype = DType::i64}};
  o.outputs = {{.shape = x}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    mix_samples(ex, out[0], in[0], in[1], in[2]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < each; ++k)
        y.push_back(in[1][at(i)] * in[0][at(i * each + k)] +
                    (1 - in[1][at(i)]) * in[0][at(static_cast<int64_t>(in[2][at(i)]) * each + k)]);
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase pairwise(const std::string& name, int64_t n, int64_t m, int64_t d) {
  OpCase o;
  o.name = "pairwise_squared_" + name;
  o.inputs = {{.shape = {n, d}}, {.shape = {m, d}}};
  o.outputs = {{.shape = {n, m}}};
  o.reduction = static_cast<double>(d);
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    pairwise_squared(ex, out[0], in[0], in[1]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers out(at(n * m));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < m; ++j)
        for (int64_t k = 0; k < d; ++k)
          out[at(i * m + j)] += std::pow(in[0][at(i * d + k)] - in[1][at(j * d + k)], 2);
    return std::vector<Numbers>{out};
  };
  return o;
}

}  // namespace

std::vector<OpCase> image_cases() {
  return {
      normalize(),
      quantize(),
      affine("rotate", {2, 7, 5, 3}, 7, 5, 0,
             given({0.8, -0.5, 0.1, 0.6, 0.9, -0.2, 1.3, 0.2, 0, -0.1, 1.1, 0.3})),
      affine("resize_border", {2, 6, 9, 2}, 11, 5, -1,
             given({1, 0, 0, 0, 1, 0, -1, 0, 0.7, 0, 1.6, 0})),
      flip(),
      mix("images", {4, 3, 5, 2}),
      mix("targets", {4, 11}),
      pairwise("odd", 5, 7, 9),
      pairwise("wide", 3, 4, 515),
  };
}

}  // namespace realfake::testing
