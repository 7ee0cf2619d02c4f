// The pipeline that ships (data/base) against diffusers and transformers: every component, the
// tokenizer, image to image as a whole.
#include <gtest/gtest.h>

#include "kernels/base/file.h"
#include "kernels/base/sha256.h"
#include "kernels/diffusion.h"
#include "kernels/elementwise.h"
#include "model/pipeline.h"
#include "tests/model/golden.h"

namespace realfake::testing {
namespace {

Exec& cpu() {
  return exec_of(Device::cpu);
}

std::filesystem::path base() {
  return std::filesystem::path(REALFAKE_SOURCE_DIR) / "data" / "base";
}

// First of all: the recordings are of these very files, which pretrain.json lists too.
TEST(Shipped, FilesAreTheRecordedOnes) {
  const Json recorded = read_json(golden_dir() / "shipped/files.json");
  EXPECT_EQ(recorded, read_json(base() / "pretrain.json")["files"]);
  EXPECT_EQ(recorded.size(), 14u);
  for (const auto& [name, hash] : recorded.items())
    EXPECT_EQ(sha256_of_file(base() / name), hash)
        << name << ": data/base is not the one of tests/golden/record_shipped.py; record anew";
}

TEST(Shipped, Tokenizer) {
  const Tokenizer tokenizer = Tokenizer::load(base() / "tokenizer");
  const Golden out("shipped/tokenizer/ids");
  const auto lines = read_whole_lines(golden_dir() / "shipped/tokenizer/prompts.txt", 1 << 20);
  const auto ids = out.integers("input_ids");
  ASSERT_EQ(out.shape("input_ids"),
            Shape({static_cast<int64_t>(lines.size()), tokenizer.max_length()}));
  ASSERT_GE(lines.size(), 30u);
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto row = ids.begin() + static_cast<int64_t>(i) * tokenizer.max_length();
    EXPECT_EQ(tokenizer.encode(lines[i]), std::vector<int64_t>(row, row + tokenizer.max_length()))
        << "prompt " << i << ": " << lines[i];
  }
}

TEST(Shipped, TextEncoder) {
  const auto c = load_text(cpu(), base() / "text_encoder");
  EXPECT_TRUE(c->unused.empty());
  Tape tape(cpu(), false);
  const Var y = (*c->net)(tape, Golden("shipped/text-encoder/in").ids(cpu(), "input_ids"));
  expect_parity(download(cpu(), y.value()),
                Golden("shipped/text-encoder/out").values("last_hidden_state"), "text-encoder");
}

TEST(Shipped, ImageEncoder) {
  const auto c = load_vision(cpu(), base() / "image_encoder");
  EXPECT_TRUE(c->unused.empty());
  Tape tape(cpu(), false);
  const Var y =
      (*c->net)(tape, Var(Golden("shipped/image-encoder/in").image(cpu(), "pixel_values")));
  expect_parity(download(cpu(), y.value()),
                Golden("shipped/image-encoder/out").values("image_embeds"), "image-encoder");
}

TEST(Shipped, Vae) {
  const auto c = load_vae(cpu(), base() / "vae");
  EXPECT_TRUE(c->unused.empty());
  Tape tape(cpu(), false);
  const Var moments =
      c->net->encode(tape, Var(Golden("shipped/vae-encoder/in").image(cpu(), "sample")));
  const int64_t latent = moments.dim(3) / 2;
  const Golden out("shipped/vae-encoder/out");
  expect_parity(download_nchw(cpu(), cpu().clone(moments.value().columns(0, latent))),
                out.values("mean"), "mean");
  Numbers logvar = download_nchw(cpu(), cpu().clone(moments.value().columns(latent, 2 * latent)));
  for (double& v : logvar) v = std::clamp(v, -30.0, 20.0);
  expect_parity(logvar, out.values("logvar"), "logvar");
  const Var image =
      c->net->decode(tape, Var(Golden("shipped/vae-decoder/in").image(cpu(), "latent")));
  expect_parity(download_nchw(cpu(), image.value()),
                Golden("shipped/vae-decoder/out").values("sample"), "decoded");
}

TEST(Shipped, UNet) {
  const auto c = load_unet(cpu(), base() / "unet");
  EXPECT_TRUE(c->unused.empty());
  const Golden in("shipped/unet/in");
  Tape tape(cpu(), false);
  const Var y = (*c->net)(tape, Var(in.image(cpu(), "sample")), in.ids(cpu(), "timestep"),
                          Var(in.tensor(cpu(), "encoder_hidden_states")));
  expect_parity(download_nchw(cpu(), y.value()), Golden("shipped/unet/out").values("sample"),
                "unet");
}

// Encode, noise, guided steps, decode, from the recorded draws.
TEST(Shipped, ImageToImage) {
  Exec& ex = cpu();
  const auto vae = load_vae(ex, base() / "vae");
  const auto text = load_text(ex, base() / "text_encoder");
  const auto unet = load_unet(ex, base() / "unet");
  const NoiseSchedule schedule = load_schedule(base());
  const Golden in("shipped/img2img/in"), out("shipped/img2img/out");
  const Json options = read_json(golden_dir() / "shipped/img2img/options.json");
  const double factor = vae->net->config().scaling_factor, guidance = options["guidance_scale"];
  Tape tape(ex, false);
  const Tensor positive = (*text->net)(tape, in.ids(ex, "input_ids")).value();
  const Tensor negative = (*text->net)(tape, in.ids(ex, "negative_ids")).value();
  const Tensor context = ex.empty({4, positive.dim(1), positive.dim(2)});
  copy(ex, context.slice(0, 2), negative);
  copy(ex, context.slice(2, 4), positive);

  const Var moments = vae->net->encode(tape, Var(in.image(ex, "image")));
  const Tensor start =
      posterior_sample(tape, moments, in.image(ex, "posterior_noise"), factor).value();
  expect_parity(download_nchw(ex, start), out.values("init_latents"), "init_latents");
  const std::vector<StepCoefficients> steps =
      ddim_steps(schedule, {options["steps"], options["strength"], options["eta"]});
  const std::vector<int64_t> timesteps = out.integers("timesteps");
  ASSERT_EQ(steps.size(), timesteps.size());
  const double abar = schedule.abar(steps.front().timestep);
  const Tensor x = ex.empty(start.shape());
  combine_samples(ex, x, start, in.image(ex, "noise"), ex.full({2}, std::sqrt(abar)),
                  ex.full({2}, std::sqrt(1 - abar)));
  expect_parity(download_nchw(ex, x), out.values("noisy_latents"), "noisy_latents");
  const Numbers states = out.values("latents");
  const auto one = x.numel();
  ASSERT_EQ(states.size(), steps.size() * static_cast<size_t>(one));
  for (size_t i = 0; i < steps.size(); ++i) {
    ASSERT_EQ(steps[i].timestep, timesteps[i]);
    const Tensor both = ex.empty({4, x.dim(1), x.dim(2), x.dim(3)});
    copy(ex, both.slice(0, 2), x);
    copy(ex, both.slice(2, 4), x);
    const Tensor t = ex.from_vector(std::vector<int64_t>(4, steps[i].timestep), {4});
    const Tensor answer = (*unet->net)(tape, Var(both), t, Var(context)).value();
    guided_step(ex, x, x, answer, Tensor(), guidance, steps[i].cx, steps[i].ce, steps[i].cn);
    const auto at = states.begin() + static_cast<int64_t>(i) * one;
    expect_parity(download_nchw(ex, x), Numbers(at, at + one), concat("step ", i));
  }
  scale(ex, x, x, 1 / factor);
  expect_parity(download_nchw(ex, vae->net->decode(tape, Var(x)).value()), out.values("sample"),
                "sample");
}

}  // namespace
}  // namespace realfake::testing
