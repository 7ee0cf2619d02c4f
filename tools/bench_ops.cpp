// The ops that `bench --op` times: how a call is made from the letters of its shape, and the shapes
// of SD 1.5 (batch 2: classifier-free guidance) and ResNet-50 at which they run.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/base/file.h"
#include "kernels/convolution.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/normalization.h"
#include "kernels/optimizer.h"
#include "tools/bench.h"

namespace realfake::bench {
namespace {

constexpr DType f32 = DType::f32;

GradOut overwrite(const Tensor& t) {
  return {t, Grad::overwrite};
}

double count_of(const Shape& shape) {
  return static_cast<double>(shape.numel());
}

// Ops without a cost function of their own: floats moved per element, and operations.
OpCost pointwise(const Shape& shape, double floats, double flops) {
  return {count_of(shape) * floats * 4, count_of(shape) * flops};
}

// Weights that keep the outputs near unit scale.
Tensor weights(Exec& ex, const Shape& shape, int64_t fan_in, uint64_t seed) {
  const Tensor w = random_tensor(ex, shape, seed);
  scale(ex, w, w, 1 / std::sqrt(static_cast<double>(fan_in)));
  return w;
}

enum class Pass { forward, data, weight };

Work conv2d(Exec& ex, const Numbers& s, Pass pass) {
  const int64_t n = s[0], h = s[1], w = s[2], c = s[3], k = s[4], r = s[5], stride = s[6];
  require(r < 4096 && stride < 4096, "expected a window and a stride below 4096");
  const ConvParams p = ConvParams::same(static_cast<int>(r), static_cast<int>(stride));
  const Shape y{n, conv_out(h, p.pad_top, p.pad_bottom, r, p.stride),
                conv_out(w, p.pad_left, p.pad_right, r, p.stride), k};
  const Tensor x = random_tensor(ex, {n, h, w, c}, 1), f = weights(ex, {k, r, r, c}, r * r * c, 2);
  const OpCost cost = conv2d_cost(x.shape(), f.shape(), p, f32);
  if (pass == Pass::forward) {
    const Tensor bias = random_tensor(ex, {k}, 3), out = ex.empty(y);
    return {cost, [=, &ex] { conv2d_forward(ex, out, x, f, bias, p); }, {out}};
  }
  const Tensor dy = random_tensor(ex, y, 3);
  const Tensor out = ex.empty(pass == Pass::data ? x.shape() : f.shape());
  if (pass == Pass::data)
    return {cost, [=, &ex] { conv2d_backward_data(ex, overwrite(out), dy, f, p); }, {out}};
  return {cost, [=, &ex] { conv2d_backward_weight(ex, overwrite(out), dy, x, p); }, {out}};
}

Work linear(Exec& ex, const Numbers& s) {
  const int64_t m = s[0], k = s[1], n = s[2];
  const Tensor x = random_tensor(ex, {m, k}, 1), w = weights(ex, {n, k}, k, 2),
               bias = random_tensor(ex, {n}, 3), y = ex.empty({m, n});
  return {gemm_cost(1, m, n, k, f32), [=, &ex] { linear_forward(ex, y, x, w, bias); }, {y}};
}

Work group_norm_silu(Exec& ex, const Numbers& s, bool backward) {
  const int64_t n = s[0], c = s[3], groups = s[4];
  const Tensor x = random_tensor(ex, {n, s[1], s[2], c}, 1), gamma = random_tensor(ex, {c}, 2),
               beta = random_tensor(ex, {c}, 3), y = ex.empty(x.shape()),
               mean = ex.empty({n, groups}), rstd = ex.empty({n, groups});
  const auto forward = [=, &ex] {
    group_norm_forward(ex, y, mean, rstd, x, gamma, beta, groups, 1e-5, true);
  };
  const OpCost cost = group_norm_cost(x.shape(), f32, backward);
  if (!backward) return {cost, forward, {y}};
  forward();
  const Tensor dy = random_tensor(ex, x.shape(), 4), dgamma = ex.empty({c}), dbeta = ex.empty({c});
  return {cost,
          [=, &ex] {
            group_norm_backward(ex, overwrite(y), overwrite(dgamma), overwrite(dbeta), dy, x, mean,
                                rstd, gamma, beta, groups, true);
          },
          {y, dgamma, dbeta}};
}

Work layer_norm(Exec& ex, const Numbers& s, bool backward) {
  const int64_t m = s[0], d = s[1];
  const Tensor x = random_tensor(ex, {m, d}, 1), gamma = random_tensor(ex, {d}, 2),
               beta = random_tensor(ex, {d}, 3), y = ex.empty({m, d}), mean = ex.empty({m}),
               rstd = ex.empty({m});
  const auto forward = [=, &ex] { layer_norm_forward(ex, y, mean, rstd, x, gamma, beta, 1e-5); };
  const OpCost cost = layer_norm_cost(x.shape(), f32, backward);
  if (!backward) return {cost, forward, {y}};
  forward();
  const Tensor dy = random_tensor(ex, {m, d}, 4), dgamma = ex.empty({d}), dbeta = ex.empty({d});
  return {cost,
          [=, &ex] {
            layer_norm_backward(ex, overwrite(y), overwrite(dgamma), overwrite(dbeta), dy, x, mean,
                                rstd, gamma);
          },
          {y, dgamma, dbeta}};
}

Work batch_norm_relu(Exec& ex, const Numbers& s) {
  const int64_t c = s[3];
  const Tensor x = random_tensor(ex, {s[0], s[1], s[2], c}, 1), gamma = random_tensor(ex, {c}, 2),
               beta = random_tensor(ex, {c}, 3), y = ex.empty(x.shape()), mean = ex.empty({c}),
               rstd = ex.empty({c}), running_mean = ex.zeros({c}), running_var = ex.full({c}, 1);
  return {batch_norm_cost(x.shape(), f32, false),
          [=, &ex] {
            batch_norm_forward(ex, y, mean, rstd, running_mean, running_var, x, gamma, beta,
                               Tensor(), 1e-5, 0.1, true);
          },
          {y}};
}

Work attention(Exec& ex, const Numbers& s, bool backward) {
  const int64_t b = s[0], t = s[1], n = s[2], heads = s[3], d = s[4];
  const Tensor q = random_tensor(ex, {b, t, heads * d}, 1),
               k = random_tensor(ex, {b, n, heads * d}, 2),
               v = random_tensor(ex, {b, n, heads * d}, 3), o = ex.empty(q.shape()),
               lse = ex.empty({b, heads, t});
  const double factor = 1 / std::sqrt(static_cast<double>(d));
  const auto forward = [=, &ex] { attention_forward(ex, o, lse, q, k, v, heads, factor, false); };
  const OpCost cost = attention_cost(b, t, n, heads, d, f32, backward);
  if (!backward) return {cost, forward, {o}};
  forward();
  const Tensor grad = random_tensor(ex, q.shape(), 4), dq = ex.empty(q.shape()),
               dk = ex.empty(k.shape()), dv = ex.empty(v.shape());
  return {cost,
          [=, &ex] {
            attention_backward(ex, overwrite(dq), overwrite(dk), overwrite(dv), grad, q, k, v, o,
                               lse, heads, factor, false);
          },
          {dq, dk, dv}};
}

Work softmax(Exec& ex, const Numbers& s) {
  const Tensor x = random_tensor(ex, {s[0], s[1]}, 1), y = ex.empty(x.shape());
  return {pointwise(x.shape(), 2, 5), [=, &ex] { softmax_forward(ex, y, x); }, {y}};
}

Work geglu(Exec& ex, const Numbers& s) {
  const Tensor x = random_tensor(ex, {s[0], 2 * s[1]}, 1), y = ex.empty({s[0], s[1]});
  return {pointwise(y.shape(), 3, 6), [=, &ex] { geglu_forward(ex, y, x); }, {y}};
}

Work silu(Exec& ex, const Numbers& s) {
  const Tensor x = random_tensor(ex, {s[0], s[1]}, 1), y = ex.empty(x.shape());
  return {activation_cost(x.shape(), f32, false),
          [=, &ex] { activation_forward(ex, y, x, Activation::silu); },
          {y}};
}

// Reads parameter, gradient and two moments, writes all but the gradient.
Work adamw(Exec& ex, const Numbers& s) {
  const Shape shape{s[0]};
  const AdamWTensor t{random_tensor(ex, shape, 1), random_tensor(ex, shape, 2), ex.zeros(shape),
                      ex.zeros(shape)};
  return {pointwise(shape, 7, 15), [=, &ex] { adamw_step(ex, {t}, {}, 1, 1); }, {t.param}};
}

Work copy_rows(Exec& ex, const Numbers& s) {
  const Tensor x = random_tensor(ex, {s[0], s[1]}, 1), y = ex.empty(x.shape());
  return {pointwise(x.shape(), 2, 0), [=, &ex] { copy(ex, y, x); }, {y}};
}

template <class F, class Flag>
auto with(F function, Flag flag) {
  return [=](Exec& ex, const Numbers& s) { return function(ex, s, flag); };
}

}  // namespace

const std::vector<Op>& ops() {
  static const std::string image = "N,H,W,C,K,window,stride";
  static const std::vector<Op> list = {
      {"conv2d",
       image,
       {{2, 64, 64, 320, 320, 3, 1},
        {2, 32, 32, 640, 640, 3, 1},
        {2, 16, 16, 1280, 1280, 3, 1},
        {2, 64, 64, 320, 320, 3, 2},
        {8, 56, 56, 64, 64, 3, 1}},
       with(&conv2d, Pass::forward)},
      {"conv2d_backward_data",
       image,
       {{2, 64, 64, 320, 320, 3, 1}, {8, 56, 56, 64, 64, 3, 1}},
       with(&conv2d, Pass::data)},
      {"conv2d_backward_weight",
       image,
       {{2, 64, 64, 320, 320, 3, 1}, {8, 56, 56, 64, 64, 3, 1}},
       with(&conv2d, Pass::weight)},
      {"linear",
       "M,K,N",
       {{8192, 320, 320}, {8192, 320, 2560}, {2048, 640, 640}, {512, 1280, 10240}, {154, 768, 320}},
       &linear},
      {"group_norm_silu",
       "N,H,W,C,groups",
       {{2, 64, 64, 320, 32}, {2, 16, 16, 1280, 32}, {1, 256, 256, 128, 32}},
       with(&group_norm_silu, false)},
      {"group_norm_silu_backward",
       "N,H,W,C,groups",
       {{2, 64, 64, 320, 32}},
       with(&group_norm_silu, true)},
      {"layer_norm", "M,D", {{8192, 320}, {512, 1280}}, with(&layer_norm, false)},
      {"layer_norm_backward", "M,D", {{8192, 320}}, with(&layer_norm, true)},
      {"batch_norm_relu", "N,H,W,C", {{8, 56, 56, 64}, {8, 14, 14, 1024}}, &batch_norm_relu},
      {"attention",
       "B,T,S,heads,D",
       {{2, 4096, 4096, 8, 40}, {2, 4096, 77, 8, 40}, {2, 1024, 1024, 8, 80}, {8, 77, 77, 12, 64}},
       with(&attention, false)},
      {"attention_backward",
       "B,T,S,heads,D",
       {{2, 1024, 1024, 8, 40}, {2, 1024, 1024, 8, 80}},
       with(&attention, true)},
      {"softmax", "M,D", {{4096, 4096}}, &softmax},
      {"geglu", "M,D", {{8192, 1280}, {2048, 2560}}, &geglu},
      {"silu", "M,D", {{8192, 320}}, &silu},
      {"adamw", "P", {{797184}, {16777216}}, &adamw},
      {"copy", "M,D", {{8192, 320}, {65536, 512}}, &copy_rows},
  };
  return list;
}

size_t Op::rank() const {
  return 1 + static_cast<size_t>(std::count(letters.begin(), letters.end(), ','));
}

Numbers parse_shape(const Op& op, const std::string& text) {
  const auto refuse = [&] {
    throw UsageError(concat("--shape is '", printable(text), "', expected ", op.rank(),
                            " numbers of at least 1 for ", op.name, ", ", op.letters, ", e.g. ",
                            shape_text(op.shapes.front())));
  };
  Numbers shape;
  const char *at = text.data(), *end = at + text.size();
  while (at < end) {
    int64_t v = 0;
    const auto [next, error] = std::from_chars(at, end, v);
    if (error != std::errc() || v < 1 || v > int64_t{1} << 31) refuse();
    shape.push_back(v);
    if (next < end && *next != 'x' && *next != ',') refuse();
    if (next + 1 == end) refuse();  // a separator and nothing behind it
    at = next + (next < end);
  }
  if (shape.size() != op.rank()) refuse();
  return shape;
}

std::string shape_text(const Numbers& shape) {
  std::string text;
  for (const int64_t v : shape) text += (text.empty() ? "" : "x") + std::to_string(v);
  return text;
}

double Roof::seconds(const OpCost& cost) const {
  return std::max(cost.bytes / (copy_gb_s * 1e9), cost.flops / (gemm_gflop_s * 1e9));
}

Roof measure_roof(Exec& ex) {
  // Far beyond the caches; on the emulator a call is a loop over fibres, so little must do.
  const bool emulated = ex.device() == Device::emulated;
  const Shape large{emulated ? 1 << 18 : ex.device() == Device::cuda ? 1 << 28 : 1 << 25};
  const int64_t side = emulated ? 512 : ex.device() == Device::cuda ? 8192 : 2048;
  Roof roof;
  {
    const Tensor from = ex.full(large, 1), to = ex.empty(large);
    const Times t = measure(ex, 7, 1, [&] { copy(ex, to, from); });
    roof.copy_gb_s = 8 * count_of(large) / t.min() / 1e9;
  }
  const Tensor a = random_tensor(ex, {side, side}, 1), b = random_tensor(ex, {side, side}, 2),
               c = ex.empty({side, side});
  const Times t = measure(ex, 7, 1, [&] { gemm(ex, c, a, b); });
  roof.gemm_gflop_s = gemm_cost(1, side, side, side, f32).flops / t.min() / 1e9;
  return roof;
}

}  // namespace realfake::bench
