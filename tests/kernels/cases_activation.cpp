#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

double gelu(double x) {
  return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
}
double activated(double x, Activation kind) {
  switch (kind) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return gelu(x);
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return x > 0 ? x : 0;
  }
  return 0;
}

OpCase activation(const std::string& name, const Shape& x, Activation kind, Fill fill = normal(2)) {
  OpCase o;
  o.name = "activation_" + name;
  o.inputs = {{.shape = x, .fill = fill, .gradient = true}};
  o.outputs = {{.shape = x, .exact = kind == Activation::relu}};
  o.in_place = true;
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    activation_forward(ex, out[0], in[0], kind);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                   const Tensors& dout) { activation_backward(ex, g[0], dout[0], in[0], kind); };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y;
    for (const double v : in[0]) y.push_back(activated(v, kind));
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase silu_large() {
  OpCase o = activation("silu_large", {37, 1025}, Activation::silu);
  o.inputs[0].magnitude =
      2;  // 38,000 normal cotangents reach 4 sigma; rounding is relative to the value
  return o;
}

OpCase geglu(const std::string& name, const Shape& y) {
  Shape x = y;
  x.set(-1, 2 * y[-1]);
  const int64_t d = y[-1];
  OpCase o;
  o.name = "geglu_" + name;
  o.inputs = {{.shape = x, .fill = normal(1.5), .gradient = true}};
  o.outputs = {{.shape = y}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    geglu_forward(ex, out[0], in[0]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                  const Tensors& dout) { geglu_backward(ex, g[0], dout[0], in[0]); };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers out(in[0].size() / 2);
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t row = i / at(d), k = i % at(d);
      out[i] = in[0][row * at(2 * d) + k] * gelu(in[0][row * at(2 * d) + at(d) + k]);
    }
    return std::vector<Numbers>{out};
  };
  return o;
}

OpCase softmax(const std::string& name, const Shape& x, Fill fill = normal(2)) {
  const int64_t d = x[-1];
  OpCase o;
  o.name = "softmax_" + name;
  o.inputs = {{.shape = x, .fill = fill, .gradient = true}};
  o.outputs = {{.shape = x}};
  o.reduction = static_cast<double>(d);
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    softmax_forward(ex, out[0], in[0]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors& out,
                  const Tensors& dout) { softmax_backward(ex, g[0], dout[0], out[0]); };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(in[0].size());
    for (size_t row = 0; row < y.size(); row += at(d)) {
      double sum = 0, top = -1e300;
      for (size_t k = 0; k < at(d); ++k) top = std::max(top, in[0][row + k]);
      for (size_t k = 0; k < at(d); ++k) sum += y[row + k] = std::exp(in[0][row + k] - top);
      for (size_t k = 0; k < at(d); ++k) y[row + k] /= sum;
    }
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase softmax_large_values() {
  OpCase o = softmax("d33_large_values", {6, 33}, normal(3, 500));
  o.inputs[0].magnitude = 0.25;  // peaked rows: a few values far above the rms of the tensor
  return o;
}

}  // namespace

std::vector<OpCase> activation_cases() {
  return with_strided({
      activation("silu", {3, 7, 5}, Activation::silu),
      activation("gelu", {3, 7, 5}, Activation::gelu),
      activation("quick_gelu", {3, 7, 5}, Activation::quick_gelu),
      activation("relu", {3, 7, 5}, Activation::relu, distinct(0.05)),
      silu_large(),
      activation("gelu_far", {2, 9}, Activation::gelu, given({-40, -9, -5, 0, 5, 9, 40, 1e-3, -3})),
      activation("silu_far", {2, 9}, Activation::silu,
                 given({-90, -20, -5, 0, 5, 20, 90, 1e-3, -3})),
      geglu("d5", {3, 7, 5}),
      geglu("d130", {11, 130}),
      softmax("d7", {2, 3, 7}),
      softmax("d1025", {5, 1025}),
      softmax_large_values(),
  });
}

}  // namespace realfake::testing
