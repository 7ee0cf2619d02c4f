#include "tests/kernels/cases.h"

namespace realfake::testing {

namespace {

OpCase conv(const std::string& name, const Shape& x, const Shape& w, ConvParams p, bool bias) {
  const int64_t n = x[0], h = x[1], wide = x[2], c = x[3];
  const int64_t k = w[0], r = w[1], s = w[2];
  const int64_t ph = conv_out(h, p.pad_top, p.pad_bottom, r, p.stride);
  const int64_t pw = conv_out(wide, p.pad_left, p.pad_right, s, p.stride);
  OpCase o;
  o.name = "conv2d_" + name;
  o.inputs = {{.shape = x, .gradient = true, .reduction = static_cast<double>(r * s * k)},
              {.shape = w, .gradient = true, .reduction = static_cast<double>(n * ph * pw)}};
  if (bias)
    o.inputs.push_back(
        {.shape = {k}, .gradient = true, .reduction = static_cast<double>(n * ph * pw)});
  o.outputs = {{.shape = {n, ph, pw, k}}};
  o.reduction = static_cast<double>(r * s * c);
  o.library = true;
  o.forward = [=](Exec& ex, const Tensors& out, const Tensors& in) {
    conv2d_forward(ex, out[0], in[0], in[1], bias ? in[2] : kNone, p);
  };
  o.backward = [=](Exec& ex, const std::vector<GradOut>& g, const Tensors& in, const Tensors&,
                   const Tensors& dout) {
    if (g[0].wanted()) conv2d_backward_data(ex, g[0], dout[0], in[1], p);
    if (g[1].wanted()) conv2d_backward_weight(ex, g[1], dout[0], in[0], p);
    if (bias && g[2].wanted()) column_sum(ex, g[2], dout[0]);
  };
  o.reference = [=](const std::vector<Numbers>& in) {
    Numbers y(at(n * ph * pw * k));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t a = 0; a < ph; ++a)
        for (int64_t b = 0; b < pw; ++b)
          for (int64_t out = 0; out < k; ++out) {
            double sum = bias ? in[2][at(out)] : 0;
            for (int64_t u = 0; u < r; ++u)
              for (int64_t v = 0; v < s; ++v) {
                const int64_t row = a * p.stride + u - p.pad_top,
                              column = b * p.stride + v - p.pad_left;
                if (row < 0 || row >= h || column < 0 || column >= wide) continue;
                for (int64_t e = 0; e < c; ++e)
                  sum += in[0][at(((i * h + row) * wide + column) * c + e)] *
                         in[1][at(((out * r + u) * s + v) * c + e)];
              }
            y[at(((i * ph + a) * pw + b) * k + out)] = sum;
          }
    return std::vector<Numbers>{y};
  };
  return o;
}

}  // namespace

std::vector<OpCase> convolution_cases() {
  // The VAE's downsampling pads below and on the right only.
  const ConvParams down{2, 0, 1, 0, 1};
  return {
      conv("k1", {2, 5, 3, 6}, {7, 1, 1, 6}, ConvParams::same(1), true),
      conv("k1_stride2", {2, 6, 5, 3}, {4, 1, 1, 3}, {2, 0, 0, 0, 0}, false),
      conv("k3", {2, 5, 7, 3}, {5, 3, 3, 3}, ConvParams::same(3), true),
      conv("k3_no_bias", {2, 5, 7, 3}, {5, 3, 3, 3}, ConvParams::same(3), false),
      conv("k3_stride2", {2, 7, 6, 4}, {3, 3, 3, 4}, ConvParams::same(3, 2), true),
      conv("k3_asymmetric", {2, 8, 6, 3}, {4, 3, 3, 3}, down, true),
      conv("k3_asymmetric_odd", {2, 7, 9, 3}, {4, 3, 3, 3}, {2, 1, 0, 0, 1}, true),
      conv("k7_stride2", {2, 11, 9, 3}, {4, 7, 7, 3}, ConvParams::same(7, 2), false),
      conv("k3x1", {2, 5, 7, 3}, {4, 3, 1, 3}, {1, 1, 1, 0, 0}, true),
      conv("k3_one_channel", {3, 8, 8, 1}, {6, 3, 3, 1}, ConvParams::same(3), true),
      conv("k3_to_one", {2, 6, 5, 8}, {1, 3, 3, 8}, ConvParams::same(3), true),
      conv("k3_wide", {2, 9, 8, 32}, {48, 3, 3, 32}, ConvParams::same(3), true),
      conv("k3_valid", {2, 6, 5, 3}, {4, 3, 3, 3}, {}, true),
  };
}

}  // namespace realfake::testing
