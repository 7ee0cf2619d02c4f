#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

using Elementwise = std::function<double(double a, double b)>;

// y from one or two like-shaped inputs, value by value; an accumulating one starts from the last
// input.
OpCase pointwise(const std::string& name, const Shape& shape, int inputs, bool accumulates,
                 bool exact, std::function<void(Exec&, const Tensors&, const Tensors&)> forward,
                 Elementwise f) {
  OpCase o;
  o.name = name;
  for (int i = 0; i < inputs + (accumulates ? 1 : 0); ++i) o.inputs.push_back({.shape = shape});
  o.outputs = {{.shape = shape, .exact = exact, .start = accumulates ? inputs : -1}};
  o.in_place = !accumulates;
  o.forward = std::move(forward);
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(in[0].size());
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = f(in[0][i], inputs > 1 ? in[1][i] : 0) + (accumulates ? in[at(inputs)][i] : 0);
    return std::vector<Numbers>{y};
  };
  return o;
}

// v (N,C) broadcast over the middle of x; the gradient of v is sum_middle.
OpCase add_broadcast_case(const std::string& name, const Shape& x) {
  const int64_t n = x[0], c = x[-1], inner = x.numel() / (n * c);
  OpCase o;
  o.name = "add_broadcast_sum_middle_" + name;
  o.inputs = {{.shape = x, .gradient = true}, {.shape = {n, c}, .gradient = true}};
  o.outputs = {{.shape = x}};
  o.reduction = static_cast<double>(inner);
  o.in_place = true;
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    add_broadcast(ex, out[0], in[0], in[1]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors&,
                  const Tensors& dout) {
    accumulate_into(ex, g[0], dout[0]);
    sum_middle(ex, g[1], dout[0]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y = in[0];
    for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i / at(inner * c) * at(c) + i % at(c)];
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase scale_samples_case(const std::string& name, const Shape& x, bool accumulates) {
  const int64_t each = x.numel() / x[0];
  OpCase o;
  o.name = "scale_samples_" + name;
  o.inputs = {{.shape = x, .gradient = true}, {.shape = {x[0]}}};
  if (accumulates) o.inputs.push_back({.shape = x});
  o.outputs = {{.shape = x, .start = accumulates ? 2 : -1}};
  o.in_place = !accumulates;
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    scale_samples(ex, out[0], in[0], in[1], accumulates);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                  const Tensors& dout) {
    if (g[0].wanted()) scale_samples(ex, g[0].tensor, dout[0], in[1], g[0].accumulate());
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(in[0].size());
    for (size_t i = 0; i < y.size(); ++i)
      y[i] = in[0][i] * in[1][i / at(each)] + (accumulates ? in[2][i] : 0);
    return std::vector<Numbers>{y};
  };
  return o;
}

OpCase cast_case(const std::string& name, Fill fill, DType from, DType to, bool back_to_real) {
  OpCase o;
  o.name = "cast_" + name;
  o.inputs = {{.shape = {5, 13}, .fill = std::move(fill), .dtype = from}};
  o.outputs = {{.shape = {5, 13}, .dtype = to, .exact = true}};
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    if (!back_to_real) return cast(ex, out[0], in[0]);
    const Tensor half =
        ex.empty(in[0].shape(), to);  // T -> 16 bits -> T -> 16 bits: nothing more is lost
    cast(ex, half, in[0]);
    const Tensor wide = ex.empty(in[0].shape(), in[0].dtype());
    cast(ex, wide, half);
    cast(ex, out[0], wide);
  };
  return o;
}

// The bytes of a concat: two copies into column slices of one buffer, and two reads of them.
OpCase concat_case() {
  OpCase o;
  o.name = "copy_concat";
  o.inputs = {{.shape = {2, 3, 5, 7}, .gradient = true}, {.shape = {2, 3, 5, 4}, .gradient = true}};
  o.outputs = {{.shape = {2, 3, 5, 11}, .exact = true}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    copy(ex, out[0].columns(0, 7), in[0]);
    copy(ex, out[0].columns(7, 11), in[1]);
  };
  o.backward = [](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors&,
                  const Tensors& dout) {
    accumulate_into(ex, g[0], dout[0].columns(0, 7));
    accumulate_into(ex, g[1], dout[0].columns(7, 11));
  };
  return o;
}

}  // namespace

std::vector<OpCase> elementwise_cases() {
  const Shape s{3, 5, 7};
  std::vector<OpCase> cases = with_strided({
      pointwise(
          "fill", s, 1, false, true,
          [](Exec& ex, const Tensors& out, const Tensors&) { fill(ex, out[0], -1.75); },
          [](double, double) { return -1.75; }),
      pointwise(
          "copy", s, 1, false, true,
          [](Exec& ex, const Tensors& out, const Tensors& in) { copy(ex, out[0], in[0]); },
          [](double a, double) { return a; }),
      pointwise(
          "copy_large", {41, 1027}, 1, false, true,
          [](Exec& ex, const Tensors& out, const Tensors& in) { copy(ex, out[0], in[0]); },
          [](double a, double) { return a; }),
      pointwise(
          "add", s, 2, false, false,
          [](Exec& ex, const Tensors& out, const Tensors& in) { add(ex, out[0], in[0], in[1]); },
          [](double a, double b) { return a + b; }),
      pointwise(
          "add_weighted", {9, 1029}, 2, false, false,
          [](Exec& ex, const Tensors& out, const Tensors& in) {
            add(ex, out[0], in[0], in[1], 0.75, -2.5);
          },
          [](double a, double b) { return 0.75 * a - 2.5 * b; }),
      pointwise(
          "scale", s, 1, false, false,
          [](Exec& ex, const Tensors& out, const Tensors& in) { scale(ex, out[0], in[0], 0.3); },
          [](double a, double) { return 0.3 * a; }),
      pointwise(
          "scale_accumulate", s, 1, true, false,
          [](Exec& ex, const Tensors& out, const Tensors& in) {
            scale(ex, out[0], in[0], 0.3, true);
          },
          [](double a, double) { return 0.3 * a; }),
      pointwise(
          "multiply", s, 2, false, false,
          [](Exec& ex, const Tensors& out, const Tensors& in) {
            multiply(ex, out[0], in[0], in[1]);
          },
          [](double a, double b) { return a * b; }),
      pointwise(
          "multiply_accumulate", {31, 33}, 2, true, false,
          [](Exec& ex, const Tensors& out, const Tensors& in) {
            multiply(ex, out[0], in[0], in[1], true);
          },
          [](double a, double b) { return a * b; }),
      add_broadcast_case("image", {2, 5, 3, 7}),
      add_broadcast_case("tokens", {3, 11, 5}),
      add_broadcast_case("large", {2, 19, 17, 65}),
      scale_samples_case("image", {3, 5, 2, 7}, false),
      scale_samples_case("accumulate", {3, 5, 7}, true),
      concat_case(),
  });
  for (OpCase& c : cases)  // its contract does not allow it
    if (c.name.starts_with("multiply")) c.in_place = false;
  const Fill values = normal(3);
  for (const OpCase& c : {
           cast_case("f32_f16", values, DType::f32, DType::f16, false),
           cast_case("f32_bf16", values, DType::f32, DType::bf16, false),
           cast_case("f32_f16_f32", values, DType::f32, DType::f16, true),
           cast_case("f32_bf16_f32", values, DType::f32, DType::bf16, true),
           cast_case("f16_f32", values, DType::f16, DType::f32, false),
           cast_case("bf16_f32", values, DType::bf16, DType::f32, false),
           cast_case("f16_bf16", values, DType::f16, DType::bf16, false),
           cast_case("i64_f32", integers(-1000, 1000), DType::i64, DType::f32, false),
           cast_case("i32_f32", integers(-1000, 1000), DType::i32, DType::f32, false),
           cast_case("u8_f32", integers(0, 255), DType::u8, DType::f32, false),
       })
    cases.push_back(c);
  return cases;
}

}  // namespace realfake::testing
