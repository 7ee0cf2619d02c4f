#include "model/functions.h"

#include <cmath>

#include "kernels/attention.h"
#include "kernels/diffusion.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/gemm.h"
#include "kernels/loss.h"
#include "kernels/normalization.h"
#include "kernels/pooling.h"
#include "kernels/reduce.h"

// In every function: `ex` outlives the tape; closures capture slots and just the tensors their
// backward reads.
namespace realfake {
namespace {

Shape with_last(const Shape& s, int64_t last) {
  Shape r = s;
  r.set(-1, last);
  return r;
}

// A want() bound to the shape of a value, so that closures need not keep the value alive.
struct Sink {
  std::shared_ptr<GradSlot> slot;
  Shape shape;
  DType dtype = DType::f32;
  explicit Sink(const Var& v)
      : slot(v.slot()),
        shape(v.defined() ? v.shape() : Shape()),
        dtype(v.defined() ? v.value().dtype() : DType::f32) {}
  GradOut operator()(Exec& ex) const { return want(ex, slot, shape, dtype); }
  void pass(Exec& ex, const Tensor& dy, bool adopt = true) const {
    pass_gradient(ex, slot, dy.reshape(shape), adopt);
  }
};

// An op that writes several gradients in one pass must not be given one slot twice: a value that is
// also another input goes in as a view, which has a slot of its own.
Var apart(Tape& t, const Var& v, std::initializer_list<const Var*> others) {
  for (const Var* other : others)
    if (v.needs_grad() && v.slot() == other->slot()) return reshape(t, v, v.shape());
  return v;
}

}  // namespace

Var linear(Tape& t, const Var& x, const Var& w, const Var& bias) {
  Exec& ex = t.exec();
  const Tensor y = ex.empty(with_last(x.shape(), w.dim(0)), x.value().dtype());
  linear_forward(ex, y, x.value(), w.value(), bias.value());
  const Tensor kept = w.needs_grad() ? x.value() : Tensor();
  return t.result(
      "linear", y, {&x, &w, &bias},
      [&ex, dx = Sink(x), dw = Sink(w), db = Sink(bias), kept, w = w.value()](const Tensor& dy) {
        linear_backward(ex, dx(ex), dw(ex), db(ex), dy, kept, w);
      });
}

Var lora_linear(Tape& t, const Var& x, const Var& w, const Var& bias, const Var& down,
                const Var& up, double factor) {
  Exec& ex = t.exec();
  const Tensor y = ex.empty(with_last(x.shape(), w.dim(0)), x.value().dtype());
  const Tensor xa = ex.empty(with_last(x.shape(), down.dim(0)), x.value().dtype());
  lora_linear_forward(ex, y, xa, x.value(), w.value(), bias.value(), down.value(), up.value(),
                      factor);
  const Tensor kept = down.needs_grad() ? x.value() : Tensor();
  return t.result("lora_linear", y, {&x, &down, &up},
                  [&ex, dx = Sink(x), dd = Sink(down), du = Sink(up), kept, xa, w = w.value(),
                   down = down.value(), up = up.value(), factor](const Tensor& dy) {
                    lora_linear_backward(ex, dx(ex), dd(ex), du(ex), dy, kept, xa, w, down, up,
                                         factor);
                  });
}

Var conv2d(Tape& t, const Var& x, const Var& w, const Var& bias, ConvParams p) {
  Exec& ex = t.exec();
  const Shape y_shape{x.dim(0), conv_out(x.dim(1), p.pad_top, p.pad_bottom, w.dim(1), p.stride),
                      conv_out(x.dim(2), p.pad_left, p.pad_right, w.dim(2), p.stride), w.dim(0)};
  const Tensor y = ex.empty(y_shape, x.value().dtype());
  conv2d_forward(ex, y, x.value(), w.value(), bias.value(), p);
  const Tensor kept = w.needs_grad() ? x.value() : Tensor();
  return t.result(
      "conv2d", y, {&x, &w, &bias},
      [&ex, dx = Sink(x), dw = Sink(w), db = Sink(bias), kept, w = w.value(), p](const Tensor& dy) {
        if (dw.slot) conv2d_backward_weight(ex, dw(ex), dy, kept, p);
        if (db.slot) column_sum(ex, db(ex), dy);
        if (dx.slot) conv2d_backward_data(ex, dx(ex), dy, w, p);
      });
}

Var group_norm(Tape& t, const Var& x, const Var& gamma, const Var& beta, int64_t groups, double eps,
               bool silu) {
  Exec& ex = t.exec();
  const DType d = x.value().dtype();
  const Tensor y = t.empty_like(x.value());
  const Tensor mean = ex.empty({x.dim(0), groups}, d), rstd = ex.empty({x.dim(0), groups}, d);
  group_norm_forward(ex, y, mean, rstd, x.value(), gamma.value(), beta.value(), groups, eps, silu);
  return t.result("group_norm", y, {&x, &gamma, &beta},
                  [&ex, dx = Sink(x), dg = Sink(gamma), db = Sink(beta), x = x.value(), mean, rstd,
                   gamma = gamma.value(), beta = beta.value(), groups, silu](const Tensor& dy) {
                    group_norm_backward(ex, dx(ex), dg(ex), db(ex), dy, x, mean, rstd, gamma, beta,
                                        groups, silu);
                  });
}

Var layer_norm(Tape& t, const Var& x, const Var& gamma, const Var& beta, double eps) {
  Exec& ex = t.exec();
  const DType d = x.value().dtype();
  const Tensor y = t.empty_like(x.value());
  const Tensor mean = ex.empty({x.value().rows()}, d), rstd = ex.empty({x.value().rows()}, d);
  layer_norm_forward(ex, y, mean, rstd, x.value(), gamma.value(), beta.value(), eps);
  return t.result("layer_norm", y, {&x, &gamma, &beta},
                  [&ex, dx = Sink(x), dg = Sink(gamma), db = Sink(beta), x = x.value(), mean, rstd,
                   gamma = gamma.value()](const Tensor& dy) {
                    layer_norm_backward(ex, dx(ex), dg(ex), db(ex), dy, x, mean, rstd, gamma);
                  });
}

Var batch_norm(Tape& t, const Var& x, const Var& gamma, const Var& beta, const Tensor& running_mean,
               const Tensor& running_var, const Var& shortcut, double eps, double momentum,
               bool relu, bool training) {
  Exec& ex = t.exec();
  const Var residual = apart(t, shortcut, {&x});
  const Tensor y = t.empty_like(x.value());
  if (!training) {
    require(!t.records({&x, &gamma, &beta, &residual}), "[batch_norm] evaluation has no backward");
    batch_norm_inference(ex, y, running_mean, running_var, x.value(), gamma.value(), beta.value(),
                         residual.value(), eps, relu);
    return Var(y);
  }
  const Tensor mean = t.empty_like(gamma.value()), rstd = t.empty_like(gamma.value());
  batch_norm_forward(ex, y, mean, rstd, running_mean, running_var, x.value(), gamma.value(),
                     beta.value(), residual.value(), eps, momentum, relu);
  return t.result("batch_norm", y, {&x, &gamma, &beta, &residual},
                  [&ex, dx = Sink(x), dg = Sink(gamma), db = Sink(beta), dr = Sink(residual),
                   x = x.value(), y, mean, rstd, gamma = gamma.value(), relu](const Tensor& dy) {
                    batch_norm_backward(ex, dx(ex), dg(ex), db(ex), dr(ex), dy, x, y, mean, rstd,
                                        gamma, relu);
                  });
}

Var activate(Tape& t, const Var& x, Activation a) {
  Exec& ex = t.exec();
  const Tensor y = t.empty_like(x.value());
  activation_forward(ex, y, x.value(), a);
  return t.result("activation", y, {&x}, [&ex, dx = Sink(x), x = x.value(), a](const Tensor& dy) {
    activation_backward(ex, dx(ex), dy, x, a);
  });
}

Var geglu(Tape& t, const Var& x) {
  Exec& ex = t.exec();
  const Tensor y = ex.empty(with_last(x.shape(), x.dim(-1) / 2), x.value().dtype());
  geglu_forward(ex, y, x.value());
  return t.result("geglu", y, {&x}, [&ex, dx = Sink(x), x = x.value()](const Tensor& dy) {
    geglu_backward(ex, dx(ex), dy, x);
  });
}

Var attention(Tape& t, const Var& q, const Var& key, const Var& value, int64_t heads, double factor,
              bool causal) {
  Exec& ex = t.exec();
  const Var k = apart(t, key, {&q}), v = apart(t, value, {&q, &k, &key});
  const Tensor o = t.empty_like(q.value());
  const Tensor lse = ex.empty({q.dim(0), heads, q.dim(1)}, q.value().dtype());
  attention_forward(ex, o, lse, q.value(), k.value(), v.value(), heads, factor, causal);
  return t.result("attention", o, {&q, &k, &v},
                  [&ex, dq = Sink(q), dk = Sink(k), dv = Sink(v), q = q.value(), k = k.value(),
                   v = v.value(), o, lse, heads, factor, causal](const Tensor& grad_o) {
                    attention_backward(ex, dq(ex), dk(ex), dv(ex), grad_o, q, k, v, o, lse, heads,
                                       factor, causal);
                  });
}

Var add(Tape& t, const Var& a, const Var& b) {
  Exec& ex = t.exec();
  const Tensor y = t.empty_like(a.value());
  add(ex, y, a.value(), b.value());
  return t.result("add", y, {&a, &b}, [&ex, da = Sink(a), db = Sink(b)](const Tensor& dy) {
    db.pass(ex, dy, false);  // copies or adds; then `a` may take the tensor itself
    da.pass(ex, dy);
  });
}

Var scale(Tape& t, const Var& x, double factor) {
  Exec& ex = t.exec();
  const Tensor y = t.empty_like(x.value());
  scale(ex, y, x.value(), factor);
  return t.result("scale", y, {&x}, [&ex, dx = Sink(x), factor](const Tensor& dy) {
    const GradOut g = dx(ex);
    scale(ex, g.tensor, dy, factor, g.accumulate());
  });
}

Var add_broadcast(Tape& t, const Var& x, const Var& v) {
  Exec& ex = t.exec();
  const Tensor y = t.empty_like(x.value());
  add_broadcast(ex, y, x.value(), v.value());
  return t.result("add_broadcast", y, {&x, &v},
                  [&ex, dx = Sink(x), dv = Sink(v)](const Tensor& dy) {
                    if (dv.slot) sum_middle(ex, dv(ex), dy);
                    dx.pass(ex, dy);
                  });
}

Var reshape(Tape& t, const Var& x, const Shape& shape) {
  Exec& ex = t.exec();
  return t.result("reshape", x.value().reshape(shape), {&x},
                  [&ex, dx = Sink(x)](const Tensor& dy) { dx.pass(ex, dy); });
}

Var concat_columns(Tape& t, const Var& a, const Var& b) {
  Exec& ex = t.exec();
  const int64_t ca = a.dim(-1), cb = b.dim(-1);
  const Tensor y = ex.empty(with_last(a.shape(), ca + cb), a.value().dtype());
  copy(ex, y.columns(0, ca), a.value());
  copy(ex, y.columns(ca, ca + cb), b.value());
  return t.result("concat", y, {&a, &b},
                  [&ex, da = Sink(a), db = Sink(b), ca, cb](const Tensor& dy) {
                    da.pass(ex, dy.columns(0, ca), false);
                    db.pass(ex, dy.columns(ca, ca + cb), false);
                  });
}

Var upsample_nearest(Tape& t, const Var& x, int64_t h, int64_t w) {
  Exec& ex = t.exec();
  const Tensor y = ex.empty({x.dim(0), h, w, x.dim(3)}, x.value().dtype());
  upsample_nearest_forward(ex, y, x.value());
  return t.result("upsample", y, {&x}, [&ex, dx = Sink(x)](const Tensor& dy) {
    upsample_nearest_backward(ex, dx(ex), dy);
  });
}

Var global_average_pool(Tape& t, const Var& x) {
  Exec& ex = t.exec();
  const Tensor y = ex.empty({x.dim(0), x.dim(-1)}, x.value().dtype());
  global_average_pool_forward(ex, y, x.value());
  return t.result("global_average_pool", y, {&x}, [&ex, dx = Sink(x)](const Tensor& dy) {
    global_average_pool_backward(ex, dx(ex), dy);
  });
}

Var max_pool(Tape& t, const Var& x, int kernel, int stride, int padding) {
  Exec& ex = t.exec();
  const Shape s{x.dim(0), conv_out(x.dim(1), padding, padding, kernel, stride),
                conv_out(x.dim(2), padding, padding, kernel, stride), x.dim(3)};
  const Tensor y = ex.empty(s, x.value().dtype()), index = ex.empty(s, DType::i32);
  max_pool_forward(ex, y, index, x.value(), kernel, stride, padding);
  return t.result("max_pool", y, {&x}, [&ex, dx = Sink(x), index](const Tensor& dy) {
    max_pool_backward(ex, dx(ex), dy, index);
  });
}

Var embedding(Tape& t, const Var& table, const Tensor& ids) {
  Exec& ex = t.exec();
  std::vector<int64_t> dims = ids.shape().vec();
  dims.push_back(table.dim(1));
  const Tensor y = ex.empty(Shape(dims), table.value().dtype());
  embedding_forward(ex, y, table.value(), ids);
  return t.result("embedding", y, {&table}, [&ex, dt = Sink(table), ids](const Tensor& dy) {
    embedding_backward(ex, dt(ex), dy, ids);
  });
}

Var add_positions(Tape& t, const Var& x, const Var& pos) {
  Exec& ex = t.exec();
  const Tensor y = t.empty_like(x.value());
  add_positions(ex, y, x.value(), pos.value());
  return t.result("add_positions", y, {&x, &pos},
                  [&ex, dx = Sink(x), dp = Sink(pos)](const Tensor& dy) {
                    if (dp.slot) sum_leading(ex, dp(ex), dy);
                    dx.pass(ex, dy);
                  });
}

Var prepend_token(Tape& t, const Var& token, const Var& x) {
  Exec& ex = t.exec();
  const int64_t b = x.dim(0), p = x.dim(1), d = x.dim(2);
  const Tensor y = ex.empty({b, (1 + p) * d}, x.value().dtype());
  const Tensor first = ex.zeros({b, 1, d}, x.value().dtype());
  add_positions(ex, first, first, token.value().reshape({1, d}));
  copy(ex, y.columns(0, d), first.reshape({b, d}));
  copy(ex, y.columns(d, (1 + p) * d), x.value().reshape({b, p * d}));
  return t.result(
      "prepend_token", y.reshape({b, 1 + p, d}), {&token, &x},
      [&ex, dt = Sink(token), dx = Sink(x), b, p, d](const Tensor& dy) {
        const Tensor rows = dy.reshape({b, (1 + p) * d});
        if (dt.slot) sum_leading(ex, dt(ex), ex.clone(rows.columns(0, d)));
        if (dx.slot) {
          const GradOut g = dx(ex);
          accumulate_into(ex, {g.tensor.reshape({b, p * d}), g.mode}, rows.columns(d, (1 + p) * d));
        }
      });
}

Var gather_tokens(Tape& t, const Var& x, const Tensor& index) {
  Exec& ex = t.exec();
  const Tensor y = ex.empty({x.dim(0), x.dim(2)}, x.value().dtype());
  gather_tokens_forward(ex, y, x.value(), index);
  return t.result("gather_tokens", y, {&x}, [&ex, dx = Sink(x), index](const Tensor& dy) {
    gather_tokens_backward(ex, dx(ex), dy, index);
  });
}

Var l2_normalize(Tape& t, const Var& x) {
  Exec& ex = t.exec();
  const Tensor y = t.empty_like(x.value()), norm = ex.empty({x.value().rows()}, x.value().dtype());
  l2_normalize_forward(ex, y, norm, x.value());
  return t.result("l2_normalize", y, {&x}, [&ex, dx = Sink(x), y, norm](const Tensor& dy) {
    l2_normalize_backward(ex, dx(ex), dy, y, norm);
  });
}

Var product_nt(Tape& t, const Var& a, const Var& b) {
  Exec& ex = t.exec();
  const Tensor y = ex.empty({a.dim(0), b.dim(0)}, a.value().dtype());
  gemm(ex, y, a.value(), b.value(), false, true);
  return t.result(
      "product", y, {&a, &b},
      [&ex, da = Sink(a), db = Sink(b), a = a.value(), b = b.value()](const Tensor& dy) {
        if (const GradOut g = da(ex); g.wanted())
          gemm(ex, g.tensor, dy, b, false, false, 1, g.accumulate() ? 1 : 0);
        if (const GradOut g = db(ex); g.wanted())
          gemm(ex, g.tensor, dy, a, true, false, 1, g.accumulate() ? 1 : 0);
      });
}

Var scale_by_exp(Tape& t, const Var& x, const Var& log_scale) {
  Exec& ex = t.exec();
  const double factor = std::exp(ex.scalar(log_scale.value()));
  const Tensor y = t.empty_like(x.value());
  scale(ex, y, x.value(), factor);
  return t.result("scale_by_exp", y, {&x, &log_scale},
                  [&ex, dx = Sink(x), ds = Sink(log_scale), y, factor](const Tensor& dy) {
                    if (const GradOut g = ds(ex); g.wanted()) {
                      const Tensor p = ex.empty(y.shape(), y.dtype()),
                                   sum = ex.empty({1}, y.dtype());
                      multiply(ex, p, dy, y);
                      sum_all(ex, sum, p);
                      accumulate_into(ex, {g.tensor.reshape({1}), g.mode}, sum);
                    }
                    if (const GradOut g = dx(ex); g.wanted())
                      scale(ex, g.tensor, dy, factor, g.accumulate());
                  });
}

Var weighted_mse(Tape& t, const Var& a, const Tensor& b, const Tensor& w) {
  Exec& ex = t.exec();
  const Tensor loss = ex.empty({1}, a.value().dtype());
  weighted_mse_forward(ex, loss, a.value(), b, w);
  return t.result("weighted_mse", loss, {&a},
                  [&ex, da = Sink(a), a = a.value(), b, w](const Tensor& dy) {
                    weighted_mse_backward(ex, da(ex), a, b, w, ex.scalar(dy));
                  });
}

Var matching_sum(Tape& t, const Var& a, const Tensor& b, const Tensor& w) {
  Exec& ex = t.exec();
  std::vector<int64_t> sample = a.shape().vec();
  sample.erase(sample.begin());
  const Tensor loss = ex.empty({1}, a.value().dtype()),
               diff = ex.empty(Shape(sample), a.value().dtype());
  matching_sum_forward(ex, loss, diff, a.value(), b, w);
  return t.result("matching_sum", loss, {&a}, [&ex, da = Sink(a), diff, w](const Tensor& dy) {
    matching_sum_backward(ex, da(ex), diff, w, ex.scalar(dy));
  });
}

Var mmd_rbf(Tape& t, const Var& a, const Tensor& b) {
  Exec& ex = t.exec();
  const int64_t n = a.dim(0);
  const Tensor loss = ex.empty({1}, a.value().dtype()),
               dist = ex.empty({2 * n, 2 * n}, a.value().dtype());
  mmd_rbf_forward(ex, loss, dist, a.value(), b);
  return t.result("mmd_rbf", loss, {&a},
                  [&ex, da = Sink(a), a = a.value(), b, dist](const Tensor& dy) {
                    mmd_rbf_backward(ex, da(ex), a, b, dist, ex.scalar(dy));
                  });
}

Var cross_entropy(Tape& t, const Var& logits, const Tensor& target, double smoothing) {
  Exec& ex = t.exec();
  const Tensor loss = ex.empty({1}, logits.value().dtype()), probs = t.empty_like(logits.value());
  cross_entropy_forward(ex, loss, probs, logits.value(), target, smoothing);
  return t.result("cross_entropy", loss, {&logits},
                  [&ex, dl = Sink(logits), probs, target, smoothing](const Tensor& dy) {
                    cross_entropy_backward(ex, dl(ex), probs, target, smoothing, ex.scalar(dy));
                  });
}

Var kl_divergence(Tape& t, const Var& moments) {
  Exec& ex = t.exec();
  const Tensor loss = ex.empty({1}, moments.value().dtype());
  kl_forward(ex, loss, moments.value());
  return t.result("kl", loss, {&moments},
                  [&ex, dm = Sink(moments), m = moments.value()](const Tensor& dy) {
                    kl_backward(ex, dm(ex), m, ex.scalar(dy));
                  });
}

Var posterior_sample(Tape& t, const Var& moments, const Tensor& noise, double factor) {
  Exec& ex = t.exec();
  const Tensor z = t.empty_like(noise);
  posterior_sample_forward(ex, z, moments.value(), noise, factor);
  return t.result("posterior_sample", z, {&moments},
                  [&ex, dm = Sink(moments), m = moments.value(), noise, factor](const Tensor& dz) {
                    posterior_sample_backward(ex, dm(ex), dz, m, noise, factor);
                  });
}

Var add_weighted(Tape& t, const Var& a, const Var& b, double weight) {
  Exec& ex = t.exec();
  const Tensor y = t.empty_like(a.value());
  add(ex, y, a.value(), b.value(), 1, weight);
  return t.result("add_weighted", y, {&a, &b},
                  [&ex, da = Sink(a), db = Sink(b), weight](const Tensor& dy) {
                    if (const GradOut g = db(ex); g.wanted())
                      scale(ex, g.tensor, dy, weight, g.accumulate());
                    da.pass(ex, dy);
                  });
}

}  // namespace realfake
