#pragma once
// 2-D cross-correlation (torch.nn.functional.conv2d), NHWC. cpu: oneDNN for f32, loops for f64;
// cuda: cuDNN graph API; emulated: the cpu's.
#include "kernels/ops.h"

namespace realfake {

struct ConvParams {
  int stride = 1;
  int pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
  static ConvParams same(int kernel, int stride = 1) {
    const int p = kernel / 2;
    return {stride, p, p, p, p};
  }
};
// Output side: (in + pads - kernel) / stride + 1.
int64_t conv_out(int64_t in, int pad_a, int pad_b, int64_t kernel, int stride);

// y (N,P,Q,K) = x (N,H,W,C) * w (K,R,S,C) + bias (K) or undefined.   All dense.
void conv2d_forward(Exec&, Out y, In x, In w, In bias, ConvParams);
// dx (N,H,W,C) from dy (N,P,Q,K) and w.
void conv2d_backward_data(Exec&, GradOut dx, In dy, In w, ConvParams);
// dw (K,R,S,C) from dy and x.  The bias gradient is column_sum(dy).
void conv2d_backward_weight(Exec&, GradOut dw, In dy, In x, ConvParams);
OpCost conv2d_cost(const Shape& x, const Shape& w, ConvParams, DType);

}  // namespace realfake
