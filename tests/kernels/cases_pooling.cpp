#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

OpCase global_pool(const std::string& name, const Shape& x) {
  const int64_t n = x[0], c = x[3], inner = x[1] * x[2];
  OpCase o;
  o.name = "global_average_pool_" + name;
  o.inputs = {{.shape = x, .fill = normal(1, 0.5), .gradient = true}};
  o.outputs = {{.shape = {n, c}, .magnitude = 0.5}};
  o.reduction = static_cast<double>(inner);
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    global_average_pool_forward(ex, out[0], in[0]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors&,
                  const Tensors& dout) { global_average_pool_backward(ex, g[0], dout[0]); };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(at(n * c));
    for (size_t i = 0; i < in[0].size(); ++i)
      y[i / at(inner * c) * at(c) + i % at(c)] += in[0][i] / static_cast<double>(inner);
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase max_pool(const std::string& name, const Shape& x, int kernel, int stride, int padding,
                Fill fill) {
  const int64_t n = x[0], h = x[1], w = x[2], c = x[3];
  const Shape y{n, conv_out(h, padding, padding, kernel, stride),
                conv_out(w, padding, padding, kernel, stride), c};
  OpCase o;
  o.name = "max_pool_" + name;
  const bool ties = fill.kind == Fill::integer_values;
  o.inputs = {{.shape = x, .fill = std::move(fill), .gradient = !ties}};
  o.outputs = {{.shape = y, .exact = true}, {.shape = y, .cotangent = false, .dtype = DType::i32}};
  o.reduction = kernel * kernel;
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    max_pool_forward(ex, out[0], out[1], in[0], kernel, stride, padding);
  };
  if (!ties)
    o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors& out,
                    const Tensors& dout) { max_pool_backward(ex, g[0], dout[0], out[1]); };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers best(at(y.numel()), -1e300), index(best.size());
    for (int64_t i = 0; i < n; ++i)
      for (int64_t a = 0; a < y[1]; ++a)
        for (int64_t b = 0; b < y[2]; ++b)
          for (int64_t e = 0; e < c; ++e)
            for (int64_t u = 0; u < kernel; ++u)
              for (int64_t v = 0; v < kernel; ++v) {
                const int64_t row = a * stride + u - padding, column = b * stride + v - padding;
                if (row < 0 || row >= h || column < 0 || column >= w) continue;
                const double value = in[0][at(((i * h + row) * w + column) * c + e)];
                const size_t to = at(((i * y[1] + a) * y[2] + b) * c + e);
                if (!(value > best[to])) continue;
                best[to] = value;
                index[to] = static_cast<double>(row * w + column);
              }
    return std::vector<Numbers>{best, index};
  };
  return o;
}

OpCase upsample(const std::string& name, const Shape& x, int64_t p, int64_t q) {
  const int64_t n = x[0], h = x[1], w = x[2], c = x[3];
  OpCase o;
  o.name = "upsample_nearest_" + name;
  o.inputs = {{.shape = x, .gradient = true}};
  o.outputs = {{.shape = {n, p, q, c}, .exact = true}};
  o.reduction = static_cast<double>(((p + h - 1) / h) * ((q + w - 1) / w));
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    upsample_nearest_forward(ex, out[0], in[0]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors&,
                  const Tensors& dout) { upsample_nearest_backward(ex, g[0], dout[0]); };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t a = 0; a < p; ++a)
        for (int64_t b = 0; b < q; ++b)
          for (int64_t e = 0; e < c; ++e)
            y.push_back(in[0][at(((i * h + a * h / p) * w + b * w / q) * c + e)]);
    return std::vector<Numbers>{y};
  };
  return o;
}

}  // namespace

std::vector<OpCase> pooling_cases() {
  return {
      global_pool("odd", {3, 5, 7, 6}),
      global_pool("wide", {2, 13, 9, 130}),
      max_pool("k3s2p1", {2, 7, 6, 5}, 3, 2, 1, distinct(0.03)),
      max_pool("k2s2", {2, 6, 5, 3}, 2, 2, 0, distinct(0.03)),
      max_pool("k3s1p1", {2, 5, 4, 3}, 3, 1, 1, distinct(0.03)),
      max_pool("ties", {2, 9, 7, 5}, 3, 2, 1, integers(-2, 1)),
      upsample("twice", {2, 3, 5, 4}, 6, 10),
      upsample("to_skip_size", {2, 3, 4, 3}, 5, 7),
      upsample("smaller", {2, 7, 5, 3}, 3, 4),
  };
}

}  // namespace realfake::testing
