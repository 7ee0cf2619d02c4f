// `bench` as a person meets it, on work that takes moments.
#include <gtest/gtest.h>

#include "kernels/base/json.h"
#include "kernels/gemm.h"
#include "kernels/random.h"
#include "tests/tools/run_program.h"
#include "tools/bench.h"
#include "tools/flop_counter.h"

namespace realfake::testing {
namespace {

using Words = std::vector<std::string>;

Words small_op(const std::string& op, const std::string& shape) {
  return {"bench", "--op", op, "--shape", shape, "--runs", "3", "--threads", "1"};
}

Words tiny_network(const std::string& network) {
  return {"bench", "--network", network, "--runs", "2", "--batch", "2", "--threads", "1"};
}

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void expect_number_above_zero(const Json& j, const char* key) {
  ASSERT_TRUE(j.contains(key) && j[key].is_number()) << key;
  EXPECT_GT(j[key].get<double>(), 0) << key;
}

TEST(Bench, OpWritesItsFigures) {
  const TempDir dir;
  const Words words = small_op("layer_norm", "64x32");
  const Outcome o = run_program(words + Words{"--json", dir / "a.json"});
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find("layer_norm"), std::string::npos) << o.out;
  EXPECT_EQ(o.out.find("new/old"), std::string::npos) << o.out;
  const Json j = read_json(dir / "a.json");
  expect_number_above_zero(j["roof"], "copy_gb_s");
  expect_number_above_zero(j["roof"], "gemm_gflop_s");
  ASSERT_EQ(j["ops"].size(), 1u);
  const Json entry = j["ops"][0];
  EXPECT_EQ(entry["op"], "layer_norm");
  EXPECT_EQ(entry["shape"], "64x32");
  EXPECT_EQ(entry["runs"], 3);
  for (const char* key : {"median_s", "min_s", "gb_s", "gflop_s", "percent_of_roof"})
    expect_number_above_zero(entry, key);
  EXPECT_LE(entry["min_s"].get<double>(), entry["median_s"].get<double>());

  const Outcome again = run_program(words + Words{"--compare", dir / "a.json"});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_NE(again.out.find("new/old"), std::string::npos) << again.out;
}

TEST(Bench, NetworkWritesItsFigures) {
  const TempDir dir;
  for (const std::string& network : bench::network_names()) {
    if (network == "resnet50" || network == "resnet50-step") continue;  // too large for here
    SCOPED_TRACE(network);
    const std::filesystem::path file = dir / (network + ".json");
    const Outcome o = run_program(tiny_network(network) + Words{"--json", file});
    ASSERT_EQ(o.code, 0) << o.err;
    const Json j = read_json(file);
    EXPECT_EQ(j["runs"], 2);
    for (const char* key : {"median_s", "min_s", "peak_rss_mib", "gflops", "gflop", "size"})
      expect_number_above_zero(j, key);
  }
  const Words other = tiny_network("unet") + Words{"--compare", dir / "vae-decoder.json"};
  EXPECT_EQ(run_program(other).code, 3);
  const Words same = tiny_network("unet") + Words{"--compare", dir / "unet.json"};
  EXPECT_NE(run_program(same).out.find("new / old"), std::string::npos);
}

// Every op runs at a small shape of its letters and gives finite values.
TEST(Bench, EveryOpRuns) {
  Exec exec(Device::cpu);
  for (const bench::Op& op : bench::ops()) {
    SCOPED_TRACE(op.name);
    for (const bench::Numbers& shape : op.shapes) EXPECT_EQ(shape.size(), op.rank());
    bench::Numbers shape(op.rank(), 4);
    if (op.letters.find("window") != std::string::npos) shape[5] = 3, shape[6] = 1;
    const bench::Work work = op.make(exec, shape);
    EXPECT_GT(work.cost.bytes, 0);
    const bench::Times t = bench::measure(exec, 2, 1, work.run);
    EXPECT_EQ(t.seconds.size(), 2u);
    for (const Tensor& y : work.outputs) EXPECT_NO_THROW(bench::check_finite(exec, op.name, y));
  }
}

TEST(Bench, NotFiniteIsAnError) {
  Exec exec(Device::cpu);
  const Tensor x = exec.from_vector(std::vector<float>{1, INFINITY}, {2});
  EXPECT_THROW(bench::check_finite(exec, "x", x), NumericError);
}

TEST(Bench, UsageErrorsEndWith2) {
  const std::vector<Words> cases = {
      {"bench"},
      {"bench", "--op", "linear", "--network", "unet"},
      {"bench", "--op", "all", "--shape", "1x2x3"},
      {"bench", "--op", "linear", "--batch", "2"},
      {"bench", "--op", "all", "--device", "emulated"},
      small_op("linear", "1x2"),
      small_op("linear", "1x2x"),
      small_op("linear", "1x2x0"),
      small_op("linear", "1x2x3x4"),
      small_op("group_norm_silu", "1x2x2x30x4"),
      small_op("conv2d", "1x4x4x2x2x5000x1"),
      tiny_network("unets"),
      tiny_network("unet") + Words{"--dtype", "bf16"},
      tiny_network("image-encoder") + Words{"--size", "3"},
  };
  for (const Words& words : cases) {
    const Outcome o = run_program(words);
    EXPECT_EQ(o.code, 2) << words.back() << ": " << o.err;
  }
  const Outcome o = run_program({"bench", "--op", "layernorm"});
  EXPECT_EQ(o.code, 2);
  EXPECT_NE(o.err.find("did you mean 'layer_norm'?"), std::string::npos) << o.err;
  EXPECT_NE(o.err.find("attention_backward"), std::string::npos) << o.err;
  const Outcome dtype = run_program(tiny_network("unet") + Words{"--dtype", "bf16"});
  EXPECT_NE(dtype.err.find("f32, which is what is built so far"), std::string::npos) << dtype.err;
}

TEST(FlopCounter, CountsProductsAndPutsTheTableBack) {
  Exec exec(Device::cpu);
  const OpTable* before = &exec.ops();
  const Tensor a = bench::random_tensor(exec, {3, 5}, 1), b = bench::random_tensor(exec, {5, 7}, 2),
               c = exec.empty({3, 7});
  {
    const FlopCounter counter(exec);
    gemm(exec, c, a, b);
    gemm(exec, c, a, b);
    EXPECT_EQ(counter.flops(), 2 * 2 * 3 * 5 * 7);
  }
  EXPECT_EQ(&exec.ops(), before);
}

}  // namespace
}  // namespace realfake::testing
