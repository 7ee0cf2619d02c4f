#include <dnnl.h>

#include <algorithm>

#include "kernels/backend.h"
#include "kernels/cpu/parallel.h"

namespace realfake::cpu {
namespace {

struct Problem {
  int64_t m, n, k, lda, ldb, ldc;
  bool trans_a, trans_b;
  double alpha, beta;
};

// c = beta c over a range of rows; beta == 0 writes without reading.
template <class T>
void scale_rows(T* c, const Problem& p, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    T* row = c + i * p.ldc;
    if (p.beta == 0) {
      std::fill(row, row + p.n, T(0));
    } else if (p.beta != 1) {
      for (int64_t j = 0; j < p.n; ++j) row[j] *= static_cast<T>(p.beta);
    }
  }
}

void multiply(const float* a, const float* b, float* c, const Problem& p) {
  const dnnl_status_t status = dnnl_sgemm(p.trans_a ? 'T' : 'N', p.trans_b ? 'T' : 'N', p.m, p.n,
                                          p.k, static_cast<float>(p.alpha), a, p.lda, b, p.ldb,
                                          static_cast<float>(p.beta), c, p.ldc);
  require(status == dnnl_success, "[gemm] oneDNN sgemm failed with status ",
          static_cast<int>(status));
}

// Row i of c gathers rows of op(b) weighted by row i of op(a), in panels of op(b) that stay in
// cache.
void multiply(const double* a, const double* b, double* c, const Problem& p) {
  constexpr int64_t deep = 128, wide = 256;
  const auto rows = [&](int64_t begin, int64_t end) {
    scale_rows(c, p, begin, end);
    double* panel = scratch<double, 40>(deep * wide);  // op(b)[k0:k1, j0:j1], row-major
    for (int64_t k0 = 0; k0 < p.k; k0 += deep)
      for (int64_t j0 = 0; j0 < p.n; j0 += wide) {
        const int64_t kn = std::min(deep, p.k - k0), jn = std::min(wide, p.n - j0);
        for (int64_t k = 0; k < kn; ++k)
          for (int64_t j = 0; j < jn; ++j)
            panel[k * wide + j] =
                p.trans_b ? b[(j0 + j) * p.ldb + k0 + k] : b[(k0 + k) * p.ldb + j0 + j];
        for (int64_t i = begin; i < end; ++i) {
          double* row = c + i * p.ldc + j0;
          for (int64_t k = 0; k < kn; ++k) {
            const double weight =
                p.alpha * (p.trans_a ? a[(k0 + k) * p.lda + i] : a[i * p.lda + k0 + k]);
            const double* from = panel + k * wide;
#pragma omp simd
            for (int64_t j = 0; j < jn; ++j) row[j] += weight * from[j];
          }
        }
      }
  };
  parallel_for(p.m, grain_of(p.n * p.k), rows);
}

}  // namespace

void gemm(Exec&, Out c, In a, In b, bool trans_a, bool trans_b, double alpha, double beta) {
  dispatch_real(c.dtype(), "gemm", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto stride = [](In t) { return std::max<int64_t>(t.row_stride(), t.columns()); };
    const Problem p{c.dim(-2), c.dim(-1), a.dim(trans_a ? -2 : -1),
                    stride(a), stride(b), stride(c),
                    trans_a,   trans_b,   alpha,
                    beta};
    const int64_t batch = c.rank() == 3 ? c.dim(0) : 1;
    if (batch == 0 || p.m == 0 || p.n == 0) return;
    const T* pa = a.data<T>();
    const T* pb = b.data<T>();
    T* pc = c.data<T>();
    const auto one = [&](int64_t i) {
      T* ci = pc + i * p.m * p.ldc;
      if (p.k == 0) {
        scale_rows(ci, p, 0, p.m);
      } else {
        multiply(pa + i * a.dim(-2) * p.lda, pb + i * b.dim(-2) * p.ldb, ci, p);
      }
    };
    // Many small products share the threads between them; within a parallel region each runs on
    // one.
    const int64_t each = p.m * p.n * std::max<int64_t>(p.k, 1);
    constexpr int64_t small = 1 << 21;
    if (batch > 1 && each < small) {
      parallel_for(batch, grain_of(each / 16), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) one(i);
      });
    } else {
      for (int64_t i = 0; i < batch; ++i) one(i);
    }
  });
}

}  // namespace realfake::cpu
