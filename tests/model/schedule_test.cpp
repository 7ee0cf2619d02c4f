// DDIM against the recorded states of diffusers, and the options of the sampler.
#include "model/schedule.h"

#include <gtest/gtest.h>

#include "kernels/diffusion.h"
#include "kernels/elementwise.h"
#include "model/pipeline.h"
#include "tests/model/golden.h"

namespace realfake::testing {
namespace {

NoiseSchedule read_schedule(const std::filesystem::path& file) {
  const Json j = read_json(file);
  return NoiseSchedule::read(JsonReader(j, file.string()));
}

TEST(Schedule, DdimCasesOfDiffusers) {
  Exec& ex = exec_of(Device::cpu);
  const auto folder = golden_dir() / "sampler";
  const Json cases = read_json(folder / "cases.json");
  int run = 0;
  for (const auto& [name, c] : cases.items()) {
    if (c["scheduler"] != "ddim") continue;
    ++run;
    const NoiseSchedule schedule = read_schedule(folder / c["scheduler_config"].get<std::string>());
    const SamplerOptions options{c["steps"], c["strength"], c["eta"]};
    const std::vector<StepCoefficients> steps = ddim_steps(schedule, options);
    const Golden in("sampler/" + name + ".in"), out("sampler/" + name + ".out");
    const std::vector<int64_t> timesteps = out.integers("timesteps");
    ASSERT_EQ(steps.size(), timesteps.size()) << name;
    ASSERT_EQ(static_cast<int64_t>(steps.size()),
              static_cast<int64_t>(double(options.steps) * options.strength));
    const Tensor x = ex.clone(in.tensor(ex, "latents"));
    const Tensor outputs = in.tensor(ex, "model_output");
    const Tensor noise = in.has("variance_noise") ? in.tensor(ex, "variance_noise") : Tensor();
    EXPECT_EQ(noise.defined(), options.eta > 0) << name;
    const Numbers expected = out.values("latents");
    const auto one = static_cast<size_t>(x.numel());
    for (size_t i = 0; i < steps.size(); ++i) {
      EXPECT_EQ(steps[i].timestep, timesteps[i]) << name << " step " << i;
      const auto at = static_cast<int64_t>(i);
      const Tensor model = outputs.slice(at, at + 1).reshape(x.shape());
      const Tensor extra = noise.defined() ? noise.slice(at, at + 1).reshape(x.shape()) : Tensor();
      guided_step(ex, x, x, model, extra, 1, steps[i].cx, steps[i].ce, steps[i].cn);
      const Numbers want(expected.begin() + static_cast<int64_t>(i * one),
                         expected.begin() + static_cast<int64_t>((i + 1) * one));
      double scale = 0;
      for (const double v : want) scale = std::max(scale, std::abs(v));
      const Distance d = distance(download(ex, x), want);
      EXPECT_TRUE(d.comparable) << name;
      EXPECT_LE(d.max_abs, 1e-5 * scale) << name << " step " << i;
    }
  }
  EXPECT_EQ(run, 9);
}

TEST(Schedule, StrengthCutsTheFirstSteps) {
  const NoiseSchedule s = NoiseSchedule::stable_diffusion();
  const std::vector<StepCoefficients> all = ddim_steps(s, {20, 1, 0});
  ASSERT_EQ(all.size(), 20u);
  EXPECT_EQ(all.front().timestep, 951);
  EXPECT_EQ(all.back().timestep, 1);
  for (const double strength : {0.05, 0.5, 0.75, 0.99}) {
    const std::vector<StepCoefficients> some = ddim_steps(s, {20, strength, 0});
    ASSERT_EQ(some.size(), static_cast<size_t>(20 * strength));
    for (size_t i = 0; i < some.size(); ++i) {
      const StepCoefficients& whole = all[all.size() - some.size() + i];
      EXPECT_EQ(some[i].timestep, whole.timestep);
      EXPECT_EQ(some[i].cx, whole.cx);
      EXPECT_EQ(some[i].ce, whole.ce);
    }
  }
  EXPECT_EQ(ddim_steps(s, {20, 0.5, 0}).front().timestep, 451);
  EXPECT_EQ(ddim_steps(s, {1000, 1, 0}).size(), 1000u);
  EXPECT_EQ(ddim_steps(s, {1, 1, 0}).size(), 1u);
}

TEST(Schedule, ImpossibleOptions) {
  const NoiseSchedule s = NoiseSchedule::stable_diffusion();
  const double nan = std::nan("");
  for (const SamplerOptions& o : std::vector<SamplerOptions>{{0, 1, 0},
                                                             {-1, 1, 0},
                                                             {1001, 1, 0},
                                                             {20, 0, 0},
                                                             {20, -0.5, 0},
                                                             {20, 1.01, 0},
                                                             {20, nan, 0},
                                                             {20, 0.04, 0},
                                                             {20, 1, -0.1},
                                                             {20, 1, 1.5},
                                                             {20, 1, nan}})
    EXPECT_THROW(ddim_steps(s, o), UsageError) << o.steps << " " << o.strength << " " << o.eta;
  EXPECT_THROW(ddim_timesteps(s, 0), UsageError);
}

TEST(Schedule, MinSnrWeights) {
  NoiseSchedule s = NoiseSchedule::stable_diffusion();
  EXPECT_NEAR(s.abar(0), 1 - 0.00085, 1e-6);
  EXPECT_NEAR(s.abar(999), 0.0046600, 1e-6);  // as published for SD 1.x
  for (const int64_t t : {0, 100, 500, 999}) {
    const double snr = s.abar(t) / (1 - s.abar(t));
    EXPECT_EQ(s.min_snr_weight(t, 0), 1);
    EXPECT_DOUBLE_EQ(s.min_snr_weight(t, 5), std::min(snr, 5.0) / snr);
  }
  s.prediction = Prediction::velocity;
  EXPECT_EQ(s.min_snr_weight(10, 0), 1);
  EXPECT_DOUBLE_EQ(s.min_snr_weight(10, 5), 5 / (s.snr(10) + 1));
}

TEST(Schedule, BadConfigs) {
  const auto refuses = [](const Json& change, const std::string& core) {
    Json config = {
        {"beta_start", 0.00085}, {"beta_end", 0.012}, {"beta_schedule", "scaled_linear"}};
    for (const auto& [key, value] : change.items()) config[key] = value;
    try {
      NoiseSchedule::read(JsonReader(config, "dir/scheduler_config.json"));
      ADD_FAILURE() << change.dump() << " was accepted";
    } catch (const InputError& e) {
      EXPECT_NE(std::string(e.what()).find("dir/scheduler_config.json: "), std::string::npos)
          << e.what();
      EXPECT_NE(std::string(e.what()).find(core), std::string::npos) << e.what();
    }
  };
  refuses({{"beta_schedule", "squaredcos_cap_v2"}},
          "'beta_schedule' squaredcos_cap_v2 is not supported");
  refuses({{"prediction_type", "sample"}}, "'prediction_type' sample is not supported");
  refuses({{"timestep_spacing", "karras"}}, "'timestep_spacing' karras is not supported");
  refuses({{"beta_end", 2}}, "alpha product");
  refuses({{"beta_end", "x"}}, "'beta_end' is a string, expected a number");
  refuses({{"num_train_timesteps", 0}}, "'num_train_timesteps' is 0, expected 2..1000000");
  refuses({{"steps_offset", -1}}, "'steps_offset' is -1");
  refuses({{"clip_sample", true}}, "'clip_sample'");
  refuses({{"rescale_betas_zero_snr", true}}, "'rescale_betas_zero_snr'");
}

}  // namespace
}  // namespace realfake::testing
