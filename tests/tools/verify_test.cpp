// `verify` against what PyTorch and diffusers recorded (tests/golden/README.md).
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/base/json.h"
#include "model/safetensors.h"
#include "tests/tools/run_program.h"

namespace realfake::testing {
namespace {

namespace fs = std::filesystem;
const fs::path golden = fs::path(REALFAKE_SOURCE_DIR) / "tests/golden";

// Every recorded tensor is there with the same shape, and no element is off by more than `limit`
// (times the tensor's largest value when `relative`).
void expect_same(const fs::path& found, const fs::path& expected, double limit, bool relative) {
  const SafetensorsFile a(found), b(expected);
  for (const std::string& name : b.names()) {
    ASSERT_TRUE(a.has(name)) << found << " lacks " << name;
    ASSERT_EQ(a.info(name).shape, b.info(name).shape) << name;
    if (b.info(name).dtype == WeightType::i64) {
      EXPECT_EQ(a.read_i64(name), b.read_i64(name)) << name;
      continue;
    }
    const std::vector<float> x = a.read_f32(name), y = b.read_f32(name);
    double largest = 0, worst = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(y[i])));
      worst = std::max(worst, std::abs(static_cast<double>(x[i]) - y[i]));
    }
    EXPECT_TRUE(worst <= (relative ? limit * largest : limit))
        << expected << " '" << name << "': off by " << worst << ", largest " << largest;
  }
}

void run_and_compare(std::vector<std::string> arguments, const fs::path& expected, double limit,
                     bool relative = false) {
  const TempDir dir;
  arguments.push_back("--out");
  arguments.push_back((dir / "out.safetensors").string());
  const Outcome o = run_program(arguments);
  ASSERT_EQ(o.code, 0) << o.err;
  expect_same(dir / "out.safetensors", expected, limit, relative);
}

struct ForwardCase {
  const char *root, *component, *folder;
};
class VerifyForward : public ::testing::TestWithParam<std::tuple<ForwardCase, const char*>> {};

TEST_P(VerifyForward, AgreesWithTheRecording) {
  const auto [c, device] = GetParam();
  const fs::path folder = golden / c.root / c.folder;
  run_and_compare({"verify", "forward", "--model", (golden / c.root).string(), "--component",
                   c.component, "--device", device, "--in", (folder / "in.safetensors").string()},
                  folder / "out.safetensors", 1e-4);
}

INSTANTIATE_TEST_SUITE_P(
    Golden, VerifyForward,
    ::testing::Combine(::testing::Values(ForwardCase{"odd", "unet", "cases/unet"},
                                         ForwardCase{"odd", "unet", "cases/unet_even"},
                                         ForwardCase{"odd", "vae-encoder", "cases/vae-encoder"},
                                         ForwardCase{"odd", "vae-decoder", "cases/vae-decoder"},
                                         ForwardCase{"odd", "text-encoder", "cases/text-encoder"},
                                         ForwardCase{"odd", "image-encoder", "cases/image-encoder"},
                                         ForwardCase{"sd2", "unet", "cases/unet"},
                                         ForwardCase{"sd2", "text-encoder", "cases/text-encoder"},
                                         ForwardCase{"resnet", "resnet", "."}),
                       ::testing::Values("cpu", "emulated")));

TEST(VerifyLora, EveryDialectAndScale) {
  const fs::path cases = golden / "odd/cases";
  const auto check = [&](const char* lora, const char* scale, const char* out) {
    run_and_compare({"verify", "forward", "--model", (golden / "odd").string(), "--component",
                     "unet", "--in", (cases / "unet/in.safetensors").string(), "--lora",
                     (cases / "lora" / lora).string(), "--lora_scale", scale},
                    cases / "lora" / out, 1e-4);
  };
  check("lora.safetensors", "1", "out_scale1.safetensors");
  check("lora.safetensors", "0.5", "out_scale05.safetensors");
  check("lora_alpha.safetensors", "1", "out_scale05.safetensors");
  check("lora_kohya.safetensors", "1", "out_scale05.safetensors");
}

TEST(VerifyGradient, AgreesWithTheRecordings) {
  for (const char* root : {"odd", "sd2"}) {
    const fs::path cases = golden / root / "cases";
    const Json options = read_json(cases / "gradient/options.json");
    for (const auto& [name, o] : options.items()) {
      SCOPED_TRACE(std::string(root) + " " + name);
      run_and_compare(
          {"verify", "gradient", "--model", (golden / root).string(), "--lora",
           (cases / "lora/lora.safetensors").string(), "--in",
           (cases / "gradient/in.safetensors").string(), "--snr-gamma", o["snr_gamma"].dump(),
           "--dist-match", o["dist_match"].dump(), "--mmd", o["mmd"].get<std::string>()},
          cases / ("gradient/out_" + name + ".safetensors"), 1e-4, true);
    }
  }
}

TEST(VerifySampler, DdimAgreesWithTheRecordings) {
  const Json cases = read_json(golden / "sampler/cases.json");
  int compared = 0;
  for (const auto& [name, c] : cases.items()) {
    if (c["scheduler"].get<std::string>() != "ddim") continue;
    SCOPED_TRACE(name);
    const fs::path base = golden / "sampler" / name;
    run_and_compare({"verify", "sampler", "--scheduler", "ddim", "--scheduler_config",
                     (golden / "sampler" / c["scheduler_config"].get<std::string>()).string(),
                     "--steps", c["steps"].dump(), "--strength", c["strength"].dump(), "--eta",
                     c["eta"].dump(), "--in", base.string() + ".in.safetensors"},
                    base.string() + ".out.safetensors", 1e-5, true);
    ++compared;
  }
  EXPECT_GE(compared, 6);
}

TEST(VerifyTokenize, AgreesWithTheRecordings) {
  const fs::path folder = golden / "tokenizer";
  run_and_compare({"verify", "tokenize", "--tokenizer", folder.string(), "--in",
                   (folder / "prompts.txt").string()},
                  folder / "ids.safetensors", 0);

  // Padded as SD 2.x does, and no newline at the end of the file.
  const TempDir dir;
  for (const char* name : {"vocab.json", "merges.txt", "tokenizer_config.json"})
    fs::copy_file(folder / name, dir / name);
  Json special = read_json(folder / "special_tokens_map.json");
  special["pad_token"] = "!";
  write_text(dir / "special_tokens_map.json", special.dump());
  const fs::path expected = folder / "ids_pad_sd2.safetensors";
  const auto rows = static_cast<size_t>(SafetensorsFile(expected).info("input_ids").shape.at(0));
  const std::string all = read_text(folder / "prompts.txt");
  size_t end = 0;
  for (size_t i = 0; i < rows; ++i) end = all.find('\n', end) + 1;
  write_text(dir / "prompts.txt", all.substr(0, end - 1));
  run_and_compare({"verify", "tokenize", "--tokenizer", dir.path().string(), "--in",
                   (dir / "prompts.txt").string()},
                  expected, 0);
}

TEST(VerifyInputs, WrongTensorsAreNamed) {
  const TempDir dir;
  SafetensorsWriter w;
  const std::vector<int64_t> ids(3 * 9, 40);  // the vocabulary ends at 39
  w.add_i64("input_ids", {3, 9}, ids.data());
  w.write(dir / "in.safetensors");
  const auto run = [&](const std::string& component, const std::string& in) {
    return run_program({"verify", "forward", "--model", (golden / "odd").string(), "--component",
                        component, "--in", in, "--out", (dir / "out.safetensors").string()});
  };
  const std::string in = (dir / "in.safetensors").string();
  Outcome o = run("text-encoder", in);
  EXPECT_EQ(o.code, 3);
  EXPECT_EQ(o.err, "error: " + in + ": 'input_ids' index 0: found 40, expected 0..39\n");
  o = run("unet", in);
  EXPECT_EQ(o.code, 3);
  EXPECT_NE(o.err.find("sample"), std::string::npos) << o.err;
  EXPECT_FALSE(fs::exists(dir / "out.safetensors"));
}

}  // namespace
}  // namespace realfake::testing
