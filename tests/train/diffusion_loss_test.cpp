// The fine-tuning loss and its LoRA gradients against PyTorch: official, rbf, off, epsilon and
// v-prediction.
#include "train/diffusion_loss.h"

#include <gtest/gtest.h>

#include "model/lora.h"
#include "model/pipeline.h"
#include "tests/model/golden.h"
#include "tests/testing/gradcheck.h"

namespace realfake::testing {
namespace {

struct Batch {
  Tensor latents, noise, context;
  std::vector<int64_t> timesteps;
  Batch(Exec& ex, const std::string& root, DType d = DType::f32) {
    const Golden in(root + "/cases/gradient/in");
    latents = in.image(ex, "latents", d);
    noise = in.image(ex, "noise", d);
    context = in.tensor(ex, "encoder_hidden_states", d);
    timesteps = in.integers("timestep");
  }
};

class DiffusionLosses : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, DiffusionLosses, ::testing::Values("odd", "sd2"));

TEST_P(DiffusionLosses, LossTermsAndLoraGradients) {
  const std::string root = GetParam();
  Exec& ex = exec_of(Device::cpu);
  const auto unet = load_unet(ex, golden_dir() / root / "unet");
  const NoiseSchedule schedule = load_schedule(golden_dir() / root);
  EXPECT_EQ(schedule.prediction, root == "sd2" ? Prediction::velocity : Prediction::epsilon);
  Lora lora(ex, *unet->net, golden_dir() / root / "cases/lora/lora.safetensors");
  lora.parameters().set_trainable(true);
  lora.attach(1);
  const Batch batch(ex, root);
  const Json cases = read_json(golden_dir() / root / "cases/gradient/options.json");
  EXPECT_EQ(cases.size(), root == "odd" ? 3u : 2u);
  for (const auto& [name, c] : cases.items()) {
    const Golden out(root + "/cases/gradient/out_" + name);
    DiffusionLossOptions options;
    options.snr_gamma = c["snr_gamma"];
    options.dist_match = c["dist_match"];
    options.matching = parse_matching(c["mmd"]);
    lora.parameters().clear_gradients();
    Tape tape(ex);
    const DiffusionLoss loss = diffusion_loss(tape, *unet->net, schedule, batch.latents,
                                              batch.noise, batch.timesteps, batch.context, options);
    tape.backward(loss.total);
    const auto close = [&](const Var& v, const char* key) {
      const double want = out.scalar(key);
      EXPECT_NEAR(v.defined() ? ex.scalar(v.value()) : 0, want, 1e-5 * std::abs(want))
          << root << " " << name << " " << key;
    };
    close(loss.total, "loss");
    close(loss.denoise, "loss_denoise");
    close(loss.match, "loss_mmd");
    expect_parity(download_nchw(ex, loss.prediction.value()), out.values("prediction"),
                  root + " " + name);
    EXPECT_EQ(expect_gradients(lora.parameters(), out, "grad."),
              static_cast<int>(lora.parameters().all().size()));
    EXPECT_EQ(lora.parameters().all().size(), out.names().size() - 4);
  }
}

// LoRA through the whole network in double, against central differences. Matching `off` and
// `official`: of rbf the bandwidth is held, which differences do not see.
TEST(DiffusionLoss, DoubleGradientCheck) {
  Exec& ex = exec_of(Device::cpu);
  const auto unet = load_unet(ex, golden_dir() / "sd2/unet", DType::f64);
  const NoiseSchedule schedule = load_schedule(golden_dir() / "sd2");
  Lora lora(ex, *unet->net, golden_dir() / "sd2/cases/lora/lora.safetensors", DType::f64);
  lora.parameters().set_trainable(true);
  lora.attach(0.8);
  const Batch batch(ex, "sd2", DType::f64);
  const DiffusionLossOptions options{5, 0.01, Matching::official};
  const auto loss = [&](bool record) {
    Tape tape(ex, record);
    const Var total = diffusion_loss(tape, *unet->net, schedule, batch.latents, batch.noise,
                                     batch.timesteps, batch.context, options)
                          .total;
    if (record) tape.backward(total);
    return ex.scalar(total.value());
  };
  loss(true);
  const std::vector<Param>& all = lora.parameters().all();
  for (const size_t i : {size_t{0}, size_t{1}, all.size() / 2, all.size() - 2, all.size() - 1}) {
    double* data = all[i]->value.data<double>();
    const Comparison r =
        check_gradient([&] { return loss(false); }, [&](int64_t k) -> double& { return data[k]; },
                       download(ex, all[i]->slot->grad),
                       GradCheck{.step = 1e-4, .rtol = 1e-5, .all_up_to = 6, .projections = 2});
    EXPECT_TRUE(r.ok) << all[i]->name << ": " << r.text;
  }
}

// Where everything but LoRA is frozen, the memory of a step is far below that of full training.
TEST(DiffusionLoss, FrozenWeightsGatherNothing) {
  Exec& ex = exec_of(Device::cpu);
  const auto unet = load_unet(ex, golden_dir() / "odd/unet");
  const NoiseSchedule schedule = load_schedule(golden_dir() / "odd");
  const Batch batch(ex, "odd");
  Tape tape(ex);
  const DiffusionLoss loss = diffusion_loss(tape, *unet->net, schedule, batch.latents, batch.noise,
                                            batch.timesteps, batch.context, {});
  EXPECT_EQ(tape.nodes(), 0u);
  EXPECT_FALSE(loss.total.needs_grad());
}

TEST(DiffusionLoss, BadOptions) {
  EXPECT_EQ(parse_matching("off"), Matching::off);
  EXPECT_EQ(parse_matching("official"), Matching::official);
  EXPECT_EQ(parse_matching("rbf"), Matching::rbf);
  EXPECT_THROW(parse_matching("mmd"), UsageError);
  Exec& ex = exec_of(Device::cpu);
  const auto unet = load_unet(ex, golden_dir() / "odd/unet");
  const NoiseSchedule schedule = load_schedule(golden_dir() / "odd");
  const Batch batch(ex, "odd");
  for (const int64_t t : {-1, 1000}) {
    Tape tape(ex);
    EXPECT_THROW(diffusion_loss(tape, *unet->net, schedule, batch.latents, batch.noise, {1, 2, t},
                                batch.context, {}),
                 InputError);
  }
}

}  // namespace
}  // namespace realfake::testing
