#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

struct Sizes {
  int64_t batch, m, n, k;
};

// Gradients of a product are products: they exercise beta 0 (overwrite) and 1 (accumulate) as well.
OpCase gemm_case(const std::string& name, Sizes s, bool ta, bool tb, double alpha, double beta) {
  const auto shape = [&](int64_t r, int64_t c) {
    return s.batch ? Shape{s.batch, r, c} : Shape{r, c};
  };
  OpCase o;
  o.name = "gemm_" + name;
  o.inputs = {{.shape = ta ? shape(s.k, s.m) : shape(s.m, s.k),
               .gradient = true,
               .reduction = static_cast<double>(s.n)},
              {.shape = tb ? shape(s.n, s.k) : shape(s.k, s.n),
               .gradient = true,
               .reduction = static_cast<double>(s.m)}};
  if (beta != 0) o.inputs.push_back({.shape = shape(s.m, s.n)});
  o.outputs = {{.shape = shape(s.m, s.n), .start = beta != 0 ? 2 : -1}};
  o.reduction = static_cast<double>(s.k);
  o.library = true;
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    gemm(ex, out[0], in[0], in[1], ta, tb, alpha, beta);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                   const Tensors& dout) {
    const auto keep = [](const GradOut& grad) { return grad.accumulate() ? 1.0 : 0.0; };
    if (g[0].wanted()) {
      if (ta)
        gemm(ex, g[0].tensor, in[1], dout[0], tb, true, alpha, keep(g[0]));
      else
        gemm(ex, g[0].tensor, dout[0], in[1], false, !tb, alpha, keep(g[0]));
    }
    if (g[1].wanted()) {
      if (tb)
        gemm(ex, g[1].tensor, dout[0], in[0], true, ta, alpha, keep(g[1]));
      else
        gemm(ex, g[1].tensor, in[0], dout[0], !ta, false, alpha, keep(g[1]));
    }
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    const int64_t batch = std::max<int64_t>(1, s.batch);
    Numbers c(at(batch * s.m * s.n));
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t i = 0; i < s.m; ++i)
        for (int64_t j = 0; j < s.n; ++j) {
          double sum = 0;
          for (int64_t k = 0; k < s.k; ++k)
            sum += in[0][at(b * s.m * s.k + (ta ? k * s.m + i : i * s.k + k))] *
                   in[1][at(b * s.k * s.n + (tb ? j * s.k + k : k * s.n + j))];
          const int64_t to = (b * s.m + i) * s.n + j;
          c[at(to)] = alpha * sum + (beta != 0 ? beta * in[2][at(to)] : 0);
        }
    return std::vector<Numbers>{c};
  };
  return o;
}

// Small integers: sums are exact, so every order of summation must give the same bits.
OpCase gemm_exact() {
  OpCase o = gemm_case("integers", {0, 17, 13, 64}, false, true, 1, 0);
  for (Input& in : o.inputs) in.fill = integers(-4, 4);
  o.outputs[0].exact = true;
  return o;
}

// Inputs: x, w [, bias] [, y to add to].
OpCase linear(const std::string& name, const Shape& x, int64_t n, bool bias, bool accumulate) {
  const int64_t k = x[-1], rows = x.numel() / k;
  Shape y = x;
  y.set(-1, n);
  OpCase o;
  o.name = "linear_" + name;
  o.inputs = {{.shape = x, .gradient = true}, {.shape = {n, k}, .gradient = true}};
  const size_t bias_at = 2, y_at = bias ? 3 : 2;
  if (bias) o.inputs.push_back({.shape = {n}, .gradient = true});
  if (accumulate) o.inputs.push_back({.shape = y});
  o.outputs = {{.shape = y, .start = accumulate ? static_cast<int>(y_at) : -1}};
  o.reduction = static_cast<double>(std::max({k, n, rows}));
  o.library = true;
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    linear_forward(ex, out[0], in[0], in[1], bias ? in[bias_at] : kNone, accumulate);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                   const Tensors& dout) {
    linear_backward(ex, g[0], g[1], bias ? g[bias_at] : kNoGrad, dout[0], in[0], in[1]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers out(at(rows * n));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t j = 0; j < n; ++j) {
        double sum = bias ? in[bias_at][at(j)] : 0;
        if (accumulate) sum += in[y_at][at(r * n + j)];
        for (int64_t i = 0; i < k; ++i) sum += in[0][at(r * k + i)] * in[1][at(j * k + i)];
        out[at(r * n + j)] = sum;
      }
    return std::vector<Numbers>{out};
  };
  return o;
}

// Inputs: x, w, down, up [, bias].
OpCase lora(const std::string& name, const Shape& x, int64_t n, int64_t rank, bool bias) {
  const int64_t k = x[-1], rows = x.numel() / k;
  Shape y = x, xa = x;
  y.set(-1, n);
  xa.set(-1, rank);
  const double scale = 0.7;
  OpCase o;
  o.name = "lora_linear_" + name;
  o.inputs = {{.shape = x, .gradient = true},
              {.shape = {n, k}},
              {.shape = {rank, k}, .gradient = true},
              {.shape = {n, rank}, .gradient = true}};
  if (bias) o.inputs.push_back({.shape = {n}});
  o.outputs = {{.shape = y}, {.shape = xa, .cotangent = false}};
  o.reduction = static_cast<double>(std::max({k, n, rows}) * rank);
  o.library = true;
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    lora_linear_forward(ex, out[0], out[1], in[0], in[1], bias ? in[4] : kNone, in[2], in[3],
                        scale);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors& out,
                   const Tensors& dout) {
    lora_linear_backward(ex, g[0], g[2], g[3], dout[0], in[0], out[1], in[1], in[2], in[3], scale);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers out(at(rows * n)), low(at(rows * rank));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t a = 0; a < rank; ++a)
        for (int64_t i = 0; i < k; ++i)
          low[at(r * rank + a)] += in[0][at(r * k + i)] * in[2][at(a * k + i)];
      for (int64_t j = 0; j < n; ++j) {
        double sum = bias ? in[4][at(j)] : 0;
        for (int64_t i = 0; i < k; ++i) sum += in[0][at(r * k + i)] * in[1][at(j * k + i)];
        for (int64_t a = 0; a < rank; ++a)
          sum += scale * low[at(r * rank + a)] * in[3][at(j * rank + a)];
        out[at(r * n + j)] = sum;
      }
    }
    return std::vector<Numbers>{out, low};
  };
  return o;
}

}  // namespace

std::vector<OpCase> gemm_cases() {
  return with_strided({
      gemm_case("nn", {0, 7, 5, 9}, false, false, 1, 0),
      gemm_case("tn", {0, 7, 5, 9}, true, false, 1, 0),
      gemm_case("nt", {0, 7, 5, 9}, false, true, 1, 0),
      gemm_case("tt", {0, 7, 5, 9}, true, true, 1, 0),
      gemm_case("alpha_beta", {0, 6, 11, 3}, false, true, -0.5, 0.75),
      gemm_case("batch_nn", {3, 5, 7, 4}, false, false, 1, 0),
      gemm_case("batch_nt_beta", {2, 5, 7, 4}, false, true, 0.5, 1),
      gemm_case("batch_tn", {2, 5, 7, 4}, true, false, 1, 0),
      gemm_case("one_row", {0, 1, 33, 65}, false, true, 1, 0),
      gemm_case("one_column", {0, 33, 1, 65}, false, false, 1, 0),
      gemm_case("large", {0, 65, 67, 129}, false, true, 1, 0),
      gemm_exact(),
      linear("bias", {2, 5, 7}, 6, true, false),
      linear("plain", {2, 5, 7}, 6, false, false),
      linear("accumulate", {9, 5}, 3, true, true),
      linear("plain_accumulate", {9, 5}, 3, false, true),
      linear("wide", {2, 19, 65}, 33, true, false),
      lora("rank4_bias", {2, 5, 9}, 7, 4, true),
      lora("rank1", {11, 6}, 8, 1, false),
  });
}

}  // namespace realfake::testing
