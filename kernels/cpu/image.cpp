#include "kernels/image.h"

#include <cmath>

#include "kernels/backend.h"
#include "kernels/cpu/spans.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {

namespace {

constexpr int64_t tile = 64;  // pixels whose positions are computed together

// Source positions of `count` pixels of one output row, from column q0: u = a x + (b y + c) and so
// on, as pixel indices. Held to [-2, size + 1], where every tap lies outside; NaN becomes -2.
template <class T>
RF_INLINE T held(T v, T size) {
  v = v > T(-2) ? v : T(-2);
  return v < size + T(1) ? v : size + T(1);
}
template <class T>
RF_INLINE void positions_loop(int64_t count, int64_t q0, int64_t Q, T y, const T* m, int64_t H,
                              int64_t W, T* column, T* row) {
  const T u0 = m[1] * y + m[2], v0 = m[4] * y + m[5];
  const T height = static_cast<T>(H), width = static_cast<T>(W), scale = T(1) / static_cast<T>(Q);
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const T x = static_cast<T>(static_cast<int>(2 * (q0 + i) + 1)) * scale - T(1);
    const T u = m[0] * x + u0, v = m[3] * x + v0;
    column[i] = held(((u + T(1)) * width - T(1)) / T(2), width);
    row[i] = held(((v + T(1)) * height - T(1)) / T(2), height);
  }
}
RF_CLONES void positions(int64_t count, int64_t q0, int64_t Q, float y, const float* m, int64_t H,
                         int64_t W, float* column, float* row) {
  positions_loop(count, q0, Q, y, m, H, W, column, row);
}
void positions(int64_t count, int64_t q0, int64_t Q, double y, const double* m, int64_t H,
               int64_t W, double* column, double* row) {
  positions_loop(count, q0, Q, y, m, H, W, column, row);
}

// One pixel: the four taps around (row, column), those outside having the value `border`.
template <class T>
void sample_pixel(T* to, const T* image, int64_t H, int64_t W, int64_t C, T row, T column,
                  T border) {
  const T top = std::floor(row), left = std::floor(column);
  const int64_t h = static_cast<int64_t>(top), w = static_cast<int64_t>(left);
  const T fh = row - top, fw = column - left;
  const T w00 = (T(1) - fh) * (T(1) - fw), w01 = (T(1) - fh) * fw, w10 = fh * (T(1) - fw),
          w11 = fh * fw;
  if (h >= 0 && h + 1 < H && w >= 0 && w + 1 < W) {
    const T* p = image + (h * W + w) * C;
    const T* below = p + W * C;
    for (int64_t c = 0; c < C; ++c)
      to[c] = w00 * p[c] + w01 * p[C + c] + w10 * below[c] + w11 * below[C + c];
    return;
  }
  const auto tap = [&](int64_t i, int64_t j, int64_t c) {
    return i >= 0 && i < H && j >= 0 && j < W ? image[(i * W + j) * C + c] : border;
  };
  for (int64_t c = 0; c < C; ++c)
    to[c] = w00 * tap(h, w, c) + w01 * tap(h, w + 1, c) + w10 * tap(h + 1, w, c) +
            w11 * tap(h + 1, w + 1, c);
}

}  // namespace

void normalize_u8(Exec&, Out y, In x, In mean, In std) {
  dispatch_real(y.dtype(), "normalize_u8", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t C = y.dim(3);
    const T *m = mean.data<T>(), *s = std.data<T>();
    const uint8_t* from = x.data<uint8_t>();
    T* to = y.data<T>();
    parallel_for(y.rows(), grain_of(C * 2), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < C; ++c)
          to[r * C + c] = (static_cast<T>(from[r * C + c]) / T(255) - m[c]) / s[c];
    });
  });
}

void quantize_u8(Exec&, Out y, In x) {
  dispatch_real(x.dtype(), "quantize_u8", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = x.data<T>();
    uint8_t* to = y.data<uint8_t>();
    parallel_for(x.numel(), grain_of(4), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T v = (from[i] + T(1)) / T(2);
        const T inside = v > T(0) ? (v < T(1) ? v : T(1)) : T(0);  // NaN becomes 0
        to[i] = static_cast<uint8_t>(std::nearbyint(inside * T(255)));
      }
    });
  });
}

void affine_sample(Exec&, Out y, In x, In m, double border) {
  dispatch_real(y.dtype(), "affine_sample", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = x.dim(0), H = x.dim(1), W = x.dim(2), C = x.dim(3);
    const int64_t P = y.dim(1), Q = y.dim(2);
    parallel_for(N * P, grain_of(Q * (8 + 4 * C)), [&](int64_t begin, int64_t end) {
      T column[tile], row[tile];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / P, p = i % P;
        const T* image = x.data<T>() + n * H * W * C;
        T* to = y.data<T>() + i * Q * C;
        const T v = static_cast<T>(2 * p + 1) / static_cast<T>(P) - T(1);
        for (int64_t q0 = 0; q0 < Q; q0 += tile) {
          const int64_t count = std::min(tile, Q - q0);
          positions(count, q0, Q, v, m.data<T>() + n * 6, H, W, column, row);
          for (int64_t q = 0; q < count; ++q)
            sample_pixel(to + (q0 + q) * C, image, H, W, C, row[q], column[q], T(border));
        }
      }
    });
  });
}

void flip_horizontal(Exec&, Out y, In x, In flip) {
  dispatch_real(y.dtype(), "flip_horizontal", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = x.dim(0), H = x.dim(1), W = x.dim(2), C = x.dim(3);
    const uint8_t* mirrored = flip.data<uint8_t>();
    parallel_for(N * H, grain_of(W * C), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* from = x.data<T>() + i * W * C;
        T* to = y.data<T>() + i * W * C;
        if (mirrored[i / H] == 0)
          std::copy_n(from, W * C, to);
        else
          for (int64_t w = 0; w < W; ++w) std::copy_n(from + (W - 1 - w) * C, C, to + w * C);
      }
    });
  });
}

void mix_samples(Exec&, Out y, In x, In lam, In pair) {
  if (y.numel() == 0) return;
  dispatch_real(y.dtype(), "mix_samples", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = x.dim(0), per = x.numel() / N;
    parallel_for(N, grain_of(per * 2), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const T* a = x.data<T>() + n * per;
        const T* b = x.data<T>() + pair.data<int64_t>()[n] * per;
        T* to = y.data<T>() + n * per;
        const T l = lam.data<T>()[n], rest = T(1) - l;
        for (int64_t i = 0; i < per; ++i) to[i] = l * a[i] + rest * b[i];
      }
    });
  });
}

void pairwise_squared(Exec&, Out d, In a, In b) {
  dispatch_real(d.dtype(), "pairwise_squared", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = a.dim(0), M = b.dim(0), D = a.dim(1);
    // Tiles of b that stay in cache while a block of a's rows passes.
    const int64_t width = std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(1, D));
    parallel_for(N, grain_of(M * D), [&](int64_t begin, int64_t end) {
      for (int64_t m0 = 0; m0 < M; m0 += width)
        for (int64_t n = begin; n < end; ++n)
          for (int64_t m = m0; m < std::min(M, m0 + width); ++m)
            d.data<T>()[n * M + m] =
                T(squared_distance_span(D, a.data<T>() + n * D, b.data<T>() + m * D));
    });
  });
}

}  // namespace realfake::cpu
