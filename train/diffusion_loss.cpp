#include "train/diffusion_loss.h"

#include <cmath>

#include "kernels/diffusion.h"

namespace realfake {

Matching parse_matching(const std::string& text) {
  if (text == "off") return Matching::off;
  if (text == "official") return Matching::official;
  if (text == "rbf") return Matching::rbf;
  throw UsageError("--mmd is '" + text + "', expected off, official or rbf");
}

Tensor sample_numbers(Exec& exec, const std::vector<double>& values, DType dtype) {
  const Shape shape{static_cast<int64_t>(values.size())};
  if (dtype == DType::f64) return exec.from_vector(values, shape);
  return exec.from_vector(std::vector<float>(values.begin(), values.end()), shape);
}

DiffusionLoss diffusion_loss(Tape& tape, const UNet& unet, const NoiseSchedule& schedule,
                             const Tensor& latents, const Tensor& noise,
                             const std::vector<int64_t>& timesteps, const Tensor& context,
                             const DiffusionLossOptions& options) {
  Exec& ex = tape.exec();
  const DType d = latents.dtype();
  std::vector<double> keep, add, weight;
  for (const int64_t t : timesteps) {
    if (t < 0 || t >= schedule.steps())
      throw InputError(concat("timestep: found ", t, ", expected 0..", schedule.steps() - 1));
    keep.push_back(std::sqrt(schedule.abar(t)));
    add.push_back(std::sqrt(1 - schedule.abar(t)));
    weight.push_back(schedule.min_snr_weight(t, options.snr_gamma));
  }
  const Tensor a = sample_numbers(ex, keep, d), b = sample_numbers(ex, add, d),
               w = sample_numbers(ex, weight, d);
  const Tensor noisy = ex.empty(latents.shape(), d);
  combine_samples(ex, noisy, latents, noise, a, b);
  Tensor target = noise;
  if (schedule.prediction == Prediction::velocity) {  // v = sqrt(abar) e - sqrt(1 - abar) x
    for (double& v : add) v = -v;
    target = ex.empty(latents.shape(), d);
    combine_samples(ex, target, noise, latents, a, sample_numbers(ex, add, d));
  }
  const Tensor t = ex.from_vector(timesteps, {static_cast<int64_t>(timesteps.size())});

  DiffusionLoss loss;
  loss.prediction = unet(tape, Var(noisy), t, Var(context));
  loss.denoise = weighted_mse(tape, loss.prediction, target, w);
  if (options.matching == Matching::official)
    loss.match = matching_sum(tape, loss.prediction, target, w);
  if (options.matching == Matching::rbf) loss.match = mmd_rbf(tape, loss.prediction, target);
  loss.total = loss.match.defined() && options.dist_match != 0
                   ? add_weighted(tape, loss.denoise, loss.match, options.dist_match)
                   : loss.denoise;
  return loss;
}

}  // namespace realfake
