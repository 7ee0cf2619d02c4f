#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

OpCase attention(const std::string& name, int64_t b, int64_t t, int64_t s, int64_t heads, int64_t d,
                 bool causal, double size = 1) {
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  const int64_t width = heads * d;
  OpCase o;
  o.name = "attention_" + name;
  o.inputs = {{.shape = {b, t, width}, .fill = normal(size), .gradient = true},
              {.shape = {b, s, width}, .fill = normal(size, 0.2), .gradient = true},
              {.shape = {b, s, width}, .gradient = true}};
  o.outputs = {{.shape = {b, t, width}},
               {.shape = {b, heads, t}, .cotangent = false, .dense = true}};
  // A gradient passes through the scores, the probabilities and one more product.
  o.reduction = static_cast<double>(std::max(s, t) + d);
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    attention_forward(ex, out[0], out[1], in[0], in[1], in[2], heads, scale, causal);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                   const Tensors& dout) {
    attention_backward(ex, g[0], g[1], g[2], dout[0], in[0], in[1], in[2], out[0], out[1], heads,
                       scale, causal);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(at(b * t * width)), lse(at(b * heads * t));
    for (int64_t i = 0; i < b; ++i)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t q = 0; q < t; ++q) {
          const int64_t seen = causal ? q + 1 : s;
          Numbers p(at(seen));
          double top = -1e300, sum = 0;
          for (int64_t k = 0; k < seen; ++k) {
            for (int64_t e = 0; e < d; ++e)
              p[at(k)] += scale * in[0][at((i * t + q) * width + h * d + e)] *
                          in[1][at((i * s + k) * width + h * d + e)];
            top = std::max(top, p[at(k)]);
          }
          for (double& v : p) sum += v = std::exp(v - top);
          lse[at((i * heads + h) * t + q)] = top + std::log(sum);
          for (int64_t k = 0; k < seen; ++k)
            for (int64_t e = 0; e < d; ++e)
              y[at((i * t + q) * width + h * d + e)] +=
                  p[at(k)] / sum * in[2][at((i * s + k) * width + h * d + e)];
        }
    return std::vector<Numbers>{y, lse};
  };
  return o;
}

// One key takes all the weight whatever the scores: dq and dk vanish.
OpCase one_key() {
  OpCase o = attention("one_key", 2, 5, 1, 2, 3, false);
  for (const size_t i : {size_t{0}, size_t{1}}) {
    o.inputs[i].zero_gradient = true;
    o.inputs[i].magnitude = 1;
  }
  return o;
}

// Scores of size 16 and more are rounded at that size before the exponential.
OpCase large_scores() {
  OpCase o = attention("large_scores", 2, 6, 9, 2, 4, false, 4);
  for (Input& in : o.inputs) in.magnitude = 4;
  o.outputs[0].magnitude = 4;
  return o;
}

// q, k, v as column slices of one buffer, as the networks hold them.
OpCase packed() {
  const int64_t b = 2, t = 9, heads = 2, d = 5, width = heads * d;
  const double scale = 0.4;
  OpCase o;
  o.name = "attention_packed_qkv";
  o.inputs = {{.shape = {b, t, 3 * width}, .gradient = true}};
  o.outputs = {{.shape = {b, t, width}},
               {.shape = {b, heads, t}, .cotangent = false, .dense = true}};
  o.reduction = static_cast<double>(t + d);
  const auto third = [](const Tensor& x, int64_t i) {
    return x.columns(i * width, (i + 1) * width);
  };
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    attention_forward(ex, out[0], out[1], third(in[0], 0), third(in[0], 1), third(in[0], 2), heads,
                      scale, false);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                   const Tensors& dout) {
    const Tensor& dx = g[0].tensor;
    attention_backward(ex, {third(dx, 0), g[0].mode}, {third(dx, 1), g[0].mode},
                       {third(dx, 2), g[0].mode}, dout[0], third(in[0], 0), third(in[0], 1),
                       third(in[0], 2), out[0], out[1], heads, scale, false);
  };
  return o;
}

}  // namespace

std::vector<OpCase> attention_cases() {
  return with_strided({
      attention("self", 2, 7, 7, 3, 5, false),
      attention("causal", 2, 7, 7, 3, 5, true),
      attention("cross", 2, 5, 11, 2, 8, false),
      one_key(),
      attention("causal_77", 1, 77, 77, 2, 9, true),
      attention("d40", 2, 35, 33, 2, 40, false),
      attention("d64", 1, 66, 77, 2, 64, false),
      attention("d160", 1, 5, 67, 1, 160, false),
      large_scores(),
      packed(),
  });
}

}  // namespace realfake::testing
