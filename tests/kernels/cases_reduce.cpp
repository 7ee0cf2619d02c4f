#include "tests/kernels/cases.h"

#include <limits>

namespace realfake::testing {

namespace {

// The gradient of a bias: forward is the addition it belongs to.
OpCase column_sum_case(const std::string& name, const Shape& x) {
  const int64_t c = x[-1], rows = x.numel() / c;
  OpCase o;
  o.name = "column_sum_" + name;
  o.inputs = {{.shape = {1, c}, .gradient = true, .dense = true}};
  o.outputs = {{.shape = {1, rows, c}}};
  o.reduction = static_cast<double>(rows);
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    fill(ex, out[0], 0.5);
    add_broadcast(ex, out[0], out[0], in[0]);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors&, const Tensors&,
                   const Tensors& dout) {
    if (g[0].wanted()) column_sum(ex, {g[0].tensor.reshape({c}), g[0].mode}, dout[0]);
  };
  return o;
}

OpCase reduction(const std::string& name, const Shape& x, Fill fill, void (*op)(Exec&, Out, In),
                 double (*step)(double sum, double v)) {
  OpCase o;
  o.name = name;
  o.inputs = {{.shape = x, .fill = std::move(fill)}};
  o.outputs = {{.shape = {1}}};
  o.reduction = static_cast<double>(x.numel());
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) { op(ex, out[0], in[0]); };
  o.reference = [=](const std::vector<Numbers>& in) {
    double sum = 0;
    for (const double v : in[0]) sum = step(sum, v);
    return std::vector<Numbers>{{sum}};
  };
  return o;
}

OpCase nonfinite(const std::string& name, const Shape& x, Numbers list, double count,
                 double first) {
  OpCase o;
  o.name = "count_nonfinite_" + name;
  o.inputs = {{.shape = x, .fill = given(std::move(list))}};
  o.outputs = {{.shape = {2}, .dtype = DType::i64}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    count_nonfinite(ex, out[0], in[0]);
  };
  o.reference = [=](const std::vector<Numbers>&) { return std::vector<Numbers>{{count, first}}; };
  return o;
}

OpCase argmax(const std::string& name, const Shape& x, Fill fill) {
  const int64_t d = x[-1], rows = x.numel() / d;
  OpCase o;
  o.name = "argmax_rows_" + name;
  o.inputs = {{.shape = x, .fill = std::move(fill)}};
  o.outputs = {{.shape = {rows}, .dtype = DType::i64}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    argmax_rows(ex, out[0], in[0]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers index;
    for (int64_t r = 0; r < rows; ++r) {
      int64_t best = 0;
      for (int64_t k = 1; k < d; ++k)
        if (in[0][at(r * d + k)] > in[0][at(r * d + best)]) best = k;
      index.push_back(static_cast<double>(best));
    }
    return std::vector<Numbers>{index};
  };
  return o;
}

double plus(double sum, double v) {
  return sum + v;
}
double square(double sum, double v) {
  return sum + v * v;
}
double largest(double sum, double v) {
  return std::max(sum, std::abs(v));
}

}  // namespace

std::vector<OpCase> reduce_cases() {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const Fill above_zero =
      normal(1, 0.8);  // a sum near 0 would have no relative accuracy to ask for
  return join(
      {with_strided({
           column_sum_case("odd", {7, 5, 3, 6}),
           column_sum_case("tall", {1237, 5}),
           column_sum_case("wide", {9, 1031}),
       }),
       {
           reduction("sum_all", {3, 5, 7}, above_zero, sum_all, plus),
           reduction("sum_all_large", {131, 257}, above_zero, sum_all, plus),
           reduction("sum_squares", {3, 5, 7}, normal(2), sum_squares, square),
           reduction("sum_squares_large", {131, 257}, normal(2), sum_squares, square),
           reduction("max_abs", {3, 5, 7}, normal(2), max_abs, largest),
           reduction("max_abs_large", {131, 257}, normal(2), max_abs, largest),
           nonfinite("none", {3, 5}, {1, 2, -3}, 0, -1),
           nonfinite("three", {5, 7}, {1,    2, 3, 4, 5, 6, 7, 8, nan, 1, 1, 1, inf, 1, 1, 1, 1, 1,
                                       -inf, 1, 1, 1, 1, 1, 1, 1, 1,   1, 1, 1, 1,   1, 1, 1, 1},
                     3, 8),
           argmax("odd", {5, 7}, normal()),
           argmax("ties", {9, 33}, integers(-2, 2)),
           argmax("wide", {3, 1025}, normal()),
       }});
}

}  // namespace realfake::testing
