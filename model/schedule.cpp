#include "model/schedule.h"

#include <algorithm>
#include <cmath>

namespace realfake {
namespace {

// torch.linspace in float32: from both ends, so that both end values are exact.
std::vector<float> linspace(float first, float last, int64_t n) {
  std::vector<float> v(static_cast<size_t>(n));
  const float step = n > 1 ? (last - first) / static_cast<float>(n - 1) : 0.0f;
  for (int64_t i = 0; i < n; ++i)
    v[static_cast<size_t>(i)] = i < n / 2 ? first + step * static_cast<float>(i)
                                          : last - step * static_cast<float>(n - 1 - i);
  return v;
}

}  // namespace

NoiseSchedule NoiseSchedule::read(const JsonReader& j) {
  NoiseSchedule s;
  const int64_t n = j.integer_or("num_train_timesteps", 1000, 2, 1000000);
  const auto first = static_cast<float>(j.number_or("beta_start", 0.0001));
  const auto last = static_cast<float>(j.number_or("beta_end", 0.02));
  const std::string kind = j.text_or("beta_schedule", "linear");
  std::vector<float> betas;
  if (kind == "scaled_linear") {
    betas = linspace(std::sqrt(first), std::sqrt(last), n);
    for (float& b : betas) b *= b;
  } else if (kind == "linear") {
    betas = linspace(first, last, n);
  } else {
    throw InputError(concat(j.where(), ": 'beta_schedule' ", kind,
                            " is not supported (supported: linear, scaled_linear)"));
  }
  float product = 1;
  for (const float b : betas) {
    product *= 1.0f - b;
    if (!(product > 0 && product < 1))
      throw InputError(
          concat(j.where(), ": 'beta_start' and 'beta_end' give an alpha product of ", product));
    s.alphas_cumprod.push_back(product);
  }
  const std::string prediction = j.text_or("prediction_type", "epsilon");
  if (prediction == "v_prediction")
    s.prediction = Prediction::velocity;
  else if (prediction != "epsilon")
    throw InputError(concat(j.where(), ": 'prediction_type' ", prediction,
                            " is not supported (supported: epsilon, v_prediction)"));
  if (j.has("trained_betas") || j.boolean_or("rescale_betas_zero_snr", false) ||
      j.boolean_or("thresholding", false))
    throw InputError(
        concat(j.where(),
               ": 'trained_betas', 'rescale_betas_zero_snr' and 'thresholding' are not supported"));
  s.set_alpha_to_one = j.boolean_or("set_alpha_to_one", true);
  s.steps_offset = j.integer_or("steps_offset", 0, 0, n - 1);
  s.spacing = j.text_or("timestep_spacing", "leading");
  if (s.spacing != "leading" && s.spacing != "trailing" && s.spacing != "linspace")
    throw InputError(concat(j.where(), ": 'timestep_spacing' ", s.spacing,
                            " is not supported (supported: leading, trailing, linspace)"));
  if (j.boolean_or("clip_sample", false))
    throw InputError(
        concat(j.where(), ": 'clip_sample' true is not supported (Stable Diffusion has false)"));
  return s;
}

NoiseSchedule NoiseSchedule::stable_diffusion() {
  const Json config = {{"num_train_timesteps", 1000}, {"beta_start", 0.00085},
                       {"beta_end", 0.012},           {"beta_schedule", "scaled_linear"},
                       {"set_alpha_to_one", false},   {"steps_offset", 1}};
  return read(JsonReader(config, "built-in schedule"));
}

double NoiseSchedule::min_snr_weight(int64_t t, double gamma) const {
  if (gamma == 0) return 1;
  const double ratio = snr(t);
  return std::min(ratio, gamma) / (prediction == Prediction::velocity ? ratio + 1 : ratio);
}

std::vector<int64_t> ddim_timesteps(const NoiseSchedule& s, int64_t steps) {
  const int64_t n = s.steps();
  if (steps < 1 || steps > n)
    throw UsageError(concat("--num_inference_steps is ", steps, ", expected 1..", n));
  std::vector<int64_t> t;
  if (s.spacing == "leading") {
    for (int64_t i = steps - 1; i >= 0; --i) t.push_back(i * (n / steps) + s.steps_offset);
  } else if (s.spacing == "trailing") {
    for (int64_t i = 0; i < steps; ++i) {
      // numpy: round(arange(n, 0, -n / steps)) - 1, rounding halves to even
      const double v = static_cast<double>(n) -
                       static_cast<double>(i) * static_cast<double>(n) / static_cast<double>(steps);
      t.push_back(static_cast<int64_t>(std::nearbyint(v)) - 1);
    }
  } else {
    for (int64_t i = steps - 1; i >= 0; --i) {
      const double v = steps > 1 ? static_cast<double>(i) * static_cast<double>(n - 1) /
                                       static_cast<double>(steps - 1)
                                 : 0;
      t.push_back(static_cast<int64_t>(std::nearbyint(v)));
    }
  }
  for (int64_t& v : t) v = std::clamp<int64_t>(v, 0, n - 1);
  return t;
}

std::vector<StepCoefficients> ddim_steps(const NoiseSchedule& s, const SamplerOptions& o) {
  if (!(o.strength > 0 && o.strength <= 1))
    throw UsageError(concat("--strength is ", o.strength, ", expected (0, 1]"));
  if (!(o.eta >= 0 && o.eta <= 1))
    throw UsageError(concat("--eta is ", o.eta, ", expected [0, 1]"));
  const std::vector<int64_t> all = ddim_timesteps(s, o.steps);
  const auto run =
      std::min<int64_t>(static_cast<int64_t>(static_cast<double>(o.steps) * o.strength), o.steps);
  if (run < 1)
    throw UsageError(
        concat("--strength ", o.strength, " of ", o.steps, " steps leaves none to run"));
  const double final_abar = s.set_alpha_to_one ? 1.0 : s.abar(0);
  std::vector<StepCoefficients> out;
  for (int64_t i = o.steps - run; i < o.steps; ++i) {
    const int64_t t = all[static_cast<size_t>(i)], previous = t - s.steps() / o.steps;
    const double a = s.abar(t), p = previous >= 0 ? s.abar(previous) : final_abar;
    const double sigma = o.eta * std::sqrt((1 - p) / (1 - a) * (1 - a / p));
    const double direction = std::sqrt(std::max(0.0, 1 - p - sigma * sigma));
    StepCoefficients c{t, 0, 0, sigma};
    if (s.prediction == Prediction::epsilon) {
      c.cx = std::sqrt(p / a);
      c.ce = direction - std::sqrt(p * (1 - a) / a);
    } else {
      c.cx = std::sqrt(p * a) + direction * std::sqrt(1 - a);
      c.ce = direction * std::sqrt(a) - std::sqrt(p * (1 - a));
    }
    out.push_back(c);
  }
  return out;
}

}  // namespace realfake
