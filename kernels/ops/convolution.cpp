#include "kernels/convolution.h"

#include "kernels/backend.h"
#include "kernels/ops/expect.h"

namespace realfake {
namespace {

// Checks x (N,H,W,C), w (K,R,S,C) and the parameters; returns the shape of y (N,P,Q,K).
Shape check_conv(const Expect& expect, const Shape& x, const Shape& w, const ConvParams& p) {
  expect.that(x.rank() == 4, "expected x (N,H,W,C), got ", x);
  expect.that(w.rank() == 4 && w[3] == x[3], "expected w (K,R,S,", x[3], "), got ", w);
  expect.that(p.stride >= 1, "expected stride >= 1, got ", p.stride);
  expect.that(p.pad_top >= 0 && p.pad_bottom >= 0 && p.pad_left >= 0 && p.pad_right >= 0,
              "expected pads >= 0, got ", p.pad_top, ",", p.pad_bottom, ",", p.pad_left, ",",
              p.pad_right);
  expect.that(x[1] + p.pad_top + p.pad_bottom >= w[1] && x[2] + p.pad_left + p.pad_right >= w[2],
              "expected the padded x ", x, " to be at least as large as the kernel of w ", w);
  return {x[0], conv_out(x[1], p.pad_top, p.pad_bottom, w[1], p.stride),
          conv_out(x[2], p.pad_left, p.pad_right, w[2], p.stride), w[0]};
}

}  // namespace

int64_t conv_out(int64_t in, int pad_a, int pad_b, int64_t kernel, int stride) {
  return (in + pad_a + pad_b - kernel) / stride + 1;
}

void conv2d_forward(Exec& ex, Out y, In x, In w, In bias, ConvParams p) {
  const Expect expect(ex, "conv2d_forward", y);
  expect.tensor("x", x);
  expect.tensor("w", w);
  expect.dense("y", y, check_conv(expect, x.shape(), w.shape(), p));
  expect.dense("x", x, x.shape());
  expect.dense("w", w, w.shape());
  if (bias.defined()) expect.dense("bias", bias, {w.dim(0)});
  ex.ops().conv2d_forward(ex, y, x, w, bias, p);
}

void conv2d_backward_data(Exec& ex, GradOut dx, In dy, In w, ConvParams p) {
  if (!dx.wanted()) return;
  const Expect expect(ex, "conv2d_backward_data", dy);
  expect.tensor("dx", dx.tensor);
  expect.tensor("w", w);
  expect.dense("dy", dy, check_conv(expect, dx.tensor.shape(), w.shape(), p));
  expect.dense("dx", dx.tensor, dx.tensor.shape());
  expect.dense("w", w, w.shape());
  ex.ops().conv2d_backward_data(ex, dx, dy, w, p);
}

void conv2d_backward_weight(Exec& ex, GradOut dw, In dy, In x, ConvParams p) {
  if (!dw.wanted()) return;
  const Expect expect(ex, "conv2d_backward_weight", dy);
  expect.tensor("x", x);
  expect.tensor("dw", dw.tensor);
  expect.dense("dy", dy, check_conv(expect, x.shape(), dw.tensor.shape(), p));
  expect.dense("x", x, x.shape());
  expect.dense("dw", dw.tensor, dw.tensor.shape());
  ex.ops().conv2d_backward_weight(ex, dw, dy, x, p);
}

OpCost conv2d_cost(const Shape& x, const Shape& w, ConvParams p, DType t) {
  const Shape y = {x[0], conv_out(x[1], p.pad_top, p.pad_bottom, w[1], p.stride),
                   conv_out(x[2], p.pad_left, p.pad_right, w[2], p.stride), w[0]};
  const auto outputs = static_cast<double>(y.numel());
  return {static_cast<double>(size_of(t)) *
              (static_cast<double>(x.numel()) + static_cast<double>(w.numel()) + outputs),
          2 * outputs * static_cast<double>(w[1] * w[2] * w[3])};
}

}  // namespace realfake
