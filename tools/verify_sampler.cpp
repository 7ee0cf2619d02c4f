// `verify sampler`: the states of a sampler when the network's answers are given.
#include "kernels/base/json.h"
#include "kernels/diffusion.h"
#include "model/schedule.h"
#include "tools/commands.h"
#include "tools/verify_tensors.h"

namespace realfake {
namespace {

struct VerifySampler {
  CommonOptions common;
  std::filesystem::path scheduler_config, in, out;
  std::string scheduler = "ddim";
  SamplerOptions options;

  void declare(Options& o) {
    o.text("scheduler", &scheduler, "the sampler: ddim");
    o.path("scheduler_config", &scheduler_config, "scheduler_config.json of a pipeline").required();
    o.path("in", &in, "safetensors file: latents, model_output, with --eta variance_noise")
        .required();
    o.path("out", &out, "safetensors file to write").required();
    o.integer("steps", &options.steps, 1, 1000000, "of the whole schedule");
    o.number("strength", &options.strength, 0, 1, "share of the steps that run, the last ones");
    o.number("eta", &options.eta, 0, 1, "noise added at each step; 1: as much as DDPM");
    common.declare(o, false);
  }

  int run() const {
    if (scheduler != "ddim")
      throw UsageError(concat("--scheduler is '", printable(scheduler), "', expected ddim"));
    const Json config = read_json(scheduler_config);
    const NoiseSchedule schedule =
        NoiseSchedule::read(JsonReader(config, printable(scheduler_config.string())));
    const std::vector<StepCoefficients> steps = ddim_steps(schedule, options);
    const auto count = static_cast<int64_t>(steps.size());

    // Every step is elementwise, so the file's layout serves.
    Exec exec = common.open();
    const VerifyInput x(in);
    Tensor latents = x.tensor(exec, "latents", {-1, -1, -1, -1}, "[B,C,h,w]");
    const std::vector<int64_t> one = latents.shape().vec();
    std::vector<int64_t> all{count};
    all.insert(all.end(), one.begin(), one.end());
    const Tensor outputs = x.tensor(exec, "model_output", all, "[S,B,C,h,w]");
    const Tensor noise =
        options.eta > 0 ? x.tensor(exec, "variance_noise", all, "[S,B,C,h,w]") : Tensor();
    const auto at = [&](const Tensor& t, int64_t i) {
      return t.slice(i, i + 1).reshape(latents.shape());
    };
    std::vector<int64_t> timesteps;
    std::vector<float> states;
    for (int64_t i = 0; i < count; ++i) {
      const StepCoefficients& s = steps[static_cast<size_t>(i)];
      guided_step(exec, latents, latents, at(outputs, i), noise.defined() ? at(noise, i) : Tensor(),
                  1, s.cx, s.ce, s.cn);
      timesteps.push_back(s.timestep);
      const std::vector<float> state = exec.to_vector<float>(latents);
      states.insert(states.end(), state.begin(), state.end());
    }
    VerifyOutput y;
    y.integers("timesteps", {count}, timesteps);
    y.values("latents", all, states);
    y.write(out);
    return 0;
  }
};

}  // namespace

Command make_verify_sampler_command() {
  const auto self = std::make_shared<VerifySampler>();
  return {"verify sampler", "the states of a sampler for given network outputs",
          "realfake verify sampler --scheduler ddim --scheduler_config "
          "sd15/scheduler/scheduler_config.json --steps 20 --in x.safetensors --out y.safetensors",
          [self](Options& o) { self->declare(o); }, [self](const Options&) { return self->run(); }};
}

}  // namespace realfake
