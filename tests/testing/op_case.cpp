#include "tests/testing/op_case.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/emulator/emulator.h"
#include "kernels/pool.h"
#include "tests/testing/gradcheck.h"

namespace realfake::testing {

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kIntegerPoison = 77;

struct CaseData {
  std::vector<Numbers> in, cotangent, noise;
};

DType actual_dtype(DType dtype, DType real) {
  return dtype == DType::f32 ? real : dtype;
}

CaseData make_data(const OpCase& c) {
  const uint64_t seed = seed_of(c.name);
  CaseData data;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const Input& in = c.inputs[i];
    data.in.push_back(make_values(in.fill, in.shape, in.dtype, seed + i));
    data.noise.push_back(make_values(normal(1.5), in.shape, DType::f32, seed + 100 + i));
  }
  for (size_t i = 0; i < c.outputs.size(); ++i)
    data.cotangent.push_back(make_values(normal(), c.outputs[i].shape, DType::f32, seed + 200 + i));
  return data;
}

struct Made {
  Tensors in, out, dout;
  std::vector<Placed> placed_in, placed_out;
};

Made make_tensors(Exec& exec, const OpCase& c, const CaseData& data, DType real) {
  Made made;
  for (size_t i = 0; i < c.inputs.size(); ++i)
    made.placed_in.push_back(place(exec, data.in[i], c.inputs[i].shape,
                                   actual_dtype(c.inputs[i].dtype, real), c.inputs[i].strided));
  for (size_t i = 0; i < c.outputs.size(); ++i) {
    const Output& out = c.outputs[i];
    const Numbers poison(static_cast<size_t>(out.shape.numel()),
                         is_floating(out.dtype) ? kNan : kIntegerPoison);
    made.placed_out.push_back(
        place(exec, out.start >= 0 ? data.in[static_cast<size_t>(out.start)] : poison, out.shape,
              actual_dtype(out.dtype, real), out.strided));
    made.dout.push_back(place(exec, data.cotangent[i], out.shape, real, out.strided).view);
  }
  for (const Placed& p : made.placed_in) made.in.push_back(p.view);
  for (const Placed& p : made.placed_out) made.out.push_back(p.view);
  return made;
}

// What one run gave, and what it broke besides.
struct Results {
  std::vector<Numbers> out, grad;
  Findings broken;
};

// Runs forward, and backward in `mode` for all wanted gradients, or for input `only` alone.
Results run_case(Exec& exec, const OpCase& c, const CaseData& data, DType real, Grad mode,
                 int only = -1) {
  Results results;
  Made made = make_tensors(exec, c, data, real);
  c.forward(exec, made.out, made.in);
  exec.synchronize();
  for (const Tensor& out : made.out) results.out.push_back(download(exec, out));

  std::vector<GradOut> grads(c.inputs.size());
  std::vector<Placed> placed(c.inputs.size());
  if (c.backward) {
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      const Input& in = c.inputs[i];
      if (!in.gradient || (only >= 0 && static_cast<size_t>(only) != i)) continue;
      const Numbers before = mode == Grad::accumulate
                                 ? data.noise[i]
                                 : Numbers(static_cast<size_t>(in.shape.numel()), kNan);
      placed[i] = place(exec, before, in.shape, real, in.strided);
      grads[i] = {placed[i].view, mode};
    }
    c.backward(exec, grads, made.in, made.out, made.dout);
    exec.synchronize();
  }
  for (size_t i = 0; i < grads.size(); ++i) {
    results.grad.push_back(grads[i].wanted() ? download(exec, grads[i].tensor) : Numbers{});
    if (grads[i].wanted() && !placed[i].margins_intact(exec))
      results.broken.push_back(concat("gradient ", i, ": written between the strided rows"));
  }
  for (size_t i = 0; i < made.out.size(); ++i) {
    if (!made.placed_out[i].margins_intact(exec))
      results.broken.push_back(concat("output ", i, ": written between the strided rows"));
    if (c.backward && !same_bits(download(exec, made.out[i]), results.out[i]))
      results.broken.push_back(concat("output ", i, ": changed by backward"));
  }
  for (size_t i = 0; i < made.in.size(); ++i)
    if (!same_bits(download(exec, made.in[i]), data.in[i]) ||
        !made.placed_in[i].margins_intact(exec))
      results.broken.push_back(concat("input ", i, ": changed by the op"));
  return results;
}

Limit limit_of(const OpCase& c, double reduction, double magnitude, bool exact) {
  if (exact) return Limit::bits();
  Limit limit;
  limit.c = std::min(c.c, 8.0);
  limit.reduction = reduction > 0 ? reduction : c.reduction;
  limit.magnitude = magnitude;
  return limit;
}

// Guard bands are counted over a scope in which all tensors of the case come and go.
class GuardWatch {
 public:
  GuardWatch() : before_(Pool::guard_hits()), debug_(Pool::debug()) { Pool::set_debug(true); }
  ~GuardWatch() { Pool::set_debug(debug_); }
  GuardWatch(const GuardWatch&) = delete;
  GuardWatch& operator=(const GuardWatch&) = delete;
  size_t hits() const { return Pool::guard_hits() - before_; }

 private:
  size_t before_;
  bool debug_;
};

class Threads {
 public:
  explicit Threads(int n) : before_(omp_get_max_threads()) { omp_set_num_threads(n); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

// Collects findings; whatever an op throws is one too.
template <class F>
Findings collect(const OpCase& c, F&& body) {
  Findings findings;
  GuardWatch guard;
  try {
    body(findings);
  } catch (const std::exception& e) {
    findings.push_back(concat("threw: ", e.what()));
  }
  if (guard.hits() != 0)
    findings.push_back(concat(guard.hits(), " guard bytes around tensors overwritten"));
  for (std::string& f : findings) f = concat(c.name, ": ", f, "  [seed ", seed_of(c.name), "]");
  return findings;
}

void append(Findings& to, const Findings& from, const std::string& prefix) {
  for (const std::string& f : from) to.push_back(prefix + f);
}

void compare_outputs(Findings& findings, const OpCase& c, const std::vector<Numbers>& actual,
                     const std::vector<Numbers>& expected, const std::string& what, bool bits) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const Output& out = c.outputs[i];
    const bool exact = bits || out.exact || !is_floating(out.dtype);
    // Equal runs must agree in every bit, even where a case feeds NaN on purpose.
    if (bits && same_bits(actual[i], expected[i])) continue;
    const auto r =
        compare(actual[i], expected[i], limit_of(c, out.reduction, out.magnitude, exact));
    if (!r.ok) findings.push_back(concat(what, " output ", i, ": ", r.text));
  }
}

void compare_gradients(Findings& findings, const OpCase& c, const std::vector<Numbers>& actual,
                       const std::vector<Numbers>& expected, const std::string& what, bool bits,
                       double eps = 0) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (actual[i].empty() && !c.inputs[i].gradient) continue;
    Limit limit = limit_of(c, c.inputs[i].reduction, c.inputs[i].magnitude, bits);
    if (eps > 0) limit.eps = eps;
    const auto r = compare(actual[i], expected[i], limit);
    if (!r.ok) findings.push_back(concat(what, " gradient of input ", i, ": ", r.text));
  }
}

std::vector<Numbers> plus(std::vector<Numbers> a, const std::vector<Numbers>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t k = 0; k < a[i].size(); ++k) a[i][k] += b[i][k];
  return a;
}

Results truth_of(const OpCase& c, const CaseData& data) {
  return run_case(exec_of(Device::cpu), c, data, DType::f64, Grad::overwrite);
}

// What every executor is held to, in f32, against cpu f64.
Results check_against(Findings& findings, const OpCase& c, const CaseData& data, Exec& exec,
                      const Results& truth) {
  Results first = run_case(exec, c, data, DType::f32, Grad::overwrite);
  append(findings, first.broken, "");
  compare_outputs(findings, c, first.out, truth.out, "", false);
  if (c.backward) {
    compare_gradients(findings, c, first.grad, truth.grad, "overwritten", false);
    const Results added = run_case(exec, c, data, DType::f32, Grad::accumulate);
    append(findings, added.broken, "accumulating: ");
    compare_gradients(findings, c, added.grad, plus(truth.grad, data.noise), "accumulated", false);
  }
  const Results again = run_case(exec, c, data, DType::f32, Grad::overwrite);
  compare_outputs(findings, c, again.out, first.out, "second run,", true);
  if (c.backward) compare_gradients(findings, c, again.grad, first.grad, "second run,", true);
  if (c.in_place) {
    Made made = make_tensors(exec, c, data, DType::f32);
    made.out[0] = made.in[0];
    c.forward(exec, made.out, made.in);
    const Numbers here = download(exec, made.out[0]);
    if (!same_bits(here, first.out[0]))
      findings.push_back(concat("in place: ", compare(here, first.out[0], Limit::bits()).text));
  }
  return first;
}

}  // namespace

Findings check_gradients(const OpCase& c) {
  return collect(c, [&](Findings& findings) {
    Exec& exec = exec_of(Device::cpu);
    const CaseData data = make_data(c);
    const Results truth = truth_of(c, data);
    append(findings, truth.broken, "");
    const double eps = 4 * std::numeric_limits<double>::epsilon();
    const Results added = run_case(exec, c, data, DType::f64, Grad::accumulate);
    append(findings, added.broken, "accumulating: ");
    compare_gradients(findings, c, added.grad, plus(truth.grad, data.noise), "accumulated", false,
                      eps);

    // Thousands of small calls: starting threads for each would cost more than it saves.
    const Threads one(1);
    int wanted = 0;
    for (const Input& in : c.inputs) wanted += in.gradient;
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      if (!c.inputs[i].gradient) continue;
      const std::string what = concat("gradient of input ", i, ": ");
      if (wanted > 1) {
        const Results alone =
            run_case(exec, c, data, DType::f64, Grad::overwrite, static_cast<int>(i));
        Limit limit = limit_of(c, c.inputs[i].reduction, c.inputs[i].magnitude, false);
        limit.eps = eps;
        const auto r = compare(alone.grad[i], truth.grad[i], limit);
        if (!r.ok) findings.push_back(what + "wanted alone: " + r.text);
      }

      GradCheck options;
      options.step = c.step;
      options.seed = seed_of(c.name) + i;
      options.zero_allowed = c.inputs[i].zero_gradient;
      Comparison r;
      if (c.held_loss) {
        std::vector<Numbers> point = data.in;
        r = check_gradient([&] { return data.cotangent[0][0] * c.held_loss(point, data.in); },
                           [&](int64_t k) -> double& { return point[i][static_cast<size_t>(k)]; },
                           truth.grad[i], options);
      } else {
        Made made = make_tensors(exec, c, data, DType::f64);
        const auto loss = [&] {
          double sum = 0;
          for (size_t o = 0; o < c.outputs.size(); ++o) {
            const Output& out = c.outputs[o];
            if (out.start >= 0)
              made.out[o] = place(exec, data.in[static_cast<size_t>(out.start)], out.shape,
                                  actual_dtype(out.dtype, DType::f64), out.strided)
                                .view;
          }
          c.forward(exec, made.out, made.in);
          for (size_t o = 0; o < c.outputs.size(); ++o) {
            if (!c.outputs[o].cotangent) continue;
            const Tensor& y = made.out[o];
            const double* value = y.data<double>();
            const double* weight = data.cotangent[o].data();
            for (int64_t r = 0; r < y.rows(); ++r, value += y.row_stride())
              for (int64_t k = 0; k < y.columns(); ++k) sum += *weight++ * value[k];
          }
          return sum;
        };
        const Tensor& x = made.in[i];
        const int64_t columns = x.columns(), stride = x.row_stride();
        double* base = x.data<double>();
        r = check_gradient(
            loss, [&](int64_t k) -> double& { return base[k / columns * stride + k % columns]; },
            truth.grad[i], options);
      }
      if (!r.ok) findings.push_back(what + r.text);
    }
  });
}

Findings check_reference(const OpCase& c) {
  return collect(c, [&](Findings& findings) {
    const CaseData data = make_data(c);
    const Results truth = run_case(exec_of(Device::cpu), c, data, DType::f64, Grad::overwrite);
    append(findings, truth.broken, "");
    const std::vector<Numbers> expected = c.reference(data.in);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (expected[i].empty()) continue;
      const Output& out = c.outputs[i];
      Limit limit = limit_of(c, out.reduction, out.magnitude, !is_floating(out.dtype));
      limit.eps = 8 * std::numeric_limits<double>::epsilon();
      const auto r = compare(truth.out[i], expected[i], limit);
      if (!r.ok) findings.push_back(concat("output ", i, ": ", r.text));
    }
  });
}

Findings check_precision(const OpCase& c) {
  return collect(c, [&](Findings& findings) {
    const CaseData data = make_data(c);
    Exec& exec = exec_of(Device::cpu);
    const Results truth = truth_of(c, data);
    const Results first = check_against(findings, c, data, exec, truth);
    if (c.library) return;
    for (const int n : {1, 2, 3}) {
      const Threads threads(n);
      const Results other = run_case(exec, c, data, DType::f32, Grad::overwrite);
      const std::string what = concat(n, " threads,");
      compare_outputs(findings, c, other.out, first.out, what, true);
      if (c.backward) compare_gradients(findings, c, other.grad, first.grad, what, true);
    }
  });
}

Findings check_executor(const OpCase& c, Device device) {
  return collect(c, [&](Findings& findings) {
    const CaseData data = make_data(c);
    const Results truth = truth_of(c, data);
    check_against(findings, c, data, exec_of(device), truth);
  });
}

Findings check_emulated(const OpCase& c) {
  return collect(c, [&](Findings& findings) {
    const CaseData data = make_data(c);
    const Results truth = truth_of(c, data);
    const emulator::Order before = emulator::order();
    std::vector<Results> results;
    for (const auto order : {emulator::Order::ascending, emulator::Order::descending}) {
      emulator::set_order(order);
      Findings here;
      results.push_back(check_against(here, c, data, exec_of(Device::emulated), truth));
      append(findings, here,
             order == emulator::Order::ascending ? "ascending warps: " : "descending warps: ");
    }
    emulator::set_order(before);
    compare_outputs(findings, c, results[1].out, results[0].out, "the other warp order,", true);
    if (c.backward)
      compare_gradients(findings, c, results[1].grad, results[0].grad, "the other warp order,",
                        true);
  });
}

}  // namespace realfake::testing
