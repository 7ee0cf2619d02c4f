// Every network against PyTorch's recordings: outputs, blocks, gradients of full training.
#include <gtest/gtest.h>

#include <map>

#include "kernels/diffusion.h"
#include "kernels/elementwise.h"
#include "kernels/emulator/emulator.h"
#include "model/lora.h"
#include "model/pipeline.h"
#include "tests/model/golden.h"
#include "tests/testing/cuda_count.h"
#include "tests/testing/temp_dir.h"

namespace realfake::testing {
namespace {

Exec& cpu() {
  return exec_of(Device::cpu);
}

Numbers run_unet(Exec& ex, const UNet& net, const Golden& in) {
  Tape tape(ex, false);
  const Var y = net(tape, Var(in.image(ex, "sample")), in.ids(ex, "timestep"),
                    Var(in.tensor(ex, "encoder_hidden_states")));
  return download_nchw(ex, y.value());
}

class Pipelines : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Pipelines, ::testing::Values("odd", "sd2"));

TEST_P(Pipelines, TextEncoder) {
  const std::string root = GetParam();
  const auto c = load_text(cpu(), golden_dir() / root / "text_encoder");
  EXPECT_TRUE(c->unused.empty());
  Tape tape(cpu(), false);
  const Var y = (*c->net)(tape, Golden(root + "/cases/text-encoder/in").ids(cpu(), "input_ids"));
  expect_parity(download(cpu(), y.value()),
                Golden(root + "/cases/text-encoder/out").values("last_hidden_state"), root);
}

TEST_P(Pipelines, UNetWithBlocks) {
  const std::string root = GetParam();
  const auto c = load_unet(cpu(), golden_dir() / root / "unet");
  EXPECT_TRUE(c->unused.empty());
  std::map<std::string, Numbers> seen;
  c->net->set_probe([&](const std::string& name, const Var& v) {
    seen[name] =
        v.value().rank() == 4 ? download_nchw(cpu(), v.value()) : download(cpu(), v.value());
  });
  const Numbers y = run_unet(cpu(), *c->net, Golden(root + "/cases/unet/in"));
  const Golden blocks(root + "/cases/unet/blocks");
  EXPECT_EQ(seen.size(), blocks.names().size());
  for (const std::string& name : blocks.names())
    expect_parity(seen[name], blocks.values(name), root + " " + name);
  expect_parity(y, Golden(root + "/cases/unet/out").values("sample"), root);
}

TEST(Networks, UNetEvenAndShortContext) {
  const auto c = load_unet(cpu(), golden_dir() / "odd/unet");
  expect_parity(run_unet(cpu(), *c->net, Golden("odd/cases/unet_even/in")),
                Golden("odd/cases/unet_even/out").values("sample"), "unet_even");
}

TEST(Networks, ImageEncoder) {
  const auto c = load_vision(cpu(), golden_dir() / "odd/image_encoder");
  EXPECT_TRUE(c->unused.empty());
  Tape tape(cpu(), false);
  const Var y =
      (*c->net)(tape, Var(Golden("odd/cases/image-encoder/in").image(cpu(), "pixel_values")));
  expect_parity(download(cpu(), y.value()),
                Golden("odd/cases/image-encoder/out").values("image_embeds"), "image-encoder");
}

TEST(Networks, VaeEncoderAndDecoder) {
  const auto c = load_vae(cpu(), golden_dir() / "odd/vae");
  EXPECT_TRUE(c->unused.empty());
  EXPECT_EQ(c->net->config().scaling_factor, 0.71);
  Tape tape(cpu(), false);
  const Var moments =
      c->net->encode(tape, Var(Golden("odd/cases/vae-encoder/in").image(cpu(), "sample")));
  const int64_t latent = moments.dim(3) / 2;
  const Golden out("odd/cases/vae-encoder/out");
  expect_parity(download_nchw(cpu(), cpu().clone(moments.value().columns(0, latent))),
                out.values("mean"), "mean");
  Numbers logvar = download_nchw(cpu(), cpu().clone(moments.value().columns(latent, 2 * latent)));
  for (double& v : logvar) v = std::clamp(v, -30.0, 20.0);
  expect_parity(logvar, out.values("logvar"), "logvar");
  const Var image =
      c->net->decode(tape, Var(Golden("odd/cases/vae-decoder/in").image(cpu(), "latent")));
  expect_parity(download_nchw(cpu(), image.value()),
                Golden("odd/cases/vae-decoder/out").values("sample"), "decoded");
}

TEST(Networks, ResNetEvaluation) {
  const auto c = load_resnet(cpu(), golden_dir() / "resnet/model.safetensors");
  EXPECT_TRUE(c->unused.empty());
  EXPECT_TRUE(c->net->config().cifar_stem);
  EXPECT_EQ(c->net->config().widths, (std::vector<int64_t>{16, 32, 64}));
  Tape tape(cpu());
  Var features;
  const Var y =
      (*c->net)(tape, Var(Golden("resnet/in").image(cpu(), "pixel_values")), false, &features);
  expect_parity(download(cpu(), y.value()), Golden("resnet/out").values("logits"), "resnet");
  EXPECT_EQ(features.shape(), Shape({6, 64}));
  EXPECT_EQ(tape.nodes(), 0u);
}

// All weights train, plain MSE: the inputs' gradients too.
TEST(Gradients, UNetFullTraining) {
  Exec& ex = cpu();
  const auto c = load_unet(ex, golden_dir() / "odd/unet");
  c->parameters.set_trainable(true);
  const Golden in("odd/cases/gradient/in"), out("odd/cases/gradient/full");
  const NoiseSchedule schedule = load_schedule(golden_dir() / "odd");
  const Tensor latents = in.image(ex, "latents"), noise = in.image(ex, "noise");
  Numbers keep, mix;
  for (const int64_t t : in.integers("timestep")) {
    keep.push_back(std::sqrt(schedule.abar(t)));
    mix.push_back(std::sqrt(1 - schedule.abar(t)));
  }
  const Tensor noisy = ex.empty(latents.shape());
  combine_samples(ex, noisy, latents, noise, upload(ex, keep, {3}, DType::f32),
                  upload(ex, mix, {3}, DType::f32));
  Tape tape(ex);
  const Var sample = leaf(noisy), context = leaf(in.tensor(ex, "encoder_hidden_states"));
  const Var prediction = (*c->net)(tape, sample, in.ids(ex, "timestep"), context);
  const Var loss = weighted_mse(tape, prediction, noise, Tensor());
  tape.backward(loss);
  expect_parity(download_nchw(ex, prediction.value()), out.values("prediction"), "prediction");
  EXPECT_NEAR(ex.scalar(loss.value()), out.scalar("loss"), 1e-5 * out.scalar("loss"));
  const double size = norm_of(out, "grad.");
  expect_gradient(download_nchw(ex, sample.grad()), out.values("grad.sample"), "grad.sample", size);
  expect_gradient(download(ex, context.grad()), out.values("grad.encoder_hidden_states"),
                  "grad.encoder_hidden_states", size);
  EXPECT_EQ(expect_gradients(c->parameters, out, "grad."),
            static_cast<int>(out.names().size()) - 4);
  for (const Param& p : c->parameters.all()) EXPECT_TRUE(p->slot->arrived) << p->name;
}

TEST(Gradients, VaeTraining) {
  Exec& ex = cpu();
  const auto c = load_vae(ex, golden_dir() / "odd/vae");
  c->parameters.set_trainable(true);
  const Golden in("odd/cases/vae-train/in"), out("odd/cases/vae-train/out");
  const Tensor image = in.image(ex, "sample");
  Tape tape(ex);
  const Var moments = c->net->encode(tape, Var(image));
  const Var z = posterior_sample(tape, moments, in.image(ex, "posterior_noise"), 1);
  const Var reconstruction = c->net->decode(tape, z);
  const Var mse = weighted_mse(tape, reconstruction, image, Tensor()),
            kl = kl_divergence(tape, moments);
  const Var loss = add_weighted(tape, mse, kl, 1e-3);
  tape.backward(loss);
  expect_parity(download_nchw(ex, reconstruction.value()), out.values("reconstruction"),
                "reconstruction");
  EXPECT_NEAR(ex.scalar(mse.value()), out.scalar("loss_mse"), 1e-5 * out.scalar("loss_mse"));
  EXPECT_NEAR(ex.scalar(kl.value()), out.scalar("loss_kl"), 1e-5 * out.scalar("loss_kl"));
  EXPECT_NEAR(ex.scalar(loss.value()), out.scalar("loss"), 1e-5 * out.scalar("loss"));
  EXPECT_EQ(expect_gradients(c->parameters, out, "grad."),
            static_cast<int>(out.names().size()) - 4);
}

// The transposed logits are the product with its sides exchanged.
TEST(Gradients, ClipPair) {
  Exec& ex = cpu();
  const auto text = load_text(ex, golden_dir() / "odd/text_encoder");
  const auto vision = load_vision(ex, golden_dir() / "odd/image_encoder");
  text->parameters.set_trainable(true);
  vision->parameters.set_trainable(true);
  const Golden in("odd/cases/clip-train/in"), out("odd/cases/clip-train/out");
  const std::vector<int64_t> ids = in.integers("input_ids");
  std::vector<int64_t> last;
  for (size_t row = 0; row < 4; ++row) {
    const auto begin = ids.begin() + static_cast<int64_t>(row * 13);
    last.push_back(std::find(begin, begin + 13, 39) - begin);
  }
  const Var projection = leaf(in.tensor(ex, "text_projection.weight"));
  const Var log_scale = leaf(upload(ex, in.values("logit_scale"), {1}, DType::f32));
  Tape tape(ex);
  const Var hidden = (*text->net)(tape, in.ids(ex, "input_ids"));
  const Var text_embeds =
      linear(tape, gather_tokens(tape, hidden, ex.from_vector(last, {4})), projection, Var());
  const Var image_embeds = (*vision->net)(tape, Var(in.image(ex, "pixel_values")));
  const Var a = l2_normalize(tape, text_embeds), b = l2_normalize(tape, image_embeds);
  const Var logits = scale_by_exp(tape, product_nt(tape, a, b), log_scale);
  const Var turned = scale_by_exp(tape, product_nt(tape, b, a), log_scale);
  const Tensor target = in.tensor(ex, "target");  // symmetric
  const Var sum =
      add(tape, cross_entropy(tape, logits, target, 0), cross_entropy(tape, turned, target, 0));
  const Var loss = scale(tape, sum, 0.5);
  tape.backward(loss);
  expect_parity(download(ex, text_embeds.value()), out.values("text_embeds"), "text_embeds");
  expect_parity(download(ex, image_embeds.value()), out.values("image_embeds"), "image_embeds");
  expect_parity(download(ex, logits.value()), out.values("logits"), "logits");
  EXPECT_NEAR(ex.scalar(loss.value()), out.scalar("loss"), 1e-5 * out.scalar("loss"));
  const double size = norm_of(out, "grad.");
  expect_gradient(download(ex, projection.grad()), out.values("grad.text_projection.weight"),
                  "projection", size);
  expect_gradient(download(ex, log_scale.grad()), out.values("grad.logit_scale"), "logit_scale",
                  size);
  const int compared = expect_gradients(text->parameters, out, "grad.text_encoder.") +
                       expect_gradients(vision->parameters, out, "grad.image_encoder.");
  EXPECT_EQ(compared, 19);
}

// Image to image as a whole: encode, noise, guided steps, decode.
TEST(Networks, ImageToImage) {
  Exec& ex = cpu();
  const auto root = golden_dir() / "odd";
  const auto vae = load_vae(ex, root / "vae");
  const auto text = load_text(ex, root / "text_encoder");
  const auto unet = load_unet(ex, root / "unet");
  const NoiseSchedule schedule = load_schedule(root);
  const Golden in("odd/cases/img2img/in"), out("odd/cases/img2img/out");
  const double factor = vae->net->config().scaling_factor;
  Tape tape(ex, false);
  const Tensor positive = (*text->net)(tape, in.ids(ex, "input_ids")).value();
  const Tensor negative = (*text->net)(tape, in.ids(ex, "negative_ids")).value();
  expect_parity(download(ex, positive), in.values("encoder_hidden_states"), "positive");
  expect_parity(download(ex, negative), in.values("negative_hidden_states"), "negative");
  const Tensor context = ex.empty({4, positive.dim(1), positive.dim(2)});
  copy(ex, context.slice(0, 2), negative);
  copy(ex, context.slice(2, 4), positive);

  const Var moments = vae->net->encode(tape, Var(in.image(ex, "image")));
  const Tensor start =
      posterior_sample(tape, moments, in.image(ex, "posterior_noise"), factor).value();
  expect_parity(download_nchw(ex, start), out.values("init_latents"), "init_latents");
  const std::vector<StepCoefficients> steps = ddim_steps(schedule, {20, 0.5, 0});
  const double abar = schedule.abar(steps.front().timestep);
  const Tensor x = ex.empty(start.shape());
  combine_samples(ex, x, start, in.image(ex, "noise"), ex.full({2}, std::sqrt(abar)),
                  ex.full({2}, std::sqrt(1 - abar)));
  expect_parity(download_nchw(ex, x), out.values("noisy_latents"), "noisy_latents");
  const std::vector<int64_t> timesteps = out.integers("timesteps");
  const Numbers states = out.values("latents");
  const auto one = x.numel();
  for (size_t i = 0; i < steps.size(); ++i) {
    ASSERT_EQ(steps[i].timestep, timesteps[i]);
    const Tensor both = ex.empty({4, x.dim(1), x.dim(2), x.dim(3)});
    copy(ex, both.slice(0, 2), x);
    copy(ex, both.slice(2, 4), x);
    const Tensor t = ex.from_vector(std::vector<int64_t>(4, steps[i].timestep), {4});
    const Tensor answer = (*unet->net)(tape, Var(both), t, Var(context)).value();
    guided_step(ex, x, x, answer, Tensor(), 2, steps[i].cx, steps[i].ce, steps[i].cn);
    const auto at = states.begin() + static_cast<int64_t>(i) * one;
    expect_parity(download_nchw(ex, x), Numbers(at, at + one), concat("step ", i));
  }
  scale(ex, x, x, 1 / factor);
  expect_parity(download_nchw(ex, vae->net->decode(tape, Var(x)).value()), out.values("sample"),
                "sample");
}

// A fresh network writes a file that loads to the same bits, and is the same whatever the order of
// construction.
TEST(Networks, SaveAndLoadKeepTheBits) {
  Exec& ex = cpu();
  const TempDir dir;
  const Json config = read_json(golden_dir() / "odd/unet/config.json");
  const auto made = fresh_unet(ex, config, 7), again = fresh_unet(ex, config, 7),
             other = fresh_unet(ex, config, 8);
  write_json_atomic(dir / "config.json", config);
  save_parameters(made->parameters, dir / "diffusion_pytorch_model.safetensors");
  const auto loaded = load_unet(ex, dir.path());
  EXPECT_TRUE(loaded->unused.empty());
  ASSERT_EQ(made->parameters.all().size(), loaded->parameters.all().size());
  bool differs = false;
  for (const Param& p : made->parameters.all()) {
    const Numbers v = download(ex, p->value);
    EXPECT_TRUE(same_bits(v, download(ex, loaded->parameters.find(p->name)->value))) << p->name;
    EXPECT_TRUE(same_bits(v, download(ex, again->parameters.find(p->name)->value))) << p->name;
    differs = differs || !same_bits(v, download(ex, other->parameters.find(p->name)->value));
  }
  EXPECT_TRUE(differs);
  fill(ex, made->parameters.find("conv_in.bias")->value, std::nan(""));
  EXPECT_THROW(save_parameters(made->parameters, dir / "bad.safetensors"), NumericError);
  EXPECT_FALSE(std::filesystem::exists(dir / "bad.safetensors"));
}

TEST(Networks, ResNetPresetsAreReadOffTheirKeys) {
  Exec& ex = cpu();
  const TempDir dir;
  for (const char* name : {"resnet8", "resnet20", "resnet18", "resnet50"}) {
    ResNetConfig config = ResNetConfig::preset(name, 7);
    if (!config.cifar_stem)
      config.blocks = {1, 1, 1, 1};  // the shapes of the stages, at a size for a test
    const auto made = fresh_resnet(ex, config, 1);
    save_parameters(made->parameters, dir / "model.safetensors");
    const auto loaded = load_resnet(ex, dir.path());
    EXPECT_TRUE(loaded->unused.empty()) << name;
    EXPECT_EQ(loaded->net->config().widths, config.widths);
    EXPECT_EQ(loaded->net->config().blocks, config.blocks);
    EXPECT_EQ(loaded->net->config().bottleneck, config.bottleneck);
    EXPECT_EQ(loaded->net->config().cifar_stem, config.cifar_stem);
    EXPECT_EQ(loaded->net->config().classes, 7);
    Tape tape(ex, false);
    const int64_t side = config.cifar_stem ? 8 : 32;
    const Tensor x = upload(ex, make_values(normal(), {2, side, side, 3}, DType::f32, 4),
                            {2, side, side, 3}, DType::f32);
    EXPECT_TRUE(same_bits(download(ex, (*made->net)(tape, Var(x), false).value()),
                          download(ex, (*loaded->net)(tape, Var(x), false).value())));
  }
  EXPECT_THROW(ResNetConfig::preset("vgg", 10), UsageError);
}

// The CUDA kernels on the CPU: the same numbers from one forward and one LoRA gradient.
class Emulated : public ::testing::TestWithParam<emulator::Order> {};
INSTANTIATE_TEST_SUITE_P(WarpOrders, Emulated,
                         ::testing::Values(emulator::Order::ascending,
                                           emulator::Order::descending));

TEST_P(Emulated, UNetForwardAndLoraGradient) {
  Exec& ex = exec_of(Device::emulated);
  const Golden in("odd/cases/unet/in"), train("odd/cases/gradient/in"),
      expected("odd/cases/gradient/out_off");
  const NoiseSchedule schedule = load_schedule(golden_dir() / "odd");
  const emulator::Order before = emulator::order();
  emulator::set_order(GetParam());
  {
    const auto c = load_unet(ex, golden_dir() / "odd/unet");
    expect_parity(run_unet(ex, *c->net, in), Golden("odd/cases/unet/out").values("sample"),
                  "emulated");

    Lora lora(ex, *c->net, golden_dir() / "odd/cases/lora/lora.safetensors");
    lora.parameters().set_trainable(true);
    lora.attach(1);
    const Tensor latents = train.image(ex, "latents"), noise = train.image(ex, "noise");
    Numbers keep, mix;
    for (const int64_t t : train.integers("timestep")) {
      keep.push_back(std::sqrt(schedule.abar(t)));
      mix.push_back(std::sqrt(1 - schedule.abar(t)));
    }
    const Tensor noisy = ex.empty(latents.shape());
    combine_samples(ex, noisy, latents, noise, upload(ex, keep, {3}, DType::f32),
                    upload(ex, mix, {3}, DType::f32));
    Tape tape(ex);
    const Var prediction = (*c->net)(tape, Var(noisy), train.ids(ex, "timestep"),
                                     Var(train.tensor(ex, "encoder_hidden_states")));
    const Var loss = weighted_mse(tape, prediction, noise, Tensor());
    tape.backward(loss);
    expect_parity(download_nchw(ex, prediction.value()), expected.values("prediction"),
                  "emulated prediction");
    EXPECT_EQ(expect_gradients(lora.parameters(), expected, "grad."),
              static_cast<int>(lora.parameters().all().size()));
  }
  emulator::set_order(before);
}

TEST(Cuda, UNetForward) {
  REALFAKE_NEEDS_CUDA("UNet");
  Exec& ex = exec_of(Device::cuda);
  const auto c = load_unet(ex, golden_dir() / "odd/unet");
  expect_parity(run_unet(ex, *c->net, Golden("odd/cases/unet/in")),
                Golden("odd/cases/unet/out").values("sample"), "cuda");
}

}  // namespace
}  // namespace realfake::testing
