// Launchers of kernels/pooling.h.
#include "kernels/cuda/pooling.cuh"

namespace realfake::RF_BACKEND {

namespace {
ImagePair image_pair(const Tensor& x, const Tensor& y) {
  return {x.dim(0), x.dim(1), x.dim(2), x.dim(3), y.dim(1), y.dim(2)};
}
}  // namespace

void global_average_pool_forward(Exec& ex, Out y, In x) {
  require_f32("global_average_pool_forward", y, x);
  launch(global_average_pool_forward_kernel<float>, grid_for(y.numel()), kBlock, 0, ex,
         y.data<float>(), x.data<float>(), x.dim(0), x.dim(1) * x.dim(2), x.dim(3));
}

void global_average_pool_backward(Exec& ex, GradOut dx, In dy) {
  if (!dx.wanted()) return;
  require_f32("global_average_pool_backward", dx.tensor, dy);
  const Tensor& t = dx.tensor;
  launch(global_average_pool_backward_kernel<float>, grid_for(t.numel()), kBlock, 0, ex,
         t.data<float>(), dy.data<float>(), t.dim(0), t.dim(1) * t.dim(2), t.dim(3),
         dx.accumulate());
}

void max_pool_forward(Exec& ex, Out y, Out index, In x, int kernel, int stride, int padding) {
  require_f32("max_pool_forward", y, x);
  require(x.dim(1) * x.dim(2) <= INT32_MAX, "[max_pool_forward] image of ", x.shape().str(),
          " does not fit an i32 index");
  launch(max_pool_forward_kernel<float>, grid_for(y.numel()), kBlock, 0, ex, y.data<float>(),
         index.data<int32_t>(), x.data<float>(), image_pair(x, y), kernel, stride, padding);
}

void max_pool_backward(Exec& ex, GradOut dx, In dy, In index) {
  if (!dx.wanted()) return;
  require_f32("max_pool_backward", dx.tensor, dy);
  const ImagePair s = image_pair(dx.tensor, dy);
  const Tensor span = ex.empty({s.P + s.Q, 2}, DType::i32);
  const Tensor reach = ex.empty({s.H + s.W, 2}, DType::i32);
  launch(max_pool_span_kernel<int32_t>, grid_for(s.P + s.Q, 1), kBlock, 0, ex, span.data<int32_t>(),
         index.data<int32_t>(), s);
  launch(max_pool_reach_kernel<int32_t>, grid_for(s.H + s.W), kBlock, 0, ex, reach.data<int32_t>(),
         span.data<int32_t>(), s);
  launch(max_pool_backward_kernel<float>, grid_for(dx.tensor.numel()), kBlock, 0, ex,
         dx.tensor.data<float>(), dy.data<float>(), index.data<int32_t>(), reach.data<int32_t>(), s,
         dx.accumulate());
}

void upsample_nearest_forward(Exec& ex, Out y, In x) {
  require_f32("upsample_nearest_forward", y, x);
  launch(upsample_nearest_forward_kernel<float>, grid_for(y.numel()), kBlock, 0, ex,
         y.data<float>(), x.data<float>(), image_pair(x, y));
}

void upsample_nearest_backward(Exec& ex, GradOut dx, In dy) {
  if (!dx.wanted()) return;
  require_f32("upsample_nearest_backward", dx.tensor, dy);
  launch(upsample_nearest_backward_kernel<float>, grid_for(dx.tensor.numel()), kBlock, 0, ex,
         dx.tensor.data<float>(), dy.data<float>(), image_pair(dx.tensor, dy), dx.accumulate());
}

}  // namespace realfake::RF_BACKEND
