// LoRA files in their dialects, merging, saving.
#include "model/lora.h"

#include <gtest/gtest.h>

#include <map>

#include "kernels/elementwise.h"
#include "model/pipeline.h"
#include "tests/model/golden.h"
#include "tests/testing/temp_dir.h"

namespace realfake::testing {
namespace {

Exec& cpu() {
  return exec_of(Device::cpu);
}
std::filesystem::path lora_file(const std::string& name) {
  return golden_dir() / "odd/cases/lora" / (name + ".safetensors");
}

struct OddUNet {
  std::unique_ptr<Component<UNet>> c = load_unet(cpu(), golden_dir() / "odd/unet");
  Golden in{"odd/cases/unet/in"};
  Numbers run() const {
    Tape tape(cpu(), false);
    const Var y = (*c->net)(tape, Var(in.image(cpu(), "sample")), in.ids(cpu(), "timestep"),
                            Var(in.tensor(cpu(), "encoder_hidden_states")));
    return download_nchw(cpu(), y.value());
  }
};

Numbers expected(const std::string& name) {
  return Golden("odd/cases/lora/" + name).values("sample");
}
Numbers bare() {
  return Golden("odd/cases/unet/out").values("sample");
}

TEST(Lora, DialectsAtTheirScales) {
  const OddUNet u;
  const struct {
    const char *file, *dialect, *out;
    double scale;
  } cases[] = {{"lora", "peft", "out_scale1", 1},         {"lora", "peft", "out_scale05", 0.5},
               {"lora_alpha", "peft", "out_scale05", 1},  {"lora_alpha", "peft", "out_scale1", 2},
               {"lora_kohya", "kohya", "out_scale05", 1}, {"lora_kohya", "kohya", "out_scale1", 2}};
  for (const auto& c : cases) {
    {
      Lora lora(cpu(), *u.c->net, lora_file(c.file));
      EXPECT_EQ(lora.rank(), 3);
      EXPECT_EQ(lora.dialect(), c.dialect);
      EXPECT_EQ(lora.layers(), u.c->net->attention_linears().size());
      lora.attach(c.scale);
      expect_parity(u.run(), expected(c.out), concat(c.file, " at ", c.scale));
      lora.attach(0);
      expect_parity(u.run(), bare(), concat(c.file, " at 0"));
      lora.attach(1);
    }  // gone with its object
    expect_parity(u.run(), bare(), "detached");
  }
}

// The other three dialects hold the same factors under other names.
TEST(Lora, OlderDialects) {
  const OddUNet u;
  const TempDir dir;
  const SafetensorsFile peft(lora_file("lora"));
  const auto rename = [&](const std::string& dialect, std::string name) {
    const bool down = name.find(".lora_A.") != std::string::npos;
    name.erase(name.rfind(".lora_"));
    const std::string layer = name.substr(5);  // without "unet."
    const std::string part = down ? "down.weight" : "up.weight";
    if (dialect == "diffusers") return "unet." + layer + ".lora." + part;
    const size_t at = layer.find(".to_");
    std::string projection = layer.substr(at + 1);
    if (projection == "to_out.0") projection = "to_out";
    const std::string name_of_old =
        layer.substr(0, at) + ".processor." + projection + "_lora." + part;
    return dialect == "attn_procs" ? name_of_old : "unet." + name_of_old;
  };
  for (const std::string dialect : {"attn_procs", "unet.attn_procs", "diffusers"}) {
    SafetensorsWriter w;
    for (const std::string& name : peft.names())
      w.add_f32(rename(dialect, name), peft.info(name).shape, peft.read_f32(name).data());
    w.write(dir / "lora.safetensors");
    Lora lora(cpu(), *u.c->net, dir / "lora.safetensors");
    EXPECT_EQ(lora.dialect(), dialect);
    lora.attach(1);
    expect_parity(u.run(), expected("out_scale1"), dialect);
  }
}

TEST(Lora, MergedComputesTheSameAndUnmergeRestoresTheBits) {
  const OddUNet u;
  std::map<std::string, Numbers> before;
  for (const Param& p : u.c->parameters.all()) before[p->name] = download(cpu(), p->value);
  Lora lora(cpu(), *u.c->net, lora_file("lora_alpha"));
  lora.attach(1.4);
  const Numbers attached = u.run();
  lora.merge(1.4);
  expect_parity(u.run(), attached, "merged", 1e-5);
  int changed = 0;
  for (const Param& p : u.c->parameters.all())
    changed += !same_bits(before[p->name], download(cpu(), p->value));
  EXPECT_EQ(changed, static_cast<int>(lora.layers()));
  EXPECT_THROW(lora.merge(1), ContractError);
  lora.unmerge();
  for (const Param& p : u.c->parameters.all())
    EXPECT_TRUE(same_bits(before[p->name], download(cpu(), p->value))) << p->name;
  expect_parity(u.run(), bare(), "unmerged");
  lora.merge(2);  // and again
  expect_parity(u.run(), expected("out_scale1"), "merged at 2");
}

TEST(Lora, FreshAndSaved) {
  const OddUNet u;
  const TempDir dir;
  Lora fresh(cpu(), *u.c->net, 4, 9);
  fresh.attach(1);
  expect_parity(u.run(), bare(), "up is zero");
  for (const Param& p : fresh.parameters().all()) {
    const bool up = p->name.find("lora_B") != std::string::npos;
    const Numbers v = download(cpu(), p->value);
    double squares = 0;
    for (const double x : v) squares += x * x;
    if (up)
      EXPECT_EQ(squares, 0) << p->name;
    else
      EXPECT_NEAR(std::sqrt(squares / static_cast<double>(v.size())), 0.25, 0.1) << p->name;
    if (up) fill(cpu(), p->value, 0.01);
  }
  const Numbers trained = u.run();
  fresh.save(dir / "lora.safetensors");
  fresh.detach();
  Lora loaded(cpu(), *u.c->net, dir / "lora.safetensors");
  EXPECT_EQ(loaded.dialect(), "peft");
  EXPECT_EQ(loaded.rank(), 4);
  for (const Param& p : fresh.parameters().all())
    EXPECT_TRUE(same_bits(download(cpu(), p->value),
                          download(cpu(), loaded.parameters().find(p->name)->value)));
  loaded.attach(1);
  EXPECT_TRUE(same_bits(u.run(), trained));

  fill(cpu(), fresh.parameters().all()[2]->value, std::nan(""));
  EXPECT_THROW(fresh.save(dir / "bad.safetensors"), NumericError);
  EXPECT_FALSE(std::filesystem::exists(dir / "bad.safetensors"));
  EXPECT_THROW(Lora(cpu(), *u.c->net, 0, 1), UsageError);
  EXPECT_THROW(Lora(cpu(), *u.c->net, 4096, 1), UsageError);
}

// A file without alpha means alpha = rank, so what was read with another alpha is written with it
// multiplied in.
TEST(Lora, SavedFromAnotherAlphaComputesTheSame) {
  const OddUNet u;
  const TempDir dir;
  {
    const Lora kohya(cpu(), *u.c->net, lora_file("lora_kohya"));
    kohya.save(dir / "lora.safetensors");
  }
  Lora loaded(cpu(), *u.c->net, dir / "lora.safetensors");
  loaded.attach(1);
  expect_parity(u.run(), expected("out_scale05"), "kohya saved as peft");
}

}  // namespace
}  // namespace realfake::testing
