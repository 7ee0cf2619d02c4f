#include "kernels/optimizer.h"

#include "kernels/ops/checks.h"

namespace realfake {

void adamw_step(Exec& ex, const std::vector<AdamWTensor>& tensors, AdamWParams params, int64_t step,
                double grad_scale) {
  require(step >= 1, "[adamw_step] expected step >= 1, got ", step);
  for (const AdamWTensor& t : tensors) {
    expect_dense_real(ex, "adamw_step", "param", t.param);
    expect_dense_like(ex, "adamw_step", "grad", t.grad, t.param.dtype(), t.param.shape());
    expect_dense_like(ex, "adamw_step", "m", t.m, t.param.dtype(), t.param.shape());
    expect_dense_like(ex, "adamw_step", "v", t.v, t.param.dtype(), t.param.shape());
  }
  ex.ops().adamw_step(ex, tensors, params, step, grad_scale);
}

void sgd_step(Exec& ex, const std::vector<SgdTensor>& tensors, SgdParams params, int64_t step,
              double grad_scale) {
  require(step >= 1, "[sgd_step] expected step >= 1, got ", step);
  for (const SgdTensor& t : tensors) {
    expect_dense_real(ex, "sgd_step", "param", t.param);
    expect_dense_like(ex, "sgd_step", "grad", t.grad, t.param.dtype(), t.param.shape());
    expect_dense_like(ex, "sgd_step", "buffer", t.buffer, t.param.dtype(), t.param.shape());
  }
  ex.ops().sgd_step(ex, tensors, params, step, grad_scale);
}

double global_norm(Exec& ex, const std::vector<Tensor>& tensors) {
  for (const Tensor& t : tensors) expect_dense_real(ex, "global_norm", "tensor", t);
  return ex.ops().global_norm(ex, tensors);
}

void ema_update(Exec& ex, const std::vector<Tensor>& average, const std::vector<Tensor>& value,
                double decay) {
  require(average.size() == value.size(), "[ema_update] expected ", average.size(), " values, got ",
          value.size());
  for (size_t i = 0; i < average.size(); ++i) {
    expect_dense_real(ex, "ema_update", "average", average[i]);
    expect_dense_like(ex, "ema_update", "value", value[i], average[i].dtype(), average[i].shape());
  }
  ex.ops().ema_update(ex, average, value, decay);
}

}  // namespace realfake
