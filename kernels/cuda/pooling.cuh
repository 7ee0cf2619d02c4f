#pragma once
// Kernels of kernels/pooling.h. Every backward is a gather: each dx element sums its own
// contributors in the order of the output positions, so no atomics and equal bytes on every run.
#include "kernels/cuda/access.cuh"

namespace realfake::RF_BACKEND {

// One thread per (n,c): neighbouring threads read neighbouring channels.  x (N,L,C), L = H*W.
template <class T>
RF_KERNEL void global_average_pool_forward_kernel(T* y, const T* x, int64_t samples,
                                                  int64_t positions, int64_t channels) {
  for (int64_t i = grid_first(); i < samples * channels; i += grid_step()) {
    const int64_t n = i / channels, c = i - n * channels;
    const T* column = x + n * positions * channels + c;
    float sum = 0;
    for (int64_t l = 0; l < positions; ++l) sum += static_cast<float>(column[l * channels]);
    y[i] = static_cast<T>(sum / static_cast<float>(positions));
  }
}

template <class T>
RF_KERNEL void global_average_pool_backward_kernel(T* dx, const T* dy, int64_t samples,
                                                   int64_t positions, int64_t channels,
                                                   bool accumulate) {
  const int64_t per_sample = positions * channels;
  for (int64_t i = grid_first(); i < samples * per_sample; i += grid_step()) {
    const int64_t n = i / per_sample, c = i % channels;
    const float share = static_cast<float>(dy[n * channels + c]) / static_cast<float>(positions);
    store_gradient(dx[i], share, accumulate);
  }
}

// Sizes of an NHWC pair: x (N,H,W,C), y (N,P,Q,C).
struct ImagePair {
  int64_t N, H, W, C, P, Q;
};

// The first of equal values wins; a NaN wins over everything, as in torch.
template <class T>
RF_KERNEL void max_pool_forward_kernel(T* y, int32_t* index, const T* x, ImagePair s, int kernel,
                                       int stride, int padding) {
  for (int64_t i = grid_first(); i < s.N * s.P * s.Q * s.C; i += grid_step()) {
    const int64_t c = i % s.C, q = i / s.C % s.Q, p = i / (s.C * s.Q) % s.P,
                  n = i / (s.C * s.Q * s.P);
    const int64_t top = p * stride - padding, left = q * stride - padding;
    const int64_t h_begin = top < 0 ? 0 : top, w_begin = left < 0 ? 0 : left;
    const int64_t h_end = top + kernel < s.H ? top + kernel : s.H;
    const int64_t w_end = left + kernel < s.W ? left + kernel : s.W;
    const T* image = x + n * s.H * s.W * s.C + c;
    int64_t winner = h_begin * s.W + w_begin;
    float best = -INFINITY;
    for (int64_t h = h_begin; h < h_end; ++h)
      for (int64_t w = w_begin; w < w_end; ++w) {
        const float v = static_cast<float>(image[(h * s.W + w) * s.C]);
        if (v > best || v != v) {
          best = v;
          winner = h * s.W + w;
        }
      }
    y[i] = static_cast<T>(best);
    index[i] = static_cast<int32_t>(winner);
  }
}

// The contract of max_pool_backward gives winners, not windows; these two kernels read from the
// winners which outputs can reach a row or a column of x, so that the gather below looks at few.
// Block p < P: span[p] = first and last row of x won by row p of y; block P + q: the same of
// columns.
template <class Index>
RF_KERNEL void max_pool_span_kernel(Index* span, const Index* index, ImagePair s) {
  RF_SHARED(int, scratch, kWarp);
  for (int64_t line = blockIdx.x; line < s.P + s.Q; line += gridDim.x) {
    const bool row = line < s.P;
    const int64_t inner = (row ? s.Q : s.P) * s.C;
    int low = -INT32_MAX, high = -1;  // `low` negated, so that both are maxima
    for (int64_t i = threadIdx.x; i < s.N * inner; i += blockDim.x) {
      const int64_t n = i / inner, c = i % s.C, other = (i - n * inner) / s.C;
      const int64_t p = row ? line : other, q = row ? other : line - s.P;
      const Index winner = index[((n * s.P + p) * s.Q + q) * s.C + c];
      const int at = static_cast<int>(row ? winner / s.W : winner % s.W);
      low = low < -at ? -at : low;
      high = high < at ? at : high;
    }
    low = block_max(low, scratch);
    high = block_max(high, scratch);
    if (threadIdx.x == 0) {
      span[2 * line] = -low;
      span[2 * line + 1] = high;
    }
  }
}

// reach[h] = first and one past the last row of y whose span holds row h of x; reach[H + w]:
// columns.
template <class Index>
RF_KERNEL void max_pool_reach_kernel(Index* reach, const Index* span, ImagePair s) {
  for (int64_t i = grid_first(); i < s.H + s.W; i += grid_step()) {
    const bool row = i < s.H;
    const int64_t at = row ? i : i - s.H, count = row ? s.P : s.Q;
    const Index* spans = span + (row ? 0 : 2 * s.P);
    int64_t begin = 0, end = 0;
    for (int64_t k = 0; k < count; ++k)
      if (spans[2 * k] <= at && at <= spans[2 * k + 1]) {
        if (end == 0) begin = k;
        end = k + 1;
      }
    reach[2 * i] = static_cast<Index>(begin);
    reach[2 * i + 1] = static_cast<Index>(end);
  }
}

template <class T>
RF_KERNEL void max_pool_backward_kernel(T* dx, const T* dy, const int32_t* index,
                                        const int32_t* reach, ImagePair s, bool accumulate) {
  for (int64_t i = grid_first(); i < s.N * s.H * s.W * s.C; i += grid_step()) {
    const int64_t c = i % s.C, w = i / s.C % s.W, h = i / (s.C * s.W) % s.H,
                  n = i / (s.C * s.W * s.H);
    const int32_t *rows = reach + 2 * h, *columns = reach + 2 * (s.H + w);
    float sum = 0;
    for (int64_t p = rows[0]; p < rows[1]; ++p)
      for (int64_t q = columns[0]; q < columns[1]; ++q) {
        const int64_t o = ((n * s.P + p) * s.Q + q) * s.C + c;
        if (index[o] == h * s.W + w) sum += static_cast<float>(dy[o]);
      }
    store_gradient(dx[i], sum, accumulate);
  }
}

template <class T>
RF_KERNEL void upsample_nearest_forward_kernel(T* y, const T* x, ImagePair s) {
  for (int64_t i = grid_first(); i < s.N * s.P * s.Q * s.C; i += grid_step()) {
    const int64_t c = i % s.C, q = i / s.C % s.Q, p = i / (s.C * s.Q) % s.P,
                  n = i / (s.C * s.Q * s.P);
    y[i] = x[((n * s.H + p * s.H / s.P) * s.W + q * s.W / s.Q) * s.C + c];
  }
}

// p*H/P == h exactly for p in [ceil(h P / H), ceil((h+1) P / H)).
template <class T>
RF_KERNEL void upsample_nearest_backward_kernel(T* dx, const T* dy, ImagePair s, bool accumulate) {
  for (int64_t i = grid_first(); i < s.N * s.H * s.W * s.C; i += grid_step()) {
    const int64_t c = i % s.C, w = i / s.C % s.W, h = i / (s.C * s.W) % s.H,
                  n = i / (s.C * s.W * s.H);
    const int64_t p_begin = (h * s.P + s.H - 1) / s.H, p_end = ((h + 1) * s.P + s.H - 1) / s.H;
    const int64_t q_begin = (w * s.Q + s.W - 1) / s.W, q_end = ((w + 1) * s.Q + s.W - 1) / s.W;
    float sum = 0;
    for (int64_t p = p_begin; p < p_end; ++p)
      for (int64_t q = q_begin; q < q_end; ++q)
        sum += static_cast<float>(dy[((n * s.P + p) * s.Q + q) * s.C + c]);
    store_gradient(dx[i], sum, accumulate);
  }
}

}  // namespace realfake::RF_BACKEND
