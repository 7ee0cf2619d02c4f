#include "kernels/pooling.h"

#include <cstring>

#include "kernels/backend.h"
#include "kernels/cpu/spans.h"
#include "kernels/cpu/vector.h"

namespace realfake::cpu {

namespace {

// One tap of a max pool over C channels; NaN wins, as in torch.
template <class T>
RF_INLINE void take_max_loop(int64_t C, const T* x, int32_t place, T* best, int32_t* index) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) {
    const bool wins = x[c] > best[c] || x[c] != x[c];
    best[c] = wins ? x[c] : best[c];
    index[c] = wins ? place : index[c];
  }
}
RF_CLONES void take_max(int64_t C, const float* x, int32_t place, float* best, int32_t* index) {
  take_max_loop(C, x, place, best, index);
}
void take_max(int64_t C, const double* x, int32_t place, double* best, int32_t* index) {
  take_max_loop(C, x, place, best, index);
}

template <class T>
RF_INLINE void accumulate_loop(int64_t n, T* y, const T* x) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

}  // namespace

void global_average_pool_forward(Exec&, Out y, In x) {
  dispatch_real(x.dtype(), "global_average_pool_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = x.dim(0), area = x.dim(1) * x.dim(2), C = x.dim(3);
    const T* from = x.data<T>();
    T* to = y.data<T>();
    parallel_for(N, grain_of(area * C), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        for (int64_t c0 = 0; c0 < C; c0 += sum_columns) {
          const int64_t count = std::min(sum_columns, C - c0);
          double sums[sum_columns] = {};
          sum_rows(area, count, from + n * area * C + c0, C, sums);
          for (int64_t c = 0; c < count; ++c)
            to[n * C + c0 + c] = T(sums[c] / static_cast<double>(area));
        }
    });
  });
}

void global_average_pool_backward(Exec&, GradOut dx, In dy) {
  if (!dx.wanted()) return;
  dispatch_real(dy.dtype(), "global_average_pool_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = dx.tensor.dim(0), area = dx.tensor.dim(1) * dx.tensor.dim(2), C = dy.dim(1);
    const T* from = dy.data<T>();
    T* to = dx.tensor.data<T>();
    const T factor = T(1.0 / static_cast<double>(area));
    parallel_for(N * area, grain_of(C), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* g = from + i / area * C;
        T* d = to + i * C;
        if (dx.accumulate())
          for (int64_t c = 0; c < C; ++c) d[c] += factor * g[c];
        else
          for (int64_t c = 0; c < C; ++c) d[c] = factor * g[c];
      }
    });
  });
}

void max_pool_forward(Exec&, Out y, Out index, In x, int kernel, int stride, int padding) {
  dispatch_real(x.dtype(), "max_pool_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = x.dim(0), H = x.dim(1), W = x.dim(2), C = x.dim(3);
    const int64_t P = y.dim(1), Q = y.dim(2);
    const T* from = x.data<T>();
    T* to = y.data<T>();
    int32_t* place = index.data<int32_t>();
    parallel_for(N * P, grain_of(Q * C * kernel * kernel), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* image = from + i / P * H * W * C;
        const int64_t h0 = i % P * stride - padding;
        const int64_t ha = std::max<int64_t>(0, h0), hb = std::min(H, h0 + kernel);
        for (int64_t q = 0; q < Q; ++q) {
          const int64_t w0 = q * stride - padding;
          const int64_t wa = std::max<int64_t>(0, w0), wb = std::min(W, w0 + kernel);
          T* best = to + (i * Q + q) * C;
          int32_t* winner = place + (i * Q + q) * C;
          std::copy_n(image + (ha * W + wa) * C, C, best);
          std::fill_n(winner, C, static_cast<int32_t>(ha * W + wa));
          for (int64_t h = ha; h < hb; ++h)
            for (int64_t w = h == ha ? wa + 1 : wa; w < wb; ++w)
              take_max(C, image + (h * W + w) * C, static_cast<int32_t>(h * W + w), best, winner);
        }
      }
    });
  });
}

void max_pool_backward(Exec&, GradOut dx, In dy, In index) {
  if (!dx.wanted()) return;
  dispatch_real(dy.dtype(), "max_pool_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = dy.dim(0), area = dx.tensor.dim(1) * dx.tensor.dim(2);
    const int64_t C = dy.dim(3), out = dy.dim(1) * dy.dim(2);
    const T* from = dy.data<T>();
    const int32_t* place = index.data<int32_t>();
    T* to = dx.tensor.data<T>();
    // One sample is one thread's: windows overlap, and their order is the order of the sum.
    parallel_for(N, grain_of((area + out) * C), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        T* image = to + n * area * C;
        if (!dx.accumulate()) std::fill_n(image, area * C, T(0));
        for (int64_t i = n * out; i < (n + 1) * out; ++i)
          for (int64_t c = 0; c < C; ++c) image[place[i * C + c] * C + c] += from[i * C + c];
      }
    });
  });
}

void upsample_nearest_forward(Exec&, Out y, In x) {
  dispatch_real(x.dtype(), "upsample_nearest_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = x.dim(0), H = x.dim(1), W = x.dim(2), C = x.dim(3);
    const int64_t P = y.dim(1), Q = y.dim(2);
    const T* from = x.data<T>();
    T* to = y.data<T>();
    parallel_for(N * P, grain_of(Q * C), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = from + (i / P * H + i % P * H / P) * W * C;
        for (int64_t q = 0; q < Q; ++q)
          std::memcpy(to + (i * Q + q) * C, row + q * W / Q * C,
                      static_cast<size_t>(C) * sizeof(T));
      }
    });
  });
}

void upsample_nearest_backward(Exec&, GradOut dx, In dy) {
  if (!dx.wanted()) return;
  dispatch_real(dy.dtype(), "upsample_nearest_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t N = dy.dim(0), P = dy.dim(1), Q = dy.dim(2), C = dy.dim(3);
    const int64_t H = dx.tensor.dim(1), W = dx.tensor.dim(2);
    const T* from = dy.data<T>();
    T* to = dx.tensor.data<T>();
    // The outputs p with p * H / P == h are those from ceil(h P / H) to before ceil((h + 1) P / H).
    const auto first = [](int64_t h, int64_t size, int64_t outputs) {
      return (h * outputs + size - 1) / size;
    };
    parallel_for(N * H, grain_of(P / H * Q * C), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / H, h = i % H;
        T* row = to + i * W * C;
        if (!dx.accumulate()) std::fill_n(row, W * C, T(0));
        for (int64_t p = first(h, H, P); p < first(h + 1, H, P); ++p)
          for (int64_t w = 0; w < W; ++w)
            for (int64_t q = first(w, W, Q); q < first(w + 1, W, Q); ++q)
              accumulate_loop(C, row + w * C, from + ((n * P + p) * Q + q) * C);
      }
    });
  });
}

}  // namespace realfake::cpu
