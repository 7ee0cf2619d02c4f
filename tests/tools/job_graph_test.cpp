// The demo's job graph, and the demo itself at its smallest size.
#include "tools/job_graph.h"

#include <gtest/gtest.h>

#include <atomic>

#include "kernels/base/error.h"
#include "tests/testing/temp_dir.h"
#include "tests/tools/run_program.h"

namespace realfake {
namespace {

using testing::Outcome;
using testing::read_text;
using testing::run_program;
using testing::TempDir;

JobGraphOptions quiet() {
  JobGraphOptions o;
  o.quiet = true;
  return o;
}

// a -> b, a -> c, (b, c) -> d; each counts its runs and gives the sum of its own number and what it
// came after.
void add_diamond(JobGraph& g, std::atomic<int>& runs, int number_of_b) {
  const auto job = [&](const std::string& name, std::vector<std::string> after, int number) {
    g.add({.name = name,
           .command = "make " + name,
           .after = after,
           .settings = {{"number", number}},
           .run = [&runs, after, number](JobContext& c) -> Json {
             ++runs;
             int sum = number;
             for (const std::string& n : after) sum += c.result_of(n).at("sum").get<int>();
             return {{"sum", sum}};
           }});
  };
  job("a", {}, 1);
  job("b", {"a"}, number_of_b);
  job("c", {"a"}, 100);
  job("d", {"b", "c"}, 1000);
}

TEST(JobGraph, RunsInOrderOnceAndAgainWhatChanged) {
  const TempDir dir;
  std::atomic<int> runs = 0;
  {
    JobGraph g(dir / "g", quiet());
    add_diamond(g, runs, 10);
    g.run();
    EXPECT_EQ(g.result("d").at("sum"), 1000 + (10 + 1) + (100 + 1));
    EXPECT_EQ(runs, 4);
    EXPECT_EQ(g.script().substr(g.script().find('\n') + 1), "make a\nmake b\nmake c\nmake d\n");
  }
  {
    JobGraph g(dir / "g", quiet());
    add_diamond(g, runs, 10);
    g.run();
    EXPECT_EQ(g.reused(), 4);
    EXPECT_EQ(runs, 4);
  }
  JobGraph g(dir / "g", quiet());
  add_diamond(g, runs, 20);  // b and what comes after it
  g.run();
  EXPECT_EQ(g.reused(), 2);
  EXPECT_EQ(runs, 6);
  EXPECT_EQ(g.result("d").at("sum"), 1000 + (20 + 1) + (100 + 1));
}

TEST(JobGraph, KeepsOnlyWhatATargetNeeds) {
  const TempDir dir;
  std::atomic<int> runs = 0;
  JobGraph g(dir / "g", quiet());
  add_diamond(g, runs, 10);
  g.keep({"c"});
  g.run();
  EXPECT_EQ(runs, 2);
  EXPECT_FALSE(g.has("b"));
}

TEST(JobGraph, AFaultIsThrownAndTheRestStaysDone) {
  const TempDir dir;
  std::atomic<int> runs = 0;
  const auto add = [&](JobGraph& g, bool fails) {
    g.add({.name = "first",
           .command = "",
           .after = {},
           .settings = {},
           .run = [&](JobContext&) -> Json {
             ++runs;
             return {{"ok", true}};
           }});
    g.add({.name = "second",
           .command = "",
           .after = {"first"},
           .settings = {},
           .run = [&runs, fails](JobContext&) -> Json {
             ++runs;
             if (fails) throw NumericError("loss is nan");
             return {{"ok", true}};
           }});
  };
  {
    JobGraph g(dir / "g", quiet());
    add(g, true);
    EXPECT_THROW(g.run(), NumericError);
  }
  JobGraph g(dir / "g", quiet());
  add(g, false);
  g.run();
  EXPECT_EQ(g.reused(), 1);
  EXPECT_EQ(runs, 3);
}

TEST(Demo, TinyRunWritesTableAndPageAndIsDoneTheSecondTime) {
  const TempDir dir;
  const std::string folder = (dir / "demo").string();
  const Outcome first = run_program({"demo", "--tiny", "--seeds", "2", "--output_dir", folder});
  ASSERT_EQ(first.code, 0) << first.err;
  const Json results = read_json(dir / "demo" / "results.json");
  EXPECT_EQ(results["schema"], 1);
  for (const char* row :
       {"real", "base", "base+prior", "realfake_1x", "real+realfake", "ablation/lora",
        "ablation/lora+mmd", "ablation/lora+prior", "ablation/lora+mmd+token", "fewshot/real",
        "fewshot/realfake", "fewshot/real+realfake", "fewshot/real+printed"}) {
    ASSERT_TRUE(results["accuracy"].contains(row)) << row;
    EXPECT_EQ(results["accuracy"][row]["per_seed"].size(), 2u) << row;
  }
  const std::string page = read_text(dir / "demo" / "report.html");
  EXPECT_NE(page.find("data:image/png;base64,"), std::string::npos);
  EXPECT_EQ(page.find("<script"), std::string::npos);

  const Outcome second = run_program({"demo", "--tiny", "--seeds", "2", "--output_dir", folder});
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_NE(second.err.find("jobs were done before"), std::string::npos) << second.err;
  EXPECT_EQ(read_json(dir / "demo" / "results.json")["accuracy"], results["accuracy"]);

  // Another folder, one job at a time: the same bytes.
  const std::string other = (dir / "other").string();
  ASSERT_EQ(run_program({"demo", "--tiny", "--jobs", "1", "--output_dir", other, "--quiet"}).code,
            0);
  for (const char* file :
       {"seed-0/finetune/lora+mmd/pytorch_lora_weights.safetensors",
        "seed-0/train/realfake_1x/model.safetensors", "seed-0/sets/realfake-1/images/000001.png"})
    EXPECT_EQ(read_text(dir / "demo" / file), read_text(dir / "other" / file)) << file;
}

TEST(Demo, RowsAndDevicesThatAreNotThere) {
  const TempDir dir;
  const Outcome row =
      run_program({"demo", "--tiny", "--rows", "nothing", "--output_dir", (dir / "demo").string()});
  EXPECT_EQ(row.code, 2);
  EXPECT_NE(row.err.find("--rows: no row 'nothing'"), std::string::npos) << row.err;
}

}  // namespace
}  // namespace realfake
