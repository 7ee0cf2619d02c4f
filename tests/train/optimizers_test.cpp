// AdamW and SGD against PyTorch's steps, their state on disk, schedules and the moving average.
#include "train/optimizers.h"

#include <gtest/gtest.h>

#include "kernels/elementwise.h"
#include "kernels/loss.h"
#include "model/lora.h"
#include "model/pipeline.h"
#include "tests/model/golden.h"
#include "tests/testing/temp_dir.h"

namespace realfake::testing {
namespace {

Exec& cpu() {
  return exec_of(Device::cpu);
}

// Puts a gradient where backward would have left it.
void give_gradient(const Param& p, const Numbers& values) {
  copy(cpu(), p->slot->grad, upload(cpu(), values, p->value.shape(), p->value.dtype()));
  p->slot->arrived = true;
}

TEST(Optimizers, AdamWOfPyTorch) {
  const auto unet = load_unet(cpu(), golden_dir() / "odd/unet");
  Lora lora(cpu(), *unet->net, golden_dir() / "odd/cases/lora/lora.safetensors");
  lora.parameters().set_trainable(true);
  const Golden official("odd/cases/gradient/out_official"), rbf("odd/cases/gradient/out_rbf");
  const Golden out("odd/cases/gradient/adamw");
  const std::vector<Param> params = lora.parameters().trainable();
  AdamW optimizer(cpu(), params, AdamWParams{1e-2, 0.9, 0.999, 1e-8, 1e-2});
  for (const int step : {1, 2}) {
    for (const Param& p : params) {
      Numbers g = (step == 1 ? official : rbf).values("grad." + p->name);
      if (step == 2)
        for (double& v : g) v *= 8;
      give_gradient(p, g);
    }
    const double norm = optimizer.step(1e-2, 1.0), want = out.scalar(concat("norm", step));
    EXPECT_NEAR(norm, want, 1e-5 * want);
    EXPECT_EQ(optimizer.steps(), step);
    for (const Param& p : params) {
      EXPECT_FALSE(p->slot->arrived);
      expect_parity(download(cpu(), p->value), out.values(concat("step", step, ".", p->name)),
                    p->name, 1e-5);
    }
  }
  EXPECT_GT(out.scalar("norm2"), 1);                       // the second step was clipped
  EXPECT_THROW(optimizer.step(1e-2, 1.0), ContractError);  // no gradient since
}

TEST(Optimizers, ResNetTrainingOfPyTorch) {
  Exec& ex = cpu();
  const auto c = load_resnet(ex, golden_dir() / "resnet/model.safetensors");
  c->parameters.set_trainable(true, ResNet::is_learned);
  Sgd optimizer(ex, c->parameters.trainable(), SgdParams{0.1, 0.9, 5e-4, true});
  const Golden in("resnet/train_in"), out("resnet/train_out");
  const auto compare_values = [&](const std::string& prefix) {
    int compared = 0;
    for (const std::string& name : out.names()) {
      if (name.rfind(prefix, 0) != 0) continue;
      const Param p = c->parameters.find(name.substr(prefix.size()));
      if (!p) continue;
      expect_parity(in_file_layout(c->parameters, *p, p->value), out.values(name), name);
      ++compared;
    }
    return compared;
  };
  for (int step = 1; step <= 3; ++step) {
    Tape tape(ex);
    const std::vector<int64_t> labels = in.integers(concat("labels", step));
    const Tensor target = ex.empty({6, 10});
    one_hot(ex, target, ex.from_vector(labels, {6}));
    const Var logits = (*c->net)(tape, Var(in.image(ex, concat("pixel_values", step))), true);
    const Var loss = cross_entropy(tape, logits, target, 0.1);
    tape.backward(loss);
    expect_parity(download(ex, logits.value()), out.values(concat("step", step, ".logits")),
                  concat("logits ", step));
    const double want = out.scalar(concat("step", step, ".loss"));
    EXPECT_NEAR(ex.scalar(loss.value()), want, 1e-5 * want);
    if (step == 1) {
      EXPECT_EQ(expect_gradients(c->parameters, out, "grad."), 13);
      EXPECT_EQ(compare_values("running."), 18);
    }
    optimizer.step(0.1, 0);
    if (step == 2) {
      EXPECT_EQ(compare_values("step2."), 13);
    }
    if (step == 3) {
      EXPECT_EQ(compare_values("step3."), 13 + 18);
    }
  }
}

// Two parameters, one of them a vector, with gradients that depend on the step.
struct Toy {
  Parameters parameters{cpu()};
  Param a, b;
  Toy() {
    const Builder builder(parameters, nullptr, 3);
    a = builder.get("a.weight", {3, 4}, Init::gaussian(1));
    b = builder.get("a.bias", {4}, Init::gaussian(1));
    parameters.set_trainable(true);
  }
  void gradients(int step) const {
    give_gradient(a, make_values(normal(), {3, 4}, DType::f32, static_cast<uint64_t>(10 + step)));
    give_gradient(b, make_values(normal(), {4}, DType::f32, static_cast<uint64_t>(20 + step)));
  }
};

template <class Optimizer, class Options>
void resumes_exactly(Options options) {
  const TempDir dir;
  const Toy whole;
  Optimizer first(cpu(), whole.parameters.all(), options);
  for (int step = 0; step < 5; ++step) {
    whole.gradients(step);
    first.step(0.01 * (step + 1), 1.0);
    if (step != 2) continue;
    SafetensorsWriter w;
    first.save(w);
    save_values(w, cpu(), whole.parameters.all());
    w.write(dir / "state.safetensors");
  }
  const Toy resumed;
  Optimizer second(cpu(), resumed.parameters.all(), options);
  const SafetensorsFile f(dir / "state.safetensors");
  second.load(f);
  load_values(f, cpu(), resumed.parameters.all());
  if constexpr (requires { second.steps(); }) {
    EXPECT_EQ(second.steps(), 3);
  }
  for (int step = 3; step < 5; ++step) {
    resumed.gradients(step);
    second.step(0.01 * (step + 1), 1.0);
  }
  EXPECT_TRUE(same_bits(download(cpu(), whole.a->value), download(cpu(), resumed.a->value)));
  EXPECT_TRUE(same_bits(download(cpu(), whole.b->value), download(cpu(), resumed.b->value)));
}

TEST(Optimizers, ResumeExactly) {
  resumes_exactly<AdamW>(AdamWParams{});
  resumes_exactly<Sgd>(SgdParams{});
}

TEST(Optimizers, StateOfAnotherShapeIsRefused) {
  const TempDir dir;
  const Toy toy;
  const AdamW optimizer(cpu(), toy.parameters.all(), {});
  SafetensorsWriter w;
  optimizer.save(w);
  w.write(dir / "state.safetensors");
  Parameters other(cpu());
  const Builder b(other, nullptr);
  b.get("a.weight", {4, 4}, Init::ones());
  other.set_trainable(true);
  AdamW changed(cpu(), other.all(), {});
  EXPECT_THROW(changed.load(SafetensorsFile(dir / "state.safetensors")), InputError);
  Parameters renamed(cpu());
  Builder(renamed, nullptr).get("b.weight", {3, 4}, Init::ones());
  renamed.set_trainable(true);
  AdamW missing(cpu(), renamed.all(), {});
  EXPECT_THROW(missing.load(SafetensorsFile(dir / "state.safetensors")), InputError);
}

TEST(Optimizers, NonFiniteGradientNamesTheParameterAndChangesNothing) {
  const Toy toy;
  AdamW adamw(cpu(), toy.parameters.all(), {});
  Sgd sgd(cpu(), toy.parameters.all(), {});
  const Numbers a = download(cpu(), toy.a->value), b = download(cpu(), toy.b->value);
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    toy.gradients(0);
    give_gradient(toy.b, {1, 2, bad, bad});
    for (const bool first : {true, false}) {
      try {
        first ? adamw.step(0.1, 1) : sgd.step(0.1, 1);
        ADD_FAILURE() << "accepted";
      } catch (const NumericError& e) {
        EXPECT_NE(std::string(e.what()).find("'a.bias': 2 values not finite, first at index 2"),
                  std::string::npos)
            << e.what();
      }
    }
  }
  EXPECT_EQ(adamw.steps(), 0);
  EXPECT_TRUE(same_bits(a, download(cpu(), toy.a->value)));
  EXPECT_TRUE(same_bits(b, download(cpu(), toy.b->value)));
}

TEST(Optimizers, DecayOfVectors) {
  for (const bool decay : {false, true}) {
    const Toy toy;
    const Numbers a = download(cpu(), toy.a->value), b = download(cpu(), toy.b->value);
    give_gradient(toy.a, Numbers(12, 0.0));
    give_gradient(toy.b, Numbers(4, 0.0));
    AdamW optimizer(cpu(), toy.parameters.all(), AdamWParams{.weight_decay = 0.5}, decay);
    optimizer.step(0.1, 0);
    EXPECT_NEAR(download(cpu(), toy.a->value)[0], 0.95 * a[0], 1e-6);
    EXPECT_NEAR(download(cpu(), toy.b->value)[0], (decay ? 0.95 : 1) * b[0], 1e-6);
  }
}

TEST(Optimizers, Rates) {
  EXPECT_DOUBLE_EQ(constant_rate(2, 0, 4), 0.5);
  EXPECT_DOUBLE_EQ(constant_rate(2, 3, 4), 2);
  EXPECT_DOUBLE_EQ(constant_rate(2, 1000, 4), 2);
  EXPECT_DOUBLE_EQ(constant_rate(2, 0, 0), 2);
  EXPECT_DOUBLE_EQ(cosine_rate(2, 1, 104, 4), 1);
  EXPECT_DOUBLE_EQ(cosine_rate(2, 4, 104, 4), 2);
  EXPECT_DOUBLE_EQ(cosine_rate(2, 54, 104, 4), 1);
  EXPECT_NEAR(cosine_rate(2, 104, 104, 4), 0, 1e-15);
  EXPECT_NEAR(cosine_rate(2, 500, 104, 4), 0, 1e-15);
  double last = 3;
  for (int64_t step = 4; step < 104; ++step) {
    const double rate = cosine_rate(2, step, 104, 4);
    EXPECT_LT(rate, last);
    last = rate;
  }
}

TEST(Optimizers, MovingAverage) {
  const TempDir dir;
  const Toy toy;
  Ema ema(cpu(), toy.parameters.all(), 0.9);
  const Numbers start = download(cpu(), toy.a->value);
  add(cpu(), toy.a->value, toy.a->value, cpu().full({3, 4}, 1));
  ema.update();
  const Numbers live = download(cpu(), toy.a->value);
  ema.swap();
  const Numbers average = download(cpu(), toy.a->value);
  for (size_t i = 0; i < start.size(); ++i) EXPECT_NEAR(average[i], start[i] + 0.1, 1e-6);
  ema.swap();
  EXPECT_TRUE(same_bits(live, download(cpu(), toy.a->value)));
  SafetensorsWriter w;
  ema.save(w);
  w.write(dir / "ema.safetensors");
  Ema again(cpu(), toy.parameters.all(), 0.9);
  again.load(SafetensorsFile(dir / "ema.safetensors"));
  again.swap();
  EXPECT_TRUE(same_bits(average, download(cpu(), toy.a->value)));
}

}  // namespace
}  // namespace realfake::testing
