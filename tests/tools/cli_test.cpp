// The command line: what is refused, how it is said, and how the program ends.
#include "tools/cli.h"

#include <gtest/gtest.h>

#include "tests/tools/run_program.h"

namespace realfake::testing {
namespace {

const std::string golden = std::string(REALFAKE_SOURCE_DIR) + "/tests/golden";

struct Sample {
  int64_t steps = 100;
  double snr_gamma = 5;
  bool ema = true;
  std::string mode = "one", note;
  std::filesystem::path out;
  std::vector<std::filesystem::path> real;
  Options options;

  Sample() {
    options.integer("steps", &steps, 1, 1000000000, "steps");
    options.number("snr_gamma", &snr_gamma, 0, 1e6, "weights");
    options.flag("ema", &ema, "average");
    options.text("mode", &mode, "mode", {"one", "two"});
    options.text("note", &note, "anything");
    options.path("out", &out, "folder").required();
    options.paths("real", &real, "folders");
  }
  bool parse(std::vector<std::string> words) {
    words.insert(words.end(), {"--out", "o"});
    return options.parse(words, "sample");
  }
  // The message that these words meet.
  static std::string refused(const std::vector<std::string>& words) {
    Sample s;
    try {
      s.parse(words);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "accepted";
  }
};

TEST(Options, ReadsEveryKind) {
  Sample s;
  ASSERT_TRUE(s.parse({"--steps", "7", "--snr_gamma=2.5", "--no_ema", "--mode", "two", "--real",
                       "a", "b", "--note", "--not-an-option"}));
  EXPECT_EQ(s.steps, 7);
  EXPECT_EQ(s.snr_gamma, 2.5);
  EXPECT_FALSE(s.ema);
  EXPECT_EQ(s.mode, "two");
  EXPECT_EQ(s.real, (std::vector<std::filesystem::path>{"a", "b"}));
  EXPECT_EQ(s.note, "--not-an-option");
  EXPECT_TRUE(s.options.given("steps"));
  EXPECT_FALSE(Sample().options.given("steps"));
}

TEST(Options, DashAndUnderscoreAreTheSame) {
  Sample s;
  ASSERT_TRUE(s.parse({"--snr-gamma", "3", "--no-ema"}));
  EXPECT_EQ(s.snr_gamma, 3);
  EXPECT_FALSE(s.ema);
  EXPECT_EQ(Sample::refused({"--snr-gamma", "3", "--snr_gamma", "4"}),
            "--snr_gamma is given 2 times");
}

TEST(Options, ValuesMayBeginWithADash) {
  EXPECT_EQ(Sample::refused({"--steps", "-1"}), "--steps is '-1', expected 1..1000000000");
  EXPECT_EQ(Sample::refused({"--steps=-1"}), "--steps is '-1', expected 1..1000000000");
}

TEST(Options, RefusesWhatIsNoNumberInBounds) {
  const std::string expected = "', expected 1..1000000000";
  for (const std::string word :
       {"nan", "0", "1e99", "1e3", "", "7x", " 7", "0x10", "+7", "99999999999999999999", "1.5"})
    EXPECT_EQ(Sample::refused({"--steps", word}), "--steps is '" + word + expected);
  EXPECT_EQ(Sample::refused({"--steps="}), "--steps is '" + expected);
  for (const std::string word : {"nan", "inf", "-1", "1e99", "", "five"})
    EXPECT_EQ(Sample::refused({"--snr_gamma", word}),
              "--snr_gamma is '" + word + "', expected 0..1e+06");
}

TEST(Options, RefusesTheRest) {
  EXPECT_EQ(Sample::refused({"--mode", "three"}), "--mode is 'three', expected one, two");
  EXPECT_EQ(Sample::refused({"--ema=maybe"}), "--ema is 'maybe', expected true or false");
  EXPECT_EQ(Sample::refused({"--step", "3"}),
            "sample: unknown option '--step'; did you mean 'steps'?");
  EXPECT_EQ(Sample::refused({"--zzzzzzzz"}), "sample: unknown option '--zzzzzzzz'");
  EXPECT_EQ(Sample::refused({"word"}), "sample: unexpected argument 'word'");
  EXPECT_EQ(Sample::refused({"--steps", "1", "--steps", "1"}), "--steps is given 2 times");
  EXPECT_EQ(Sample::refused({"--mode", "\x1b[31m"}), "--mode is '\\x1b[31m', expected one, two");
  Sample s;
  EXPECT_THROW(s.options.parse({}, "sample"), UsageError);  // --out is missing
  try {
    s.options.parse({"--out"}, "sample");
    FAIL() << "accepted";
  } catch (const UsageError& e) {
    EXPECT_STREQ(e.what(), "sample: --out has no value");
  }
}

TEST(Options, ConfigGivesWhatTheCommandLineDoesNot) {
  const TempDir dir;
  const auto file = dir / "run.toml";
  write_text(file,
             "steps = 5\nsnr-gamma = 2\nema = false\nreal = [\"x\", \"y\"]\nmode = \"two\"\n");
  Sample s;
  ASSERT_TRUE(s.parse({"--config", file.string(), "--steps", "9"}));
  EXPECT_EQ(s.steps, 9);
  EXPECT_EQ(s.snr_gamma, 2);
  EXPECT_FALSE(s.ema);
  EXPECT_EQ(s.mode, "two");
  EXPECT_EQ(s.real.size(), 2u);
}

TEST(Options, ConfigIsCheckedAlike) {
  const TempDir dir;
  const std::string file = (dir / "run.toml").string();
  const auto refused = [&](const std::string& text) {
    write_text(file, text);
    return Sample::refused({"--config", file});
  };
  EXPECT_EQ(refused("\nstep = 5\n"), file + ": line 2: unknown key 'step'; did you mean 'steps'?");
  EXPECT_EQ(refused("steps = 0\n"), file + ": steps is '0', expected 1..1000000000");
  EXPECT_EQ(refused("steps = \"5\"\n"), file + ": steps is of another type, expected an integer");
  EXPECT_EQ(refused("snr_gamma = nan\n"), file + ": snr_gamma is 'nan', expected 0..1e+06");
  EXPECT_EQ(refused("[steps]\na = 1\n"), file + ": steps is of another type, expected an integer");
  write_text(file, "steps = \n");
  Sample s;
  EXPECT_THROW(s.parse({"--config", file}), InputError);
  EXPECT_THROW(s.parse({"--config", file + ".absent"}), Error);
}

TEST(Options, ResolvedSettingsReadBack) {
  const TempDir dir;
  Sample first;
  ASSERT_TRUE(first.parse({"--steps", "12", "--snr_gamma", "0.1", "--no_ema", "--note",
                           "a \"quoted\" \\ line\nand a tab\t", "--real", "p q"}));
  const std::string text = first.options.resolved_toml();
  write_text(dir / "config.toml", text);
  Sample second;
  ASSERT_TRUE(second.options.parse({"--config", (dir / "config.toml").string()}, "sample"));
  EXPECT_EQ(second.options.resolved_toml(), text);
  EXPECT_EQ(second.note, first.note);
  EXPECT_EQ(second.snr_gamma, 0.1);
}

TEST(Options, HelpShowsDefaultsAndBounds) {
  const std::string help = Sample().options.help();
  EXPECT_NE(help.find("--steps N"), std::string::npos);
  EXPECT_NE(help.find("[100]"), std::string::npos);
  EXPECT_NE(help.find("one|two"), std::string::npos);
  EXPECT_NE(help.find("(required)"), std::string::npos);
}

TEST(Options, NearestName) {
  EXPECT_EQ(nearest("inspct", {"verify", "inspect"}), "inspect");
  EXPECT_EQ(nearest("something-else", {"verify", "inspect"}), "");
}

TEST(Program, UsageErrorsEndWith2) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"inspct"},
      {"verify"},
      {"verify", "forwards"},
      {"inspect"},
      {"inspect", "a", "b"},
      {"inspect", "--jsn", "a"},
      {"verify", "forward", "--model", "m", "--component", "unet", "--in", "a", "--out", "b",
       "--lora-scale", "nan"},
      {"verify", "sampler", "--scheduler", "euler", "--scheduler-config", "c", "--in", "a", "--out",
       "b"}};
  for (const auto& words : cases) {
    const Outcome o = run_program(words);
    EXPECT_EQ(o.code, 2) << o.err;
    EXPECT_EQ(o.err.compare(0, 7, "error: "), 0) << o.err;
    EXPECT_EQ(o.out, "");
  }
  EXPECT_NE(run_program({"inspct"}).err.find("did you mean 'inspect'?"), std::string::npos);
  EXPECT_NE(run_program({"verify"}).err.find("forward, gradient, sampler, tokenize"),
            std::string::npos);
}

TEST(Program, HelpEndsWith0) {
  const Outcome all = run_program({"--help"});
  EXPECT_EQ(all.code, 0);
  EXPECT_NE(all.out.find("  inspect "), std::string::npos);
  const Outcome group = run_program({"verify", "--help"});
  EXPECT_EQ(group.code, 0);
  EXPECT_NE(group.out.find("verify gradient"), std::string::npos);
  const Outcome one = run_program({"verify", "forward", "--help"});
  EXPECT_EQ(one.code, 0);
  EXPECT_NE(one.out.find("--lora_scale"), std::string::npos);
  EXPECT_NE(one.out.find("example: realfake verify forward"), std::string::npos);
}

TEST(Program, BadInputEndsWith3AndDiskWith4) {
  const TempDir dir;
  const auto bad = dir / "bad.safetensors";
  write_text(bad, "version https://git-lfs.github.com/spec/v1\n");
  const Outcome input = run_program({"inspect", bad.string()});
  EXPECT_EQ(input.code, 3) << input.err;
  EXPECT_NE(input.err.find(bad.string()), std::string::npos) << input.err;

  // The inputs are right; the place for the output is not.
  const Outcome disk =
      run_program({"verify", "forward", "--model", golden + "/odd", "--component", "text-encoder",
                   "--in", golden + "/odd/cases/text-encoder/in.safetensors", "--out",
                   (dir / "no" / "folder" / "y.safetensors").string()});
  EXPECT_EQ(disk.code, 4) << disk.err;
}

TEST(Program, InspectTellsWhatAFileIs) {
  const auto says = [](const std::string& path, const std::string& text) {
    const Outcome o = run_program({"inspect", path});
    EXPECT_EQ(o.code, 0) << o.err;
    EXPECT_NE(o.out.find(text), std::string::npos) << o.out;
  };
  says(golden + "/odd/unet/diffusion_pytorch_model.safetensors", "UNet (diffusers)");
  says(golden + "/odd/vae", "VAE (diffusers)");
  says(golden + "/odd/text_encoder", "CLIP text encoder");
  says(golden + "/odd/image_encoder", "CLIP image encoder");
  says(golden + "/resnet", "ResNet");
  says(golden + "/odd/cases/lora/lora.safetensors", "LoRA (PEFT)");
  says(golden + "/odd/cases/lora/lora_kohya.safetensors", "LoRA (kohya)");
  says(golden + "/odd", "parameters ");
  says(std::string(REALFAKE_SOURCE_DIR) + "/data/digits", "three");
  const Outcome json = run_program({"inspect", "--json", golden + "/resnet"});
  EXPECT_EQ(json.out.front(), '{');
}

}  // namespace
}  // namespace realfake::testing
