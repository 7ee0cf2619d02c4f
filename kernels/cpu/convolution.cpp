#include <omp.h>

#include <algorithm>
#include <array>
#include <dnnl.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "kernels/backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {
namespace {

enum class Pass : int64_t { forward, forward_bias, backward_data, backward_weight };

struct Geometry {
  Geometry(In x, In y, In w, const ConvParams& params)
      : n(x.dim(0)),
        h(x.dim(1)),
        w(x.dim(2)),
        c(x.dim(3)),
        p(y.dim(1)),
        q(y.dim(2)),
        k(y.dim(3)),
        r(w.dim(1)),
        s(w.dim(2)),
        params(params) {}
  bool pointwise() const { return r == 1 && s == 1 && unpadded(); }
  bool unpadded() const {
    return params.pad_top == 0 && params.pad_bottom == 0 && params.pad_left == 0 &&
           params.pad_right == 0;
  }
  bool empty() const { return n == 0 || c == 0 || k == 0; }
  int64_t n, h, w, c, p, q, k, r, s;
  ConvParams params;
};

// ---- double (and the one float case below): plain loops
// ---------------------------------------------

// Taps of one axis that fall inside: i * stride + tap - pad in [0, size).
struct Taps {
  Taps(int64_t out, int stride, int pad, int64_t kernel, int64_t size)
      : first(out * stride - pad),
        begin(std::max<int64_t>(0, -first)),
        end(std::min(kernel, size - first)) {}
  int64_t first, begin, end;
};

template <class T>
void forward_loops(T* y, const T* x, const T* w, const T* bias, const Geometry& g) {
  parallel_for(g.n * g.p, grain_of(g.q * g.k * g.r * g.s * g.c), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t q = 0; q < g.q; ++q) {
        const Taps tr(row % g.p, g.params.stride, g.params.pad_top, g.r, g.h);
        const Taps ts(q, g.params.stride, g.params.pad_left, g.s, g.w);
        T* to = y + (row * g.q + q) * g.k;
        for (int64_t k = 0; k < g.k; ++k) {
          T sum = bias ? bias[k] : T(0);
          for (int64_t r = tr.begin; r < tr.end; ++r)
            for (int64_t s = ts.begin; s < ts.end; ++s) {
              const T* px = x + ((row / g.p * g.h + tr.first + r) * g.w + ts.first + s) * g.c;
              const T* pw = w + ((k * g.r + r) * g.s + s) * g.c;
#pragma omp simd reduction(+ : sum)
              for (int64_t c = 0; c < g.c; ++c) sum += px[c] * pw[c];
            }
          to[k] = sum;
        }
      }
  });
}

// One sample per task: its rows of dx are written by nobody else.
template <class T>
void backward_data_loops(T* dx, const T* dy, const T* w, const Geometry& g, bool accumulate) {
  parallel_for(g.n, grain_of(g.p * g.q * g.k * g.r * g.s * g.c), [&](int64_t begin, int64_t end) {
    if (!accumulate) std::fill(dx + begin * g.h * g.w * g.c, dx + end * g.h * g.w * g.c, T(0));
    for (int64_t row = begin * g.p; row < end * g.p; ++row)
      for (int64_t q = 0; q < g.q; ++q) {
        const Taps tr(row % g.p, g.params.stride, g.params.pad_top, g.r, g.h);
        const Taps ts(q, g.params.stride, g.params.pad_left, g.s, g.w);
        for (int64_t k = 0; k < g.k; ++k) {
          const T v = dy[(row * g.q + q) * g.k + k];
          for (int64_t r = tr.begin; r < tr.end; ++r)
            for (int64_t s = ts.begin; s < ts.end; ++s) {
              T* to = dx + ((row / g.p * g.h + tr.first + r) * g.w + ts.first + s) * g.c;
              const T* pw = w + ((k * g.r + r) * g.s + s) * g.c;
#pragma omp simd
              for (int64_t c = 0; c < g.c; ++c) to[c] += v * pw[c];
            }
        }
      }
  });
}

// One output channel per task.
template <class T>
void backward_weight_loops(T* dw, const T* dy, const T* x, const Geometry& g, bool accumulate) {
  const int64_t filter = g.r * g.s * g.c;
  parallel_for(g.k, grain_of(g.n * g.p * g.q * filter), [&](int64_t begin, int64_t end) {
    if (!accumulate) std::fill(dw + begin * filter, dw + end * filter, T(0));
    for (int64_t row = 0; row < g.n * g.p; ++row)
      for (int64_t q = 0; q < g.q; ++q) {
        const Taps tr(row % g.p, g.params.stride, g.params.pad_top, g.r, g.h);
        const Taps ts(q, g.params.stride, g.params.pad_left, g.s, g.w);
        for (int64_t k = begin; k < end; ++k) {
          const T v = dy[(row * g.q + q) * g.k + k];
          for (int64_t r = tr.begin; r < tr.end; ++r)
            for (int64_t s = ts.begin; s < ts.end; ++s) {
              const T* px = x + ((row / g.p * g.h + tr.first + r) * g.w + ts.first + s) * g.c;
              T* to = dw + ((k * g.r + r) * g.s + s) * g.c;
#pragma omp simd
              for (int64_t c = 0; c < g.c; ++c) to[c] += v * px[c];
            }
        }
      }
  });
}

// ---- float: oneDNN
// ----------------------------------------------------------------------------------

// Activations stay in plain NHWC. The fast kernels want weights in a blocked layout of their own
// choice, so the weights (small beside the work) are reordered at every call: with plain (K,R,S,C)
// weights oneDNN falls back to its reference loops, a thousand times slower.
struct Plan {
  dnnl::primitive compute, reorder;  // reorder is empty when the layouts agree
  dnnl::memory::desc x, y, bias, weights, plain_weights, scratchpad, reorder_scratchpad;
};

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  thread_local dnnl::stream of_thread(engine());
  return of_thread;
}

std::shared_ptr<const Plan> make_plan(const Geometry& g, Pass pass) {
  using Desc = dnnl::memory::desc;
  using Tag = dnnl::memory::format_tag;
  constexpr auto f32 = dnnl::memory::data_type::f32;
  constexpr auto direct = dnnl::algorithm::convolution_direct;
  auto plan = std::make_shared<Plan>();
  plan->x = Desc({g.n, g.c, g.h, g.w}, f32, Tag::nhwc);
  plan->y = Desc({g.n, g.k, g.p, g.q}, f32, Tag::nhwc);
  plan->plain_weights = Desc({g.k, g.c, g.r, g.s}, f32, Tag::ohwi);
  plan->bias = pass == Pass::forward_bias ? Desc({g.k}, f32, Tag::x) : Desc();
  const Desc any({g.k, g.c, g.r, g.s}, f32, Tag::any);
  const dnnl::memory::dims strides{g.params.stride, g.params.stride};
  const dnnl::memory::dims before{g.params.pad_top, g.params.pad_left};
  const dnnl::memory::dims after{g.params.pad_bottom, g.params.pad_right};
  dnnl::primitive_attr
      attributes;  // the caller gives the scratchpad: one plan may run on two threads
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::convolution_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, direct, plan->x, any, plan->bias, plan->y, strides,
       before, after},
      attributes, engine());
  if (pass == Pass::forward || pass == Pass::forward_bias) {
    plan->compute = dnnl::convolution_forward(forward);
    plan->weights = forward.weights_desc();
    plan->scratchpad = forward.scratchpad_desc();
  } else if (pass == Pass::backward_data) {
    const dnnl::convolution_backward_data::primitive_desc backward(
        {direct, plan->x, any, plan->y, strides, before, after}, attributes, engine(), forward);
    plan->compute = dnnl::convolution_backward_data(backward);
    plan->weights = backward.weights_desc();
    plan->scratchpad = backward.scratchpad_desc();
  } else {
    const dnnl::convolution_backward_weights::primitive_desc backward(
        {direct, plan->x, any, plan->y, strides, before, after}, attributes, engine(), forward);
    plan->compute = dnnl::convolution_backward_weights(backward);
    plan->weights = backward.diff_weights_desc();
    plan->scratchpad = backward.scratchpad_desc();
  }
  if (plan->weights != plan->plain_weights) {
    const bool out = pass == Pass::backward_weight;
    const Desc& from = out ? plan->weights : plan->plain_weights;
    const Desc& to = out ? plan->plain_weights : plan->weights;
    dnnl::primitive_attr user;
    user.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc reorder(engine(), from, engine(), to, user);
    plan->reorder_scratchpad = reorder.scratchpad_desc();
    plan->reorder = dnnl::reorder(reorder);
  }
  return plan;
}

// Creating a primitive compiles code: kept by shape, pass and thread count (which shapes the code's
// partition).
std::shared_ptr<const Plan> plan_of(const Geometry& g, Pass pass) {
  using Key = std::array<int64_t, 16>;
  static std::mutex mutex;
  static std::map<Key, std::shared_ptr<const Plan>> plans;
  const ConvParams& c = g.params;
  const Key key{static_cast<int64_t>(pass),
                g.n,
                g.h,
                g.w,
                g.c,
                g.k,
                g.r,
                g.s,
                c.stride,
                c.pad_top,
                c.pad_bottom,
                c.pad_left,
                c.pad_right,
                omp_get_max_threads()};
  const std::lock_guard lock(mutex);
  const auto found = plans.find(key);
  if (found != plans.end()) return found->second;
  constexpr size_t most = 2048;  // a shape that varies without end must not fill the memory
  if (plans.size() >= most) plans.clear();
  return plans[key] = make_plan(g, pass);
}

// x, y and w are the activations and weights or their gradients, whichever the pass reads or
// writes.
void run_plan(const Geometry& g, Pass pass, const float* x, const float* y, const float* w,
              const float* bias) {
  const std::shared_ptr<const Plan> plan = plan_of(g, pass);
  const auto memory = [](const dnnl::memory::desc& desc, const void* data) {
    return dnnl::memory(desc, engine(), const_cast<void*>(data));
  };
  const bool writes_weights = pass == Pass::backward_weight;
  const size_t bytes = std::max(plan->scratchpad.get_size(), plan->reorder_scratchpad.get_size());
  uint8_t* const pad = scratch<uint8_t, 41>(static_cast<int64_t>(bytes));
  const dnnl::memory plain = memory(plan->plain_weights, w);
  dnnl::memory weights = plain;
  if (plan->reorder) {
    const auto blocked = static_cast<int64_t>(plan->weights.get_size());
    weights = memory(plan->weights, scratch<uint8_t, 42>(blocked));
  }
  const bool forward = pass == Pass::forward || pass == Pass::forward_bias;
  std::unordered_map<int, dnnl::memory> arguments{
      {pass == Pass::backward_data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, memory(plan->x, x)},
      {forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, memory(plan->y, y)},
      {writes_weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, weights},
      {DNNL_ARG_SCRATCHPAD, memory(plan->scratchpad, pad)}};
  if (pass == Pass::forward_bias) arguments.emplace(DNNL_ARG_BIAS, memory(plan->bias, bias));
  const auto reorder = [&](const dnnl::memory& from, const dnnl::memory& to) {
    if (!plan->reorder) return;
    plan->reorder.execute(stream(), {{DNNL_ARG_FROM, from},
                                     {DNNL_ARG_TO, to},
                                     {DNNL_ARG_SCRATCHPAD, memory(plan->reorder_scratchpad, pad)}});
  };
  if (!writes_weights) reorder(plain, weights);
  plan->compute.execute(stream(), arguments);
  if (writes_weights) reorder(weights, plain);
}

RF_CLONES void add_span(float* to, const float* from, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

// oneDNN overwrites: the accumulating modes compute aside and add.
template <class Run>
void run_into(Exec& ex, const GradOut& out, Run&& run) {
  float* to = out.tensor.data<float>();
  if (!out.accumulate()) return run(to);
  const Tensor aside = ex.empty(out.tensor.shape());
  const float* from = aside.data<float>();
  run(aside.data<float>());
  parallel_for(aside.numel(), grain_of(1), [&](int64_t begin, int64_t end) {
    add_span(to + begin, from + begin, end - begin);
  });
}

// Pixels as rows: a 1x1 convolution at stride 1 is a product with the weights as (K,C).
Tensor pixels(In x) {
  return x.reshape({x.rows(), x.columns()});
}
Tensor filters(In w) {
  return w.reshape({w.dim(0), w.dim(3)});
}

void fill_zero(const GradOut& out) {
  if (out.accumulate()) return;
  auto* bytes = static_cast<uint8_t*>(out.tensor.raw());
  std::fill_n(bytes, out.tensor.numel() * static_cast<int64_t>(size_of(out.tensor.dtype())), 0);
}

}  // namespace

void conv2d_forward(Exec& ex, Out y, In x, In w, In bias, ConvParams params) {
  const Geometry g(x, y, w, params);
  dispatch_real(y.dtype(), "conv2d_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* b = bias.defined() ? bias.data<T>() : nullptr;
    if constexpr (std::is_same_v<T, float>) {
      if (!g.empty() && g.pointwise() && params.stride == 1) {
        const Tensor rows = pixels(y);
        if (b)
          parallel_for(rows.dim(0), grain_of(g.k), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) std::copy_n(b, g.k, y.data<float>() + i * g.k);
          });
        return cpu::gemm(ex, rows, pixels(x), filters(w), false, true, 1, b ? 1 : 0);
      }
      if (!g.empty())
        return run_plan(g, b ? Pass::forward_bias : Pass::forward, x.data<float>(), y.data<float>(),
                        w.data<float>(), b);
    }
    forward_loops(y.data<T>(), x.data<T>(), w.data<T>(), b, g);
  });
}

void conv2d_backward_data(Exec& ex, GradOut dx, In dy, In w, ConvParams params) {
  const Geometry g(dx.tensor, dy, w, params);
  if (g.empty()) return fill_zero(dx);
  dispatch_real(dy.dtype(), "conv2d_backward_data", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, float>) {
      if (g.pointwise() && params.stride == 1)
        return cpu::gemm(ex, pixels(dx.tensor), pixels(dy), filters(w), false, false, 1,
                         dx.accumulate() ? 1 : 0);
      return run_into(ex, dx, [&](float* to) {
        run_plan(g, Pass::backward_data, to, dy.data<float>(), w.data<float>(), nullptr);
      });
    }
    backward_data_loops(dx.tensor.data<T>(), dy.data<T>(), w.data<T>(), g, dx.accumulate());
  });
}

void conv2d_backward_weight(Exec& ex, GradOut dw, In dy, In x, ConvParams params) {
  const Geometry g(x, dy, dw.tensor, params);
  if (g.empty()) return fill_zero(dw);
  dispatch_real(dy.dtype(), "conv2d_backward_weight", [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, float>) {
      if (g.pointwise() && params.stride == 1)
        return cpu::gemm(ex, filters(dw.tensor), pixels(dy), pixels(x), true, false, 1,
                         dw.accumulate() ? 1 : 0);
      // oneDNN 2.6.3's strided 1x1 kernel for AVX2 writes past its buffer with fewer than 8
      // channels.
      const bool unsafe = g.r == 1 && g.s == 1 && g.c < 8;
      if (!unsafe)
        return run_into(ex, dw, [&](float* to) {
          run_plan(g, Pass::backward_weight, x.data<float>(), dy.data<float>(), to, nullptr);
        });
    }
    backward_weight_loops(dw.tensor.data<T>(), dy.data<T>(), x.data<T>(), g, dw.accumulate());
  });
}

}  // namespace realfake::cpu
