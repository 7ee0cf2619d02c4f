// `verify forward`: one network on tensors of a file, so that any other implementation can be
// compared with it.
#include <algorithm>
#include <iostream>

#include "model/lora.h"
#include "model/pipeline.h"
#include "tools/commands.h"
#include "tools/verify_tensors.h"

namespace realfake {
namespace {

struct VerifyForward {
  CommonOptions common;
  std::filesystem::path model, in, out, lora;
  std::string component;
  double lora_scale = 1;

  void declare(Options& o) {
    o.path("model", &model, "pipeline root, or the component's own folder or file").required();
    o.text("component", &component, "which network",
           {"unet", "vae-encoder", "vae-decoder", "text-encoder", "image-encoder", "resnet"})
        .required();
    o.path("in", &in, "safetensors file with the inputs").required();
    o.path("out", &out, "safetensors file to write").required();
    o.path("lora", &lora, "LoRA file of the UNet");
    o.number("lora_scale", &lora_scale, -1000, 1000, "times alpha / rank");
    common.declare(o, false);
  }

  template <class Net>
  static void report_unused(const Component<Net>& c) {
    for (const std::string& name : c.unused)
      std::cerr << "warning: '" << printable(name) << "' is in the file but not in the network\n";
  }

  void unet(Exec& exec, Tape& t, const VerifyInput& x, VerifyOutput& y) const {
    const auto c = load_unet(exec, component_folder(model, "unet"));
    report_unused(*c);
    const UNetConfig& config = c->net->config();
    std::unique_ptr<Lora> adapter;
    if (!lora.empty()) {
      adapter = std::make_unique<Lora>(exec, *c->net, lora);
      adapter->attach(lora_scale);
    }
    const Tensor sample = x.images(exec, "sample", -1, config.in_channels, "[B,C,h,w]");
    const int64_t batch = sample.dim(0);
    const Tensor timestep = x.integer_tensor(exec, "timestep", {batch}, "[B]", 0, INT32_MAX);
    const Tensor context =
        x.tensor(exec, "encoder_hidden_states", {batch, -1, config.context_dim}, "[B,T,D]");
    y.images(exec, "sample", (*c->net)(t, Var(sample), timestep, Var(context)).value());
  }

  void vae_encoder(Exec& exec, Tape& t, const VerifyInput& x, VerifyOutput& y) const {
    const auto c = load_vae(exec, component_folder(model, "vae"));
    report_unused(*c);
    const Tensor sample = x.images(exec, "sample", -1, c->net->config().in_channels, "[B,3,H,W]");
    const Tensor moments = c->net->encode(t, Var(sample)).value();  // (N,h,w,2C)
    const int64_t channels = moments.dim(3) / 2;
    y.images(exec, "mean", exec.clone(moments.columns(0, channels)));
    const Tensor raw = exec.clone(moments.columns(channels, 2 * channels));
    std::vector<float> logvar = exec.to_vector<float>(raw);
    for (float& v : logvar) v = std::clamp(v, -30.0f, 20.0f);
    y.images(exec, "logvar", exec.from_vector(logvar, raw.shape()));
  }

  void vae_decoder(Exec& exec, Tape& t, const VerifyInput& x, VerifyOutput& y) const {
    const auto c = load_vae(exec, component_folder(model, "vae"));
    report_unused(*c);
    const Tensor latent =
        x.images(exec, "latent", -1, c->net->config().latent_channels, "[B,C,h,w]");
    y.images(exec, "sample", c->net->decode(t, Var(latent)).value());
  }

  void text_encoder(Exec& exec, Tape& t, const VerifyInput& x, VerifyOutput& y) const {
    const auto c = load_text(exec, component_folder(model, "text_encoder"));
    report_unused(*c);
    const ClipConfig& config = c->net->config();
    const std::vector<int64_t> shape = x.shape("input_ids");
    const int64_t length = shape.size() == 2 ? std::min(shape[1], config.max_positions) : -1;
    const Tensor ids =
        x.integer_tensor(exec, "input_ids", {-1, length}, "[B,L]", 0, config.vocab_size - 1);
    y.tensor(exec, "last_hidden_state", (*c->net)(t, ids).value());
  }

  void image_encoder(Exec& exec, Tape& t, const VerifyInput& x, VerifyOutput& y) const {
    const auto c = load_vision(exec, component_folder(model, "image_encoder"));
    report_unused(*c);
    const ClipConfig& config = c->net->config();
    const int64_t side = config.image_size;
    x.values("pixel_values", {-1, config.channels, side, side}, "[B,3,H,W]");
    const Tensor pixels = x.images(exec, "pixel_values", -1, config.channels, "[B,3,H,W]");
    y.tensor(exec, "image_embeds", (*c->net)(t, Var(pixels)).value());
  }

  void resnet(Exec& exec, Tape& t, const VerifyInput& x, VerifyOutput& y) const {
    const auto c = load_resnet(exec, model);
    report_unused(*c);
    const Tensor pixels =
        x.images(exec, "pixel_values", -1, c->net->config().in_channels, "[B,3,H,W]");
    y.tensor(exec, "logits", (*c->net)(t, Var(pixels), false).value());
  }

  int run() const {
    if (!lora.empty() && component != "unet")
      throw UsageError("--lora adapts the unet; --component is " + component);
    Exec exec = common.open();
    const VerifyInput x(in);
    VerifyOutput y;
    Tape tape(exec, false);
    if (component == "unet") unet(exec, tape, x, y);
    if (component == "vae-encoder") vae_encoder(exec, tape, x, y);
    if (component == "vae-decoder") vae_decoder(exec, tape, x, y);
    if (component == "text-encoder") text_encoder(exec, tape, x, y);
    if (component == "image-encoder") image_encoder(exec, tape, x, y);
    if (component == "resnet") resnet(exec, tape, x, y);
    y.write(out);
    return 0;
  }
};

}  // namespace

Command make_verify_forward_command() {
  const auto self = std::make_shared<VerifyForward>();
  return {"verify forward", "run one network on the tensors of a file",
          "realfake verify forward --model sd15 --component unet --in x.safetensors --out "
          "y.safetensors",
          [self](Options& o) { self->declare(o); }, [self](const Options&) { return self->run(); }};
}

}  // namespace realfake
