// The tape's rules: what is recorded, what is kept, how gradients gather.
#include "model/tape.h"

#include <gtest/gtest.h>

#include "kernels/elementwise.h"
#include "model/functions.h"
#include "model/pipeline.h"
#include "tests/model/golden.h"

namespace realfake::testing {
namespace {

Tensor values(Exec& ex, const Shape& shape, uint64_t seed, DType dtype = DType::f64) {
  return upload(ex, make_values(normal(), shape, DType::f32, seed), shape, dtype);
}

// Memory that a chain of equal layers holds after its forward, in units of one activation. The
// executor is fresh, so its high-water mark is this chain's.
template <class Layer>
double peak_in_activations(const Shape& shape, int layers, bool trainable,
                           const std::vector<Shape>& weights, Layer layer, double allowance = 5) {
  Exec ex(Device::cpu);
  std::vector<Var> w;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Tensor v = values(ex, weights[i], 10 + i, DType::f32);
    w.push_back(trainable ? leaf(v) : Var(v));
  }
  Tape tape(ex);
  Var x = leaf(values(ex, shape, 1, DType::f32));
  const auto one = static_cast<double>(shape.numel() * 4);
  const auto before = static_cast<double>(ex.peak_bytes());
  for (int i = 0; i < layers; ++i) x = layer(tape, x, w);
  const double forward = (static_cast<double>(ex.peak_bytes()) - before) / one;
  tape.backward(x, values(ex, x.shape(), 3, DType::f32));
  const double both = (static_cast<double>(ex.peak_bytes()) - before) / one;
  // Each node lets go of what it kept as soon as it has run, so going back adds no more than a few
  // buffers.
  EXPECT_LE(both, forward + allowance);
  EXPECT_EQ(tape.nodes(), 0u);
  return forward;
}

TEST(Tape, FrozenLinearKeepsNoInput) {
  const auto layer = [](Tape& t, const Var& x, const std::vector<Var>& w) {
    return linear(t, x, w[0], w[1]);
  };
  const Shape x{1024, 16};
  EXPECT_LE(peak_in_activations(x, 24, false, {{16, 16}, {16}}, layer), 4);
  EXPECT_GE(peak_in_activations(x, 24, true, {{16, 16}, {16}}, layer), 23);
}

TEST(Tape, FrozenConvolutionKeepsNoInput) {
  const auto layer = [](Tape& t, const Var& x, const std::vector<Var>& w) {
    return conv2d(t, x, w[0], w[1], ConvParams::same(3));
  };
  const Shape x{4, 16, 16, 16};
  EXPECT_LE(peak_in_activations(x, 24, false, {{16, 3, 3, 16}, {16}}, layer), 4);
  EXPECT_GE(peak_in_activations(x, 24, true, {{16, 3, 3, 16}, {16}}, layer), 23);
}

TEST(Tape, FrozenLoraKeepsItsInputOnlyForDown) {
  const Shape x{1024, 16};
  const auto chain = [&](bool down, bool up) {
    return peak_in_activations(x, 24, false, {{16, 16}, {2, 16}, {16, 2}},
                               [&](Tape& t, const Var& in, const std::vector<Var>& w) {
                                 const Var a = down ? leaf(w[1].value()) : w[1];
                                 const Var b = up ? leaf(w[2].value()) : w[2];
                                 return lora_linear(t, in, w[0], Var(), a, b, 0.5);
                               });
  };
  EXPECT_LE(chain(false, true), 24 * 2.0 / 16 + 4);  // x down^T is 2 wide
  EXPECT_GE(chain(true, true), 23);
}

TEST(Tape, RecordsOnlyWhatNeedsAGradient) {
  Exec& ex = exec_of(Device::cpu);
  Tape tape(ex);
  const Var a(values(ex, {4, 6}, 1)), w(values(ex, {6, 6}, 2)), none;
  Var y = linear(tape, a, w, none);
  y = add(tape, activate(tape, y, Activation::gelu), y);
  EXPECT_FALSE(y.needs_grad());
  EXPECT_EQ(tape.nodes(), 0u);
  EXPECT_THROW(tape.backward(y, y.value()), ContractError);

  const Var z = add(tape, y, leaf(values(ex, {4, 6}, 3)));
  EXPECT_TRUE(z.needs_grad());
  EXPECT_EQ(tape.nodes(), 1u);
  const Var beside = activate(tape, y, Activation::silu);
  EXPECT_EQ(tape.nodes(), 1u);
  EXPECT_THROW(beside.grad(), ContractError);

  Tape off(ex, false);
  const Var plain = linear(off, leaf(a.value()), leaf(w.value()), none);
  EXPECT_FALSE(plain.needs_grad());
  EXPECT_EQ(off.nodes(), 0u);
}

TEST(Tape, FrozenNetworksRecordNothing) {
  Exec& ex = exec_of(Device::cpu);
  const auto root = golden_dir() / "odd";
  const auto vae = load_vae(ex, root / "vae");
  const auto text = load_text(ex, root / "text_encoder");
  const auto vision = load_vision(ex, root / "image_encoder");
  const auto unet = load_unet(ex, root / "unet");
  Tape tape(ex);
  const Var latent =
      vae->net->encode(tape, Var(Golden("odd/cases/vae-encoder/in").image(ex, "sample")));
  vae->net->decode(tape, Var(Golden("odd/cases/vae-decoder/in").image(ex, "latent")));
  (*text->net)(tape, Golden("odd/cases/text-encoder/in").ids(ex, "input_ids"));
  (*vision->net)(tape, Var(Golden("odd/cases/image-encoder/in").image(ex, "pixel_values")));
  const Golden in("odd/cases/unet/in");
  (*unet->net)(tape, Var(in.image(ex, "sample")), in.ids(ex, "timestep"),
               Var(in.tensor(ex, "encoder_hidden_states")));
  EXPECT_EQ(tape.nodes(), 0u);
  EXPECT_TRUE(latent.defined());
}

TEST(Tape, BranchesThatLeadNowhereAreSkipped) {
  Exec& ex = exec_of(Device::cpu);
  Tape tape(ex);
  const Var x = leaf(values(ex, {3, 2}, 1));
  const Var used = scale(tape, x, 2), unused = scale(tape, x, 100);
  tape.backward(used, ex.full({3, 2}, 1, DType::f64));
  EXPECT_EQ(download(ex, x.grad()), Numbers(6, 2.0));
  EXPECT_FALSE(unused.slot()->arrived);
  EXPECT_EQ(tape.nodes(), 0u);
}

TEST(Tape, GradientsOfAValueUsedTwiceAdd) {
  Exec& ex = exec_of(Device::cpu);
  const Tensor ones = ex.full({2, 3}, 1, DType::f64);
  {
    Tape tape(ex);
    const Var x = leaf(values(ex, {2, 3}, 1));
    tape.backward(add(tape, x, x), ones);
    EXPECT_EQ(download(ex, x.grad()), Numbers(6, 2.0));
  }
  {  // A skip connection: y = 3 (x + 5 x) + x, and the cotangent of the caller is left alone.
    Tape tape(ex);
    const Var x = leaf(values(ex, {2, 3}, 1));
    const Var h = add(tape, x, scale(tape, x, 5));
    tape.backward(add(tape, scale(tape, h, 3), x), ones);
    EXPECT_EQ(download(ex, x.grad()), Numbers(6, 19.0));
    EXPECT_EQ(download(ex, ones), Numbers(6, 1.0));
  }
  {  // Both halves of a concat, then reshaped both ways.
    Tape tape(ex);
    const Var x = leaf(values(ex, {2, 3}, 1));
    const Var both = concat_columns(tape, x, scale(tape, x, 2));
    const Var y = add(tape, reshape(tape, both, {12}), reshape(tape, both, {12}));
    tape.backward(y, ex.full({12}, 1, DType::f64));
    EXPECT_EQ(download(ex, x.grad()), Numbers(6, 6.0));
  }
  {  // The sum hands its gradient on without a copy: neither side may see the other's additions.
    Tape tape(ex);
    const Var a = leaf(values(ex, {2, 3}, 1)), b = leaf(values(ex, {2, 3}, 2));
    const Var s = add(tape, a, b);
    const Var y = add(tape, scale(tape, s, 2), scale(tape, a, 10));
    tape.backward(y, ones);
    EXPECT_EQ(download(ex, a.grad()), Numbers(6, 12.0));
    EXPECT_EQ(download(ex, b.grad()), Numbers(6, 2.0));
  }
}

TEST(Tape, SeveralOutputs) {
  Exec& ex = exec_of(Device::cpu);
  Tape tape(ex);
  const Var x = leaf(values(ex, {2, 2}, 1));
  const Var a = scale(tape, x, 2), b = scale(tape, a, 3);
  const Tensor ones = ex.full({2, 2}, 1, DType::f64);
  tape.backward({{a, ones}, {b, ones}});
  EXPECT_EQ(download(ex, x.grad()), Numbers(4, 8.0));
}

TEST(Tape, PersistentSlotsKeepTheirBufferAndClear) {
  Exec& ex = exec_of(Device::cpu);
  Parameters parameters(ex);
  const Builder b(parameters, nullptr, 3, DType::f64);
  const Param p = b.get("weight", {2, 2}, Init::gaussian(1)),
              q = b.get("other", {2, 2}, Init::ones());
  EXPECT_TRUE(parameters.trainable().empty());
  parameters.set_trainable(true, [](const Parameter& x) { return x.name == "weight"; });
  ASSERT_EQ(parameters.trainable().size(), 1u);
  EXPECT_FALSE(q->var().needs_grad());
  const void* buffer = p->slot->grad.raw();
  const Tensor ones = ex.full({2, 2}, 1, DType::f64);
  const auto run = [&](double factor) {
    Tape tape(ex);
    tape.backward(add(tape, scale(tape, p->var(), factor), q->var()), ones);
  };
  run(2);
  run(3);  // not cleared: accumulates over micro-batches
  EXPECT_EQ(download(ex, p->slot->grad), Numbers(4, 5.0));
  parameters.clear_gradients();
  EXPECT_THROW(p->var().grad(), ContractError);
  run(7);
  EXPECT_EQ(download(ex, p->slot->grad), Numbers(4, 7.0));
  EXPECT_EQ(p->slot->grad.raw(), buffer);
  {  // the sum would hand over its own tensor; a persistent slot must copy instead
    parameters.clear_gradients();
    Tape tape(ex);
    tape.backward(add(tape, p->var(), q->var()), ones);
    EXPECT_EQ(p->slot->grad.raw(), buffer);
    EXPECT_NE(buffer, ones.raw());
  }
  parameters.set_trainable(false);
  EXPECT_TRUE(parameters.trainable().empty());
  Parameter twice;
  twice.name = "weight";
  EXPECT_THROW(parameters.add(std::move(twice)), ContractError);
}

TEST(Tape, CheckpointRunsTwiceWithTheSameBits) {
  Exec& ex = exec_of(Device::cpu);
  Parameters parameters(ex);
  const Builder b(parameters, nullptr, 5);
  const Linear first(b / "first", 8, 8), second(b / "second", 8, 8);
  const Param gamma = b.get("gamma", {8}, Init::ones()), beta = b.get("beta", {8}, Init::zeros());
  parameters.set_trainable(true);
  int runs = 0;
  const Block block = [&](Tape& t, const std::vector<Var>& in) {
    ++runs;
    const Var h = activate(t, first(t, layer_norm(t, in[0], gamma->var(), beta->var(), 1e-5)),
                           Activation::gelu);
    return add(t, in[0], add(t, second(t, h), in[1]));
  };
  const Tensor x = values(ex, {5, 8}, 1, DType::f32), z = values(ex, {5, 8}, 2, DType::f32);
  const Tensor dy = values(ex, {5, 8}, 3, DType::f32);
  const auto run = [&](bool check) {
    parameters.clear_gradients();
    Tape tape(ex);
    const Var a = leaf(x), c = leaf(z);
    const Var twice = scale(tape, a, 0.5);
    Var y = check ? checkpoint(tape, {twice, c}, block) : block(tape, {twice, c});
    y = add(tape, y, a);
    tape.backward(y, dy);
    std::vector<Numbers> all{download(ex, y.value()), download(ex, a.grad()),
                             download(ex, c.grad())};
    for (const Param& p : parameters.all()) all.push_back(download(ex, p->slot->grad));
    return all;
  };
  const std::vector<Numbers> plain = run(false);
  EXPECT_EQ(runs, 1);
  const std::vector<Numbers> checked = run(true);
  EXPECT_EQ(runs, 3);
  ASSERT_EQ(plain.size(), checked.size());
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(same_bits(plain[i], checked[i])) << i;

  Tape off(ex, false);
  checkpoint(off, {Var(x), Var(z)}, block);
  EXPECT_EQ(runs, 4);
  EXPECT_EQ(off.nodes(), 0u);
}

TEST(Tape, CheckpointKeepsOnlyItsInputs) {
  const Shape shape{1024, 16};
  const auto layer = [](Tape& t, const Var& x, const std::vector<Var>& w) {
    return linear(t, x, w[0], w[1]);
  };
  const auto peak = peak_in_activations(
      shape, 3, true, {{16, 16}, {16}},
      [&](Tape& t, const Var& x, const std::vector<Var>& w) {
        return checkpoint(t, {x}, [&layer, w](Tape& inner, const std::vector<Var>& in) {
          Var y = in[0];
          for (int i = 0; i < 4; ++i) y = layer(inner, y, w);
          return y;
        });
      },
      8);              // back: the four inputs of one block at a time
  EXPECT_LE(peak, 7);  // 12 layers, 3 kept inputs
}

}  // namespace
}  // namespace realfake::testing
