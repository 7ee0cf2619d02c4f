// Training of the pipeline that ships (data/base) against PyTorch: gradients of LoRA and of all
// weights with the matching loss, and two whole fine-tuning steps.
#include <gtest/gtest.h>

#include "kernels/base/file.h"
#include "model/lora.h"
#include "model/pipeline.h"
#include "tests/model/golden.h"
#include "train/diffusion_loss.h"
#include "train/optimizers.h"

namespace realfake::testing {
namespace {

const std::string kCase = "shipped/training/";

std::filesystem::path base() {
  return std::filesystem::path(REALFAKE_SOURCE_DIR) / "data" / "base";
}

class ShippedTraining : public ::testing::Test {
 protected:
  ShippedTraining()
      : options(read_json(golden_dir() / kCase / "options.json")),
        in(kCase + "in"),
        unet(load_unet(ex, base() / "unet")),
        schedule(load_schedule(base())) {}

  DiffusionLoss loss_of(Tape& tape, const std::vector<int64_t>& timesteps) const {
    const DiffusionLossOptions o{options["snr_gamma"], options["dist_match"],
                                 parse_matching(options["mmd"])};
    return diffusion_loss(tape, *unet->net, schedule, in.image(ex, "latents"),
                          in.image(ex, "noise"), timesteps, in.tensor(ex, "encoder_hidden_states"),
                          o);
  }
  void expect_terms(const DiffusionLoss& loss, const Golden& out) const {
    const auto close = [&](const Var& v, const char* key) {
      const double want = out.scalar(key);
      EXPECT_NEAR(ex.scalar(v.value()), want, 1e-5 * want) << key;
    };
    close(loss.total, "loss");
    close(loss.denoise, "loss_denoise");
    close(loss.match, "loss_mmd");
    expect_parity(download_nchw(ex, loss.prediction.value()), out.values("prediction"),
                  "prediction");
  }

  Exec& ex = exec_of(Device::cpu);
  const Json options;
  const Golden in;
  const std::unique_ptr<Component<UNet>> unet;
  const NoiseSchedule schedule;
};

TEST_F(ShippedTraining, LoraGradient) {
  Lora lora(ex, *unet->net, golden_dir() / kCase / "lora.safetensors");
  lora.parameters().set_trainable(true);
  lora.attach(1);
  EXPECT_EQ(lora.rank(), 4);
  const Golden out(kCase + "out");
  Tape tape(ex);
  const DiffusionLoss loss = loss_of(tape, in.integers("timestep"));
  tape.backward(loss.total);
  expect_terms(loss, out);
  EXPECT_EQ(expect_gradients(lora.parameters(), out, "grad."),
            static_cast<int>(lora.parameters().all().size()));
  EXPECT_EQ(lora.parameters().all().size(), out.names().size() - 4);
}

TEST_F(ShippedTraining, FullGradient) {
  unet->parameters.set_trainable(true);
  const Golden out(kCase + "full");
  Tape tape(ex);
  const DiffusionLoss loss = loss_of(tape, in.integers("timestep"));
  tape.backward(loss.total);
  expect_terms(loss, out);
  EXPECT_EQ(expect_gradients(unet->parameters, out, "grad."),
            static_cast<int>(out.names().size()) - 4);
  for (const Param& p : unet->parameters.all()) EXPECT_TRUE(p->slot->arrived) << p->name;
}

// Loss, backward, clipping, AdamW, twice. Parameters to 1e-4; and since a step moves them by 1e-3
// only, the way they went to 1e-3 of its length.
TEST_F(ShippedTraining, AdamWSteps) {
  Lora lora(ex, *unet->net, golden_dir() / kCase / "lora.safetensors");
  lora.parameters().set_trainable(true);
  lora.attach(1);
  const Golden start(kCase + "lora"), out(kCase + "adamw");
  const double rate = options["learning_rate"], clip = options["clip"];
  const std::vector<Param> params = lora.parameters().trainable();
  AdamW optimizer(ex, params, {.lr = rate, .weight_decay = options["weight_decay"]});
  for (const int step : {1, 2}) {
    Tape tape(ex);
    const DiffusionLoss loss =
        loss_of(tape, step == 1 ? in.integers("timestep")
                                : options["second_timestep"].get<std::vector<int64_t>>());
    tape.backward(loss.total);
    const double want = out.scalar(concat("loss", step)), norm = out.scalar(concat("norm", step));
    EXPECT_NEAR(ex.scalar(loss.total.value()), want, 1e-5 * want);
    EXPECT_NEAR(optimizer.step(rate, clip), norm, 1e-4 * norm);
    for (const Param& p : params) {
      const Numbers expected = out.values(concat("step", step, ".", p->name)),
                    before = start.values(p->name);
      const Distance d = distance(in_file_layout(lora.parameters(), *p, p->value), expected);
      const Distance moved = distance(before, expected);
      EXPECT_TRUE(d.comparable && moved.comparable) << p->name;
      EXPECT_LE(d.max_abs, 1e-4) << p->name << ", step " << step;
      EXPECT_LE(std::sqrt(d.squares), 1e-3 * std::sqrt(moved.squares)) << p->name;
    }
  }
}

}  // namespace
}  // namespace realfake::testing
