#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

OpCase combine(const std::string& name, const Shape& x) {
  const int64_t n = x[0], each = x.numel() / n;
  OpCase o;
  o.name = "combine_samples_" + name;
  o.inputs = {{.shape = x}, {.shape = x}, {.shape = {n}}, {.shape = {n}}};
  o.outputs = {{.shape = x}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    combine_samples(ex, out[0], in[0], in[1], in[2], in[3]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(in[0].size());
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = in[2][i / at(each)] * in[0][i] + in[3][i / at(each)] * in[1][i];
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase posterior(const std::string& name, const Shape& e, Fill fill) {
  const int64_t c = e[-1];
  Shape moments = e;
  moments.set(-1, 2 * c);
  const double factor = 0.18215;
  OpCase o;
  o.name = "posterior_sample_" + name;
  o.inputs = {{.shape = moments, .fill = std::move(fill), .gradient = true}, {.shape = e}};
  o.outputs = {{.shape = e}};
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    posterior_sample_forward(ex, out[0], in[0], in[1], factor);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                   const Tensors& dout) {
    posterior_sample_backward(ex, g[0], dout[0], in[0], in[1], factor);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers z(in[1].size());
    for (size_t i = 0; i < z.size(); ++i) {
      const size_t from = i / at(c) * at(2 * c) + i % at(c);
      z[i] = factor *
             (in[0][from] + std::exp(std::clamp(in[0][from + at(c)], -30.0, 20.0) / 2) * in[1][i]);
    }
    return std::vector<Numbers>{z};
  };
  return o;
}

OpCase guided(const std::string& name, const Shape& x, double guidance, bool noise) {
  Shape both = x;
  if (guidance != 1) both.set(0, 2 * x[0]);
  const double cx = 0.9, ce = -0.35, cn = noise ? 0.2 : 0;
  OpCase o;
  o.name = "guided_step_" + name;
  o.inputs = {{.shape = x}, {.shape = both}};
  if (noise) o.inputs.push_back({.shape = x});
  o.outputs = {{.shape = x}};
  o.in_place = true;
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    guided_step(ex, out[0], in[0], in[1], noise ? in[2] : kNone, guidance, cx, ce, cn);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y = in[0];
    const size_t half = y.size();
    for (size_t i = 0; i < half; ++i) {
      const double e =
          guidance == 1 ? in[1][i] : in[1][i] + guidance * (in[1][half + i] - in[1][i]);
      y[i] = cx * y[i] + ce * e + (noise ? cn * in[2][i] : 0);
    }
    return std::vector<Numbers>{y};
  };
  return o;
}

}  // namespace

std::vector<OpCase> diffusion_cases() {
  return {
      combine("odd", {3, 5, 3, 4}),
      combine("large", {2, 33, 31, 5}),
      posterior("odd", {2, 3, 5, 4}, normal(0.8)),
      posterior("clamped_below", {2, 3, 2}, given({0.5, -1, -35, 1, 2, 1, 0.3, 0.2})),
      guided("cfg", {2, 5, 3, 4}, 7.5, false),
      guided("cfg_noise", {3, 5, 3, 4}, 2, true),
      guided("no_guidance", {2, 17, 31, 4}, 1, false),
      guided("no_guidance_noise", {2, 5, 3, 4}, 1, true),
  };
}

}  // namespace realfake::testing
