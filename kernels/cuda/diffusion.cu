// Launchers of kernels/diffusion.h.
#include "kernels/cuda/diffusion.cuh"

namespace realfake::RF_BACKEND {

void combine_samples(Exec& ex, Out y, In x, In e, In a, In b) {
  require_f32("combine_samples", y, x, e, a, b);
  const int64_t samples = x.dim(0), per_sample = elements_per_sample(x);
  launch(combine_samples_kernel<float>, sample_grid(samples, per_sample), kBlock, 0, ex,
         rows_of<float>(y), rows_of<float>(x), rows_of<float>(e), a.data<float>(), b.data<float>(),
         samples, per_sample);
}

void posterior_sample_forward(Exec& ex, Out z, In moments, In e, double factor) {
  require_f32("posterior_sample_forward", z, moments, e);
  launch(posterior_sample_forward_kernel<float>, grid_for(z.numel()), kBlock, 0, ex,
         rows_of<float>(z), rows_of<float>(moments), rows_of<float>(e), factor);
}

void posterior_sample_backward(Exec& ex, GradOut dmoments, In dz, In moments, In e, double factor) {
  if (!dmoments.wanted()) return;
  require_f32("posterior_sample_backward", dmoments.tensor, dz, moments, e);
  launch(posterior_sample_backward_kernel<float>, grid_for(dz.numel()), kBlock, 0, ex,
         rows_of<float>(dmoments.tensor), rows_of<float>(dz), rows_of<float>(moments),
         rows_of<float>(e), factor, dmoments.accumulate());
}

void guided_step(Exec& ex, Out y, In x, In model_output, In noise, double guidance, double cx,
                 double ce, double cn) {
  require_f32("guided_step", y, x, model_output, noise);
  launch(guided_step_kernel<float>, grid_for(y.numel()), kBlock, 0, ex, rows_of<float>(y),
         rows_of<float>(x), rows_of<float>(model_output), rows_or_none<float>(noise),
         model_output.numel() == 2 * x.numel(), guidance, cx, ce, cn);
}

}  // namespace realfake::RF_BACKEND
