#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

OpCase embedding(const std::string& name, const Shape& ids, int64_t v, int64_t d) {
  Shape y = Shape([&] {
    auto dims = ids.vec();
    dims.push_back(d);
    return dims;
  }());
  OpCase o;
  o.name = "embedding_" + name;
  o.inputs = {{.shape = {v, d}, .gradient = true},
              {.shape = ids, .fill = integers(0, static_cast<double>(v - 1)), .dtype = DType::i64}};
  o.outputs = {{.shape = y, .exact = true}};
  o.reduction = static_cast<double>(ids.numel());
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    embedding_forward(ex, out[0], in[0], in[1]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                  const Tensors& dout) { embedding_backward(ex, g[0], dout[0], in[1]); };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers out;
    for (const double id : in[1])
      for (int64_t k = 0; k < d; ++k) out.push_back(in[0][at(static_cast<int64_t>(id) * d + k)]);
    return std::vector<Numbers>{out};
  };
  return o;
}

OpCase timestep(const std::string& name, int64_t d, bool flip, double shift) {
  OpCase o;
  o.name = "timestep_embedding_" + name;
  const Numbers steps{0, 1, 17, 500, 999};
  o.inputs = {{.shape = {5}, .fill = given(steps), .dtype = DType::i64}};
  o.outputs = {{.shape = {5, d}}};
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    timestep_embedding(ex, out[0], in[0], flip, shift);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y;
    const int64_t half = d / 2;
    for (const double t : in[0])
      for (int64_t k = 0; k < d; ++k) {
        // diffusers rounds the angle to float at each step; at t = 999 that is 1e-4 of the result.
        const float exponent = static_cast<float>(-std::log(10000.0)) *
                               static_cast<float>(k % half) /
                               static_cast<float>(static_cast<double>(half) - shift);
        const auto frequency = static_cast<float>(std::exp(static_cast<double>(exponent)));
        const double angle = static_cast<double>(static_cast<float>(t) * frequency);
        const bool cosine = (k < half) == flip;
        y.push_back(cosine ? std::cos(angle) : std::sin(angle));
      }
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase positions(const std::string& name, const Shape& x) {
  OpCase o;
  o.name = "add_positions_sum_leading_" + name;
  o.inputs = {{.shape = x, .gradient = true}, {.shape = {x[1], x[2]}, .gradient = true}};
  o.outputs = {{.shape = x}};
  o.reduction = static_cast<double>(x[0]);
  o.in_place = true;
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    add_positions(ex, out[0], in[0], in[1]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors&,
                  const Tensors& dout) {
    accumulate_into(ex, g[0], dout[0]);
    if (g[1].wanted()) sum_leading(ex, g[1], dout[0]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y = in[0];
    for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i % in[1].size()];
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase gather(const std::string& name, const Shape& x) {
  const int64_t n = x[0], t = x[1], d = x[2];
  OpCase o;
  o.name = "gather_tokens_" + name;
  o.inputs = {{.shape = x, .gradient = true},
              {.shape = {n}, .fill = integers(0, static_cast<double>(t - 1)), .dtype = DType::i64}};
  o.outputs = {{.shape = {n, d}, .exact = true}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    gather_tokens_forward(ex, out[0], in[0], in[1]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                  const Tensors& dout) { gather_tokens_backward(ex, g[0], dout[0], in[1]); };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < d; ++k)
        y.push_back(in[0][at((i * t + static_cast<int64_t>(in[1][at(i)])) * d + k)]);
    return std::vector<Numbers>{y};
  };
  return o;
}

}  // namespace

std::vector<OpCase> embedding_cases() {
  return {
      embedding("tokens", {3, 7}, 5, 6), embedding("repeated", {64}, 3, 33),
      timestep("flip", 10, true, 0),     timestep("plain_shift1", 12, false, 1),
      timestep("d320", 320, true, 0),    positions("odd", {3, 7, 5}),
      positions("large", {4, 33, 257}),  gather("odd", {4, 7, 5}),
      gather("wide", {3, 5, 261}),
  };
}

}  // namespace realfake::testing
