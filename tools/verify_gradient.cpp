// `verify gradient`: the loss of one fine-tuning step on given tensors and its gradient by every
// LoRA factor.
#include "model/lora.h"
#include "model/pipeline.h"
#include "tools/commands.h"
#include "tools/verify_tensors.h"
#include "train/diffusion_loss.h"

namespace realfake {
namespace {

struct VerifyGradient {
  CommonOptions common;
  std::filesystem::path model, lora, in, out;
  double snr_gamma = 5, dist_match = 0.003;
  std::string mmd = "official";

  void declare(Options& o) {
    o.path("model", &model, "pipeline root: unet/ and scheduler/ are read").required();
    o.path("lora", &lora, "LoRA file, at scale 1").required();
    o.path("in", &in, "safetensors file: latents, noise, timestep, encoder_hidden_states")
        .required();
    o.path("out", &out, "safetensors file to write").required();
    o.number("snr_gamma", &snr_gamma, 0, 1e6, "min-SNR weights; 0: all weights are 1");
    o.number("dist_match", &dist_match, 0, 1e6, "factor of the matching term");
    o.text("mmd", &mmd, "the matching term", {"off", "official", "rbf"});
    common.declare(o, false);
  }

  int run() const {
    Exec exec = common.open();
    const VerifyInput x(in);
    const NoiseSchedule schedule = load_schedule(model);
    const auto unet = load_unet(exec, component_folder(model, "unet"));
    const UNetConfig& config = unet->net->config();
    Lora adapter(exec, *unet->net, lora);
    adapter.parameters().set_trainable(true);
    adapter.attach(1);

    const Tensor latents = x.images(exec, "latents", -1, config.in_channels, "[B,C,h,w]");
    const int64_t batch = latents.dim(0);
    x.values("noise", x.shape("latents"), "the shape of 'latents'");
    const Tensor noise = x.images(exec, "noise", batch, config.in_channels, "[B,C,h,w]");
    const std::vector<int64_t> timesteps =
        x.integers("timestep", {batch}, "[B]", 0, schedule.steps() - 1);
    const Tensor context =
        x.tensor(exec, "encoder_hidden_states", {batch, -1, config.context_dim}, "[B,T,D]");
    if (mmd == "rbf" && batch < 2)
      throw InputError(concat(printable(in.string()), ": 'latents': found a batch of ", batch,
                              ", expected at least 2 for --mmd rbf"));

    Tape tape(exec);
    const DiffusionLossOptions options{snr_gamma, dist_match, parse_matching(mmd)};
    const DiffusionLoss loss =
        diffusion_loss(tape, *unet->net, schedule, latents, noise, timesteps, context, options);
    tape.backward(loss.total);

    VerifyOutput y;
    const auto scalar = [&](const char* name, const Var& v) {
      y.values(name, {}, {v.defined() ? static_cast<float>(exec.scalar(v.value())) : 0.0f});
    };
    scalar("loss", loss.total);
    scalar("loss_denoise", loss.denoise);
    scalar("loss_mmd", loss.match);
    y.images(exec, "prediction", loss.prediction.value());
    for (const Param& p : adapter.parameters().all()) {
      if (!p->slot) continue;
      Parameter gradient = *p;
      gradient.value = p->slot->arrived ? p->slot->grad : exec.zeros(p->value.shape());
      y.values("grad." + p->name, p->file_shape, adapter.parameters().to_file(gradient));
    }
    y.write(out);
    return 0;
  }
};

}  // namespace

Command make_verify_gradient_command() {
  const auto self = std::make_shared<VerifyGradient>();
  return {"verify gradient", "loss and LoRA gradients of one fine-tuning step",
          "realfake verify gradient --model sd15 --lora lora.safetensors --in batch.safetensors "
          "--out grads.safetensors --mmd rbf",
          [self](Options& o) { self->declare(o); }, [self](const Options&) { return self->run(); }};
}

}  // namespace realfake
