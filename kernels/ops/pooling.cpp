#include "kernels/pooling.h"

#include <limits>

#include "kernels/ops/checks.h"

namespace realfake {

namespace {
void expect_image(Exec& ex, const char* op, const char* name, In x) {
  expect_dense_real(ex, op, name, x);
  expect_rank(op, name, x, 4, 4);
}
// The two sides of an upsampling: same N and C.
void expect_resized(Exec& ex, const char* op, const char* small, In x, const char* large, In y) {
  expect_image(ex, op, small, x);
  expect_image(ex, op, large, y);
  expect_dense_like(ex, op, large, y, x.dtype(), {x.dim(0), y.dim(1), y.dim(2), x.dim(3)});
  require(x.numel() > 0 || y.numel() == 0, "[", op, "] expected ", small,
          " with pixels, got shape ", x.shape());
}
}  // namespace

void global_average_pool_forward(Exec& ex, Out y, In x) {
  expect_image(ex, "global_average_pool_forward", "x", x);
  expect_dense_like(ex, "global_average_pool_forward", "y", y, x.dtype(), {x.dim(0), x.dim(3)});
  ex.ops().global_average_pool_forward(ex, y, x);
}

void global_average_pool_backward(Exec& ex, GradOut dx, In dy) {
  if (!dx.wanted()) return;
  expect_image(ex, "global_average_pool_backward", "dx", dx.tensor);
  expect_dense_like(ex, "global_average_pool_backward", "dy", dy, dx.tensor.dtype(),
                    {dx.tensor.dim(0), dx.tensor.dim(3)});
  ex.ops().global_average_pool_backward(ex, dx, dy);
}

void max_pool_forward(Exec& ex, Out y, Out index, In x, int kernel, int stride, int padding) {
  expect_image(ex, "max_pool_forward", "x", x);
  require(kernel > 0 && stride > 0 && padding >= 0 && 2 * padding <= kernel,
          "[max_pool_forward] expected kernel > 0, stride > 0, 0 <= padding <= kernel / 2, got ",
          kernel, ", ", stride, ", ", padding);
  require(x.dim(1) + 2 * padding >= kernel && x.dim(2) + 2 * padding >= kernel,
          "[max_pool_forward] expected x of at least the kernel's size ", kernel, ", got ",
          x.shape());
  const Shape out{x.dim(0), (x.dim(1) + 2 * padding - kernel) / stride + 1,
                  (x.dim(2) + 2 * padding - kernel) / stride + 1, x.dim(3)};
  expect_dense_like(ex, "max_pool_forward", "y", y, x.dtype(), out);
  expect_dense_like(ex, "max_pool_forward", "index", index, DType::i32, out);
  require(x.dim(1) * x.dim(2) <= std::numeric_limits<int32_t>::max(),
          "[max_pool_forward] expected H W < 2^31, got ", x.shape());
  ex.ops().max_pool_forward(ex, y, index, x, kernel, stride, padding);
}

void max_pool_backward(Exec& ex, GradOut dx, In dy, In index) {
  if (!dx.wanted()) return;
  expect_image(ex, "max_pool_backward", "dx", dx.tensor);
  expect_image(ex, "max_pool_backward", "dy", dy);
  expect_dense_like(ex, "max_pool_backward", "dy", dy, dx.tensor.dtype(),
                    {dx.tensor.dim(0), dy.dim(1), dy.dim(2), dx.tensor.dim(3)});
  expect_dense_like(ex, "max_pool_backward", "index", index, DType::i32, dy.shape());
  ex.ops().max_pool_backward(ex, dx, dy, index);
}

void upsample_nearest_forward(Exec& ex, Out y, In x) {
  expect_resized(ex, "upsample_nearest_forward", "x", x, "y", y);
  ex.ops().upsample_nearest_forward(ex, y, x);
}

void upsample_nearest_backward(Exec& ex, GradOut dx, In dy) {
  if (!dx.wanted()) return;
  expect_resized(ex, "upsample_nearest_backward", "dx", dx.tensor, "dy", dy);
  ex.ops().upsample_nearest_backward(ex, dx, dy);
}

}  // namespace realfake
