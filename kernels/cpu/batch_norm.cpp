#include <algorithm>
#include <cmath>

#include "kernels/backend.h"
#include "kernels/cpu/norm_blocks.h"

namespace realfake::cpu {
namespace {

template <class T>
void batch_norm_apply(Out y, In x, In residual, const Channels<T>& ch, bool relu) {
  const int64_t c = x.columns();
  parallel_for(x.rows(), grain_of(c * 2), [&](int64_t begin, int64_t end) {
    Matrix<const T> add;
    if (residual.defined()) add = matrix<const T>(residual, begin);
    block_apply(relu ? Act::relu : Act::none, matrix<T>(y, begin), matrix<const T>(x, begin), add,
                ch, end - begin, c);
  });
}

}  // namespace

void batch_norm_forward(Exec&, Out y, Out mean, Out rstd, Out running_mean, Out running_var, In x,
                        In gamma, In beta, In residual, double eps, double momentum, bool relu) {
  dispatch_real(x.dtype(), "batch_norm_forward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t c = x.columns(), rows = x.rows();
    const auto count = static_cast<double>(rows);
    T *pm = mean.data<T>(), *ps = rstd.data<T>();
    T *rm = running_mean.data<T>(), *rv = running_var.data<T>();
    const auto sums_of = [&](const T* centre) {
      return chunked_sums(rows, c, 1, [&](double* sums, int64_t first, int64_t n) {
        block_sums(sums, scratch<T, 50>(c), matrix<const T>(x, first), centre, n, c);
      });
    };
    const auto blend = [&](T& running, double batch) {
      running = static_cast<T>((1 - momentum) * static_cast<double>(running) + momentum * batch);
    };
    const double* sums = sums_of(nullptr);
    for (int64_t j = 0; j < c; ++j) {
      pm[j] = static_cast<T>(sums[j] / count);
      blend(rm[j], sums[j] / count);
    }
    sums = sums_of(pm);
    for (int64_t j = 0; j < c; ++j) {
      ps[j] = static_cast<T>(1 / std::sqrt(sums[j] / count + eps));
      blend(rv[j], sums[j] / std::max(count - 1, 1.0));
    }
    batch_norm_apply<T>(y, x, residual, {pm, ps, gamma.data<T>(), beta.data<T>()}, relu);
  });
}

void batch_norm_backward(Exec&, GradOut dx, GradOut dgamma, GradOut dbeta, GradOut dresidual, In dy,
                         In x, In y, In mean, In rstd, In gamma, bool relu) {
  dispatch_real(x.dtype(), "batch_norm_backward", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t c = x.columns(), rows = x.rows();
    const Act act = relu ? Act::relu : Act::none;
    const Channels<T> ch{mean.data<T>(), rstd.data<T>(), gamma.data<T>(), nullptr};
    const auto mask = [&](int64_t row) {
      return relu ? matrix<const T>(y, row) : Matrix<const T>{};
    };
    const double* sums = chunked_sums(rows, c, 2, [&](double* own, int64_t first, int64_t n) {
      block_grad_sums(act, own, scratch<T, 50>(2 * c), matrix<const T>(dy, first),
                      matrix<const T>(x, first), mask(first), ch, n, c);
    });
    T* shift = scratch<T, 54>(2 * c);
    T* slope = shift + c;
    for (int64_t j = 0; j < c; ++j) {
      const double g = static_cast<double>(ch.gamma[j]) / static_cast<double>(rows);
      slope[j] = static_cast<T>(g * sums[j]);
      shift[j] = static_cast<T>(g * sums[c + j]);
    }
    store<T>(dgamma, sums, c);
    store<T>(dbeta, sums + c, c);
    if (!dx.wanted() && !dresidual.wanted()) return;
    parallel_for(rows, grain_of(c * 4), [&](int64_t begin, int64_t end) {
      Matrix<T> to, to_residual;
      if (dx.wanted()) to = matrix<T>(dx.tensor, begin);
      if (dresidual.wanted()) to_residual = matrix<T>(dresidual.tensor, begin);
      block_grad(act, to, dx.accumulate(), to_residual, dresidual.accumulate(),
                 matrix<const T>(dy, begin), matrix<const T>(x, begin), mask(begin), ch, shift,
                 slope, end - begin, c);
    });
  });
}

void batch_norm_inference(Exec&, Out y, In running_mean, In running_var, In x, In gamma, In beta,
                          In residual, double eps, bool relu) {
  dispatch_real(x.dtype(), "batch_norm_inference", [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t c = x.columns();
    T* rstds = scratch<T, 54>(c);
    const T* var = running_var.data<T>();
    for (int64_t j = 0; j < c; ++j)
      rstds[j] = static_cast<T>(1 / std::sqrt(static_cast<double>(var[j]) + eps));
    batch_norm_apply<T>(y, x, residual,
                        {running_mean.data<T>(), rstds, gamma.data<T>(), beta.data<T>()}, relu);
  });
}

}  // namespace realfake::cpu
