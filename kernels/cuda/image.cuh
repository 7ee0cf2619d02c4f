#pragma once
// Kernels of kernels/image.h.
#include "kernels/cuda/access.cuh"

namespace realfake::RF_BACKEND {

template <class T>
RF_KERNEL void normalize_u8_kernel(Rows<T> y, Rows<uint8_t> x, const T* mean, const T* deviation) {
  for (int64_t i = grid_first(); i < y.rows * y.columns; i += grid_step()) {
    const int64_t row = i / y.columns, c = i - row * y.columns;
    const float v = static_cast<float>(x.data[row * x.stride + c]) / 255.0f;
    y.data[row * y.stride + c] =
        static_cast<T>((v - static_cast<float>(mean[c])) / static_cast<float>(deviation[c]));
  }
}

// Halves round to even; a NaN becomes 0.
template <class T>
RF_KERNEL void quantize_u8_kernel(Rows<uint8_t> y, Rows<T> x) {
  for (int64_t i = grid_first(); i < x.rows * x.columns; i += grid_step()) {
    const float v = (static_cast<float>(element(x, i)) + 1.0f) / 2.0f;
    const float unit = v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f;
    element(y, i) = static_cast<uint8_t>(rintf(unit * 255.0f));
  }
}

// One thread per pixel of y (N,P,Q,C). align_corners = false: pixel k of n has its centre at
// (2k+1)/n - 1.
template <class T>
RF_KERNEL void affine_sample_kernel(Rows<T> y, Rows<T> x, Rows<T> m, int64_t N, int64_t H,
                                    int64_t W, int64_t P, int64_t Q, float border) {
  for (int64_t i = grid_first(); i < N * P * Q; i += grid_step()) {
    const int64_t q = i % Q, p = i / Q % P, n = i / (Q * P);
    const T* a = m.data + n * m.stride;
    const float gx = static_cast<float>(2 * q + 1) / static_cast<float>(Q) - 1.0f;
    const float gy = static_cast<float>(2 * p + 1) / static_cast<float>(P) - 1.0f;
    const float u =
        static_cast<float>(a[0]) * gx + static_cast<float>(a[1]) * gy + static_cast<float>(a[2]);
    const float v =
        static_cast<float>(a[3]) * gx + static_cast<float>(a[4]) * gy + static_cast<float>(a[5]);
    const float left = ((u + 1.0f) * static_cast<float>(W) - 1.0f) / 2.0f;
    const float top = ((v + 1.0f) * static_cast<float>(H) - 1.0f) / 2.0f;
    // Far outside (or NaN) no tap is inside; this also keeps the conversions below in range.
    const bool reaches =
        left > -1.0f && left < static_cast<float>(W) && top > -1.0f && top < static_cast<float>(H);
    const float x0 = reaches ? floorf(left) : 0.0f, y0 = reaches ? floorf(top) : 0.0f;
    const float fx = left - x0, fy = top - y0;
    const int64_t w0 = static_cast<int64_t>(x0), h0 = static_cast<int64_t>(y0);
    const bool in_l = w0 >= 0, in_r = w0 + 1 < W, in_t = h0 >= 0, in_b = h0 + 1 < H;
    for (int64_t c = 0; c < y.columns; ++c) {
      float value = border;
      if (reaches) {
        const T* at = x.data + ((n * H + h0) * W + w0) * x.stride + c;
        const float tl = in_t && in_l ? static_cast<float>(at[0]) : border;
        const float tr = in_t && in_r ? static_cast<float>(at[x.stride]) : border;
        const float bl = in_b && in_l ? static_cast<float>(at[W * x.stride]) : border;
        const float br = in_b && in_r ? static_cast<float>(at[(W + 1) * x.stride]) : border;
        value = tl * (1.0f - fx) * (1.0f - fy) + tr * fx * (1.0f - fy) + bl * (1.0f - fx) * fy +
                br * fx * fy;
      }
      y.data[i * y.stride + c] = static_cast<T>(value);
    }
  }
}

// x (N,H,W,C), rows of C; a line is W of them.
template <class T>
RF_KERNEL void flip_horizontal_kernel(Rows<T> y, Rows<T> x, const uint8_t* flip, int64_t H,
                                      int64_t W) {
  for (int64_t i = grid_first(); i < y.rows * y.columns; i += grid_step()) {
    const int64_t row = i / y.columns, c = i - row * y.columns;
    const int64_t line = row / W, w = row - line * W;
    const int64_t from = flip[line / H] ? line * W + (W - 1 - w) : row;
    y.data[row * y.stride + c] = x.data[from * x.stride + c];
  }
}

// Grid (elements, samples).
template <class T>
RF_KERNEL void mix_samples_kernel(Rows<T> y, Rows<T> x, const T* lam, const int64_t* pair,
                                  int64_t samples, int64_t per_sample) {
  for (int64_t n = blockIdx.y; n < samples; n += gridDim.y) {
    const float own = static_cast<float>(lam[n]);
    const int64_t other = pair[n];
    for (int64_t i = grid_first(); i < per_sample; i += grid_step())
      element(y, n * per_sample + i) =
          static_cast<T>(own * static_cast<float>(element(x, n * per_sample + i)) +
                         (1.0f - own) * static_cast<float>(element(x, other * per_sample + i)));
  }
}

// A block of 16 x 16 threads owns a tile of d, one element each, and walks D in steps of 16 through
// shared memory. Rows of 17 keep the column reads off one bank.
constexpr int kPairTile = 16;
template <class T>
RF_KERNEL void pairwise_squared_kernel(Rows<T> d, Rows<T> a, Rows<T> b) {
  RF_SHARED(float, tile_a, kPairTile*(kPairTile + 1));
  RF_SHARED(float, tile_b, kPairTile*(kPairTile + 1));
  const int tx = threadIdx.x % kPairTile, ty = threadIdx.x / kPairTile;
  const int64_t j0 = static_cast<int64_t>(blockIdx.x) * kPairTile;
  for (int64_t i0 = static_cast<int64_t>(blockIdx.y) * kPairTile; i0 < a.rows;
       i0 += static_cast<int64_t>(gridDim.y) * kPairTile) {
    float sum = 0;
    for (int64_t k0 = 0; k0 < a.columns; k0 += kPairTile) {
      const int64_t k = k0 + tx, i = i0 + ty, j = j0 + ty;
      const bool in = k < a.columns;
      tile_a[ty * (kPairTile + 1) + tx] =
          in && i < a.rows ? static_cast<float>(a.data[i * a.stride + k]) : 0.0f;
      tile_b[ty * (kPairTile + 1) + tx] =
          in && j < b.rows ? static_cast<float>(b.data[j * b.stride + k]) : 0.0f;
      __syncthreads();
      for (int s = 0; s < kPairTile; ++s) {
        const float v = tile_a[ty * (kPairTile + 1) + s] - tile_b[tx * (kPairTile + 1) + s];
        sum += v * v;
      }
      __syncthreads();
    }
    if (i0 + ty < a.rows && j0 + tx < b.rows)
      d.data[(i0 + ty) * d.stride + j0 + tx] = static_cast<T>(sum);
  }
}

}  // namespace realfake::RF_BACKEND
