// The networks that `bench --network` times, with random weights: the tiny pipeline that
// `pretrain` makes, and the published sizes of SD 1.5.
#include "kernels/random.h"
#include "model/functions.h"
#include "model/lora.h"
#include "model/pipeline.h"
#include "tools/bench.h"
#include "train/base_configs.h"
#include "train/classifier.h"
#include "train/diffusion_loss.h"
#include "train/finetune.h"
#include "train/optimizers.h"

namespace realfake::bench {
namespace {

constexpr uint64_t kSeed = 1;

Json merged(Json json, const Json& changes) {
  json.update(changes);
  return json;
}

// The configurations of a pipeline, as its files hold them.
struct Preset {
  Json unet, vae, text, vision;
  int64_t latent_size;
};

Preset tiny() {
  const Tokenizer tokenizer(train_bpe({"photo of a digit"}, base::kVocabulary),
                            base::kPromptLength);
  const Json text = merged(base::text_config(tokenizer), {{"vocab_size", base::kVocabulary}});
  return {base::unet_config(), base::vae_config(), text, base::vision_config(), 4};
}

Preset sd15() {
  Json unet = merged(base::unet_config(), {{"attention_head_dim", 8},
                                           {"block_out_channels", {320, 640, 1280, 1280}},
                                           {"cross_attention_dim", 768},
                                           {"layers_per_block", 2},
                                           {"norm_num_groups", 32},
                                           {"sample_size", 64}});
  unet["down_block_types"] = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                              "CrossAttnDownBlock2D", "DownBlock2D"};
  unet["up_block_types"] = {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                            "CrossAttnUpBlock2D"};
  Json vae = merged(base::vae_config(), {{"block_out_channels", {128, 256, 512, 512}},
                                         {"layers_per_block", 2},
                                         {"norm_num_groups", 32},
                                         {"sample_size", 512},
                                         {"scaling_factor", 0.18215}});
  vae["down_block_types"] = Json::array();
  vae["up_block_types"] = Json::array();
  for (int i = 0; i < 4; ++i) {
    vae["down_block_types"].push_back("DownEncoderBlock2D");
    vae["up_block_types"].push_back("UpDecoderBlock2D");
  }
  const Preset small = tiny();
  const Json text = merged(small.text, {{"vocab_size", 49408},
                                        {"hidden_size", 768},
                                        {"intermediate_size", 3072},
                                        {"projection_dim", 768},
                                        {"num_hidden_layers", 12},
                                        {"num_attention_heads", 12},
                                        {"max_position_embeddings", 77}});
  const Json vision = merged(small.vision, {{"hidden_size", 1024},
                                            {"intermediate_size", 4096},
                                            {"projection_dim", 768},
                                            {"num_hidden_layers", 24},
                                            {"num_attention_heads", 16},
                                            {"image_size", 224},
                                            {"patch_size", 14}});
  return {unet, vae, text, vision, 64};
}

// A network whose step is one forward pass of what `make` gave it.
template <class Net, class Step>
Network forward_only(Exec& exec, std::unique_ptr<Component<Net>> component, int64_t size,
                     const char* unit, Step step) {
  const std::shared_ptr<Component<Net>> owner = std::move(component);
  const Net* net = owner->net.get();
  return {[&exec, net, step] {
            Tape tape(exec, false);
            return step(tape, *net).value();
          },
          size, unit, owner};
}

Tensor repeated(Exec& exec, int64_t value, const Shape& shape) {
  return exec.from_vector(std::vector<int64_t>(static_cast<size_t>(shape.numel()), value), shape);
}

// One step of `finetune`: the loss with the matching term, its gradient by the LoRA factors, AdamW.
Network lora_step(Exec& exec, const Preset& preset, int64_t batch, int64_t size, int64_t tokens) {
  struct State {
    std::unique_ptr<Component<UNet>> unet;
    std::unique_ptr<Lora> lora;
    std::unique_ptr<AdamW> optimizer;
    NoiseSchedule schedule = NoiseSchedule::stable_diffusion();
    Tensor latents, noise, context;
    std::vector<int64_t> timesteps;
    FinetuneOptions options;
  };
  const auto s = std::make_shared<State>();
  s->unet = fresh_unet(exec, preset.unet, kSeed);
  const UNetConfig& config = s->unet->net->config();
  s->lora = std::make_unique<Lora>(exec, *s->unet->net, s->options.rank, kSeed);
  s->lora->attach(1);
  s->lora->parameters().set_trainable(true);
  s->optimizer = std::make_unique<AdamW>(exec, s->lora->parameters().trainable(), AdamWParams{});
  const Shape shape{batch, size, size, config.in_channels};
  s->latents = random_tensor(exec, shape, 1);
  s->noise = random_tensor(exec, shape, 2);
  s->context = random_tensor(exec, {batch, tokens, config.context_dim}, 3);
  for (int64_t i = 0; i < batch; ++i) s->timesteps.push_back(i * 997 % s->schedule.steps());
  return {[&exec, s = s.get()] {
            Tape tape(exec);
            const DiffusionLoss loss =
                diffusion_loss(tape, *s->unet->net, s->schedule, s->latents, s->noise, s->timesteps,
                               s->context, s->options.loss);
            tape.backward(loss.total);
            s->optimizer->step(s->options.learning_rate, s->options.max_grad_norm);
            return loss.total.value();
          },
          size, "latents", s};
}

// One step of `train`: cross-entropy, its gradient by all parameters, SGD.
Network resnet_step(Exec& exec, const std::string& model, int64_t classes, int64_t batch,
                    int64_t size) {
  struct State {
    std::unique_ptr<Component<ResNet>> net;
    std::unique_ptr<Sgd> optimizer;
    Tensor images, target;
    ClassifierOptions options;
  };
  const auto s = std::make_shared<State>();
  s->net = fresh_resnet(exec, ResNetConfig::preset(model, classes), kSeed);
  s->net->parameters.set_trainable(true, &ResNet::is_learned);
  s->optimizer = std::make_unique<Sgd>(exec, s->net->parameters.trainable(), SgdParams{});
  s->images = random_tensor(exec, {batch, size, size, 3}, 1);
  std::vector<float> target(static_cast<size_t>(batch * classes));
  for (int64_t i = 0; i < batch; ++i)
    target[static_cast<size_t>(i * classes + i * 7 % classes)] = 1;
  s->target = exec.from_vector(target, {batch, classes});
  return {[&exec, s = s.get()] {
            Tape tape(exec);
            const Var loss = cross_entropy(tape, (*s->net->net)(tape, Var(s->images), true),
                                           s->target, s->options.label_smoothing);
            tape.backward(loss);
            s->optimizer->step(1e-3, 0);  // small: the weights are to stay finite, not to learn
            return loss.value();
          },
          size, "pixels", s};
}

Network make_resnet(Exec& exec, const std::string& name, int64_t batch, int64_t asked) {
  const bool step = name.ends_with("-step"), large = name.starts_with("resnet50");
  const std::string model = large ? "resnet50" : "resnet8";
  const int64_t classes = large ? 1000 : 10, size = asked ? asked : large ? 224 : 32;
  if (step) return resnet_step(exec, model, classes, batch, size);
  const Tensor images = random_tensor(exec, {batch, size, size, 3}, 1);
  return forward_only(exec, fresh_resnet(exec, ResNetConfig::preset(model, classes), kSeed), size,
                      "pixels",
                      [images](Tape& t, const ResNet& net) { return net(t, Var(images), false); });
}

}  // namespace

const std::vector<std::string>& network_names() {
  static const std::vector<std::string> names = {
      "unet",    "vae-decoder", "vae-encoder", "text-encoder", "image-encoder",
      "resnet8", "resnet50",    "lora-step",   "resnet8-step", "resnet50-step"};
  return names;
}

Network make_network(Exec& exec, const std::string& name, const std::string& preset_name,
                     int64_t batch, int64_t asked) {
  if (name.starts_with("resnet")) return make_resnet(exec, name, batch, asked);
  const Preset preset = preset_name == "sd15" ? sd15() : tiny();
  const int64_t latents = asked ? asked : preset.latent_size;
  const int64_t tokens = preset.text["max_position_embeddings"].get<int64_t>();
  if (name == "lora-step") return lora_step(exec, preset, batch, latents, tokens);
  if (name == "unet") {
    auto c = fresh_unet(exec, preset.unet, kSeed);
    const UNetConfig& config = c->net->config();
    const Tensor x = random_tensor(exec, {batch, latents, latents, config.in_channels}, 1),
                 context = random_tensor(exec, {batch, tokens, config.context_dim}, 2),
                 time = repeated(exec, 500, {batch});
    return forward_only(exec, std::move(c), latents, "latents", [=](Tape& t, const UNet& net) {
      return net(t, Var(x), time, Var(context));
    });
  }
  if (name == "vae-decoder" || name == "vae-encoder") {
    auto c = fresh_vae(exec, preset.vae, kSeed);
    const VaeConfig& config = c->net->config();
    if (name == "vae-decoder") {
      const Tensor x = random_tensor(exec, {batch, latents, latents, config.latent_channels}, 1);
      return forward_only(exec, std::move(c), latents, "latents",
                          [x](Tape& t, const Vae& net) { return net.decode(t, Var(x)); });
    }
    const int64_t side = latents * config.factor();
    const Tensor x = random_tensor(exec, {batch, side, side, config.in_channels}, 1);
    return forward_only(exec, std::move(c), latents, "latents",
                        [x](Tape& t, const Vae& net) { return net.encode(t, Var(x)); });
  }
  if (name == "text-encoder") {
    const Tensor ids = repeated(exec, 100, {batch, tokens});
    return forward_only(exec, fresh_text(exec, preset.text, kSeed), tokens, "tokens",
                        [ids](Tape& t, const ClipText& net) { return net(t, ids); });
  }
  require(name == "image-encoder", "[bench] no network '", name, "'");
  Json vision = preset.vision;
  if (asked) vision["image_size"] = asked;
  const int64_t side = vision["image_size"].get<int64_t>(),
                patch = vision["patch_size"].get<int64_t>();
  if (side % patch)
    throw UsageError(concat("--size is ", side, ", expected a multiple of the patch, ", patch));
  const Tensor x = random_tensor(exec, {batch, side, side, 3}, 1);
  return forward_only(exec, fresh_vision(exec, vision, kSeed), side, "pixels",
                      [x](Tape& t, const ClipVision& net) { return net(t, Var(x)); });
}

}  // namespace realfake::bench
