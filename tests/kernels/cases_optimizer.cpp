#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

// Two parameter tensors of different sizes, the second without decay. Inputs per tensor: param,
// grad, state...
const Shape kFirst{7, 5}, kSecond{1031};

OpCase adamw(const std::string& name, int64_t step) {
  const AdamWParams p{.lr = 0.02, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.3};
  const double scale = 0.6;
  OpCase o;
  o.name = "adamw_step_" + name;
  for (const Shape& s : {kFirst, kSecond}) {
    o.inputs.push_back({.shape = s});
    o.inputs.push_back({.shape = s, .fill = normal(0.5)});
    o.inputs.push_back({.shape = s, .fill = step == 1 ? given({0}) : normal(0.3)});
    o.inputs.push_back({.shape = s, .fill = step == 1 ? given({0}) : uniform(0.01, 0.2)});
  }
  for (const int t : {0, 4})
    for (const int part : {0, 2, 3})
      o.outputs.push_back(
          {.shape = t ? kSecond : kFirst,
           .magnitude = part == 3 ? 0.03 : 0,  // squares: the largest is far above the rms
           .start = t + part});
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    adamw_step(ex, {{out[0], in[1], out[1], out[2], true}, {out[3], in[5], out[4], out[5], false}},
               p, step, scale);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    std::vector<Numbers> out;
    for (const size_t t : {size_t{0}, size_t{4}}) {
      Numbers param = in[t], m = in[t + 2], v = in[t + 3];
      for (size_t i = 0; i < param.size(); ++i) {
        const double g = in[t + 1][i] * scale;
        m[i] = p.beta1 * m[i] + (1 - p.beta1) * g;
        v[i] = p.beta2 * v[i] + (1 - p.beta2) * g * g;
        if (t == 0) param[i] -= p.lr * p.weight_decay * param[i];
        const double mhat = m[i] / (1 - std::pow(p.beta1, static_cast<double>(step)));
        const double vhat = v[i] / (1 - std::pow(p.beta2, static_cast<double>(step)));
        param[i] -= p.lr * mhat / (std::sqrt(vhat) + p.eps);
      }
      out.insert(out.end(), {param, m, v});
    }
    return out;
  };
  return o;
}

OpCase sgd(const std::string& name, int64_t step, bool nesterov, double momentum) {
  const SgdParams p{.lr = 0.05, .momentum = momentum, .weight_decay = 0.2, .nesterov = nesterov};
  const double scale = 0.7;
  OpCase o;
  o.name = "sgd_step_" + name;
  for (const Shape& s : {kFirst, kSecond})
    for (int i = 0; i < 3; ++i) o.inputs.push_back({.shape = s});
  for (const int t : {0, 3})
    for (const int part : {0, 2})
      o.outputs.push_back({.shape = t ? kSecond : kFirst, .start = t + part});
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    sgd_step(ex, {{out[0], in[1], out[1], true}, {out[2], in[4], out[3], false}}, p, step, scale);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    std::vector<Numbers> out;
    for (const size_t t : {size_t{0}, size_t{3}}) {
      Numbers param = in[t], buffer = in[t + 2];
      for (size_t i = 0; i < param.size(); ++i) {
        const double g = in[t + 1][i] * scale + (t == 0 ? p.weight_decay * param[i] : 0);
        buffer[i] = step == 1 ? g : p.momentum * buffer[i] + g;
        param[i] -= p.lr * (p.nesterov ? g + p.momentum * buffer[i] : buffer[i]);
      }
      out.insert(out.end(), {param, buffer});
    }
    return out;
  };
  return o;
}

OpCase global_norm_case() {
  OpCase o;
  o.name = "global_norm";
  o.inputs = {{.shape = kFirst}, {.shape = kSecond, .fill = normal(3)}, {.shape = {3, 5, 2}}};
  o.outputs = {{.shape = {1}}};
  o.reduction = 1100;
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    fill(ex, out[0], global_norm(ex, in));
  };
  o.reference = [](const std::vector<Numbers>& in) {
    double sum = 0;
    for (const Numbers& t : in)
      for (const double v : t) sum += v * v;
    return std::vector<Numbers>{{std::sqrt(sum)}};
  };
  return o;
}

OpCase ema() {
  OpCase o;
  o.name = "ema_update";
  o.inputs = {{.shape = kFirst}, {.shape = kFirst}, {.shape = kSecond}, {.shape = kSecond}};
  o.outputs = {{.shape = kFirst, .start = 0}, {.shape = kSecond, .start = 2}};
  o.forward = [](Exec& ex, const Tensors& out, const Tensors& in) {
    ema_update(ex, {out[0], out[1]}, {in[1], in[3]}, 0.75);
  };
  o.reference = [](const std::vector<Numbers>& in) {
    std::vector<Numbers> out{in[0], in[2]};
    for (size_t t = 0; t < 2; ++t)
      for (size_t i = 0; i < out[t].size(); ++i)
        out[t][i] = 0.75 * out[t][i] + 0.25 * in[2 * t + 1][i];
    return out;
  };
  return o;
}

}  // namespace

std::vector<OpCase> optimizer_cases() {
  return {adamw("first", 1),
          adamw("seventh", 7),
          sgd("first_nesterov", 1, true, 0.9),
          sgd("third_nesterov", 3, true, 0.9),
          sgd("third_momentum", 3, false, 0.8),
          sgd("plain", 2, false, 0),
          global_norm_case(),
          ema()};
}

}  // namespace realfake::testing
