// The run folder: what it keeps, that it is locked, and how signals end a run.
#include "train/run_folder.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstring>
#include <limits>
#include <thread>

#include "kernels/base/json.h"
#include "tests/tools/run_program.h"
#include "train/tensorboard.h"

namespace realfake::testing {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> lines_of(const fs::path& file) {
  return read_whole_lines(file, 1 << 20);
}

TEST(RunFolder, KeepsSettingsAndMeasures) {
  const TempDir dir;
  {
    RunFolder run(dir / "run", "steps = 3\n", Display::silent);
    for (int i = 1; i <= 3; ++i)
      run.step("fit", i, 3, {{"loss", 1.0 / i}, {"odd", std::numeric_limits<double>::quiet_NaN()}});
    run.step("score", 1, 1, {{"top1", 50}});
    run.finish();
  }
  EXPECT_EQ(read_text(dir / "run/config.toml"), "steps = 3\n");
  const auto lines = lines_of(dir / "run/metrics.jsonl");
  ASSERT_EQ(lines.size(), 4u);
  const Json row = parse_json(lines[1], "line");
  EXPECT_EQ(row["stage"], "fit");
  EXPECT_EQ(row["step"], 2);
  EXPECT_EQ(row["total"], 3);
  EXPECT_EQ(row["loss"], 0.5);
  EXPECT_TRUE(row["odd"].is_null());
  const auto table = lines_of(dir / "run/summary.csv");
  ASSERT_EQ(table.size(), 5u);
  EXPECT_EQ(table[0], "stage,step,total,time,loss,odd,top1");
  EXPECT_EQ(table[4].substr(0, 10), "score,1,1,");
  int events = 0;
  for (const auto& entry : fs::directory_iterator(dir / "run"))
    events += entry.path().filename().string().rfind("events.out.tfevents.", 0) == 0;
  EXPECT_EQ(events, 1);
}

TEST(RunFolder, TornLineAndRewind) {
  const TempDir dir;
  {
    RunFolder run(dir.path(), "", Display::silent);
    for (int i = 1; i <= 5; ++i) run.step("fit", i, 9, {});
  }
  { std::ofstream(dir / "metrics.jsonl", std::ios::app) << "{\"stage\":\"fit\",\"st"; }
  RunFolder run(dir.path(), "", Display::silent);
  EXPECT_EQ(lines_of(dir / "metrics.jsonl").size(), 5u);
  run.rewind("fit", 3);
  run.step("fit", 4, 9, {});
  EXPECT_EQ(lines_of(dir / "metrics.jsonl").size(), 4u);
}

TEST(RunFolder, LongStagesAreThinned) {
  const TempDir dir;
  RunFolder run(dir.path(), "", Display::silent);
  for (int i = 1; i <= 25000; ++i) run.step("fit", i, 25000, {});
  run.finish();
  EXPECT_EQ(lines_of(dir / "metrics.jsonl").size(), 8335u);  // every third, the first and the last
  EXPECT_LE(lines_of(dir / "summary.csv").size(), 101u);
}

TEST(RunFolder, IsLockedAndMayNotBeAFile) {
  const TempDir dir;
  RunFolder run(dir / "run", "", Display::silent);
  EXPECT_THROW(RunFolder(dir / "run", "", Display::silent), LockedError);
  write_text(dir / "file", "");
  EXPECT_THROW(RunFolder(dir / "file", "", Display::silent), IoError);
}

TEST(RunFolder, StagesMayReportFromSeveralThreads) {
  const TempDir dir;
  RunFolder run(dir.path(), "", Display::silent);
  std::vector<std::thread> threads;
  for (const char* stage : {"a", "b"})
    threads.emplace_back([&run, stage] {
      for (int i = 1; i <= 200; ++i) run.step(stage, i, 200, {{"loss", 1}});
    });
  for (std::thread& t : threads) t.join();
  run.finish();
  EXPECT_EQ(lines_of(dir / "metrics.jsonl").size(), 400u);
}

// In a child, since the handler and its flag belong to the process.
int ends_with(int first, int second) {
  const pid_t child = fork();
  if (child == 0) {
    close(STDERR_FILENO);
    catch_stop_signals();
    raise(first);
    if (second) raise(second);
    _exit(static_cast<int>(stop_exit_code()) - (stop_signal() == first ? 100 : 0));
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Signals, FirstSetsAFlagSecondEnds) {
  EXPECT_EQ(ends_with(SIGINT, 0), 30);
  EXPECT_EQ(ends_with(SIGTERM, 0), 43);
  EXPECT_EQ(ends_with(SIGHUP, 0), 43);
  EXPECT_EQ(ends_with(SIGTERM, SIGINT), 130);
  EXPECT_EQ(ends_with(SIGINT, SIGTERM), 143);
}

TEST(TensorBoard, FramingAndFields) {
  EXPECT_EQ(crc32c("123456789", 9), 0xe3069283u);  // the check value of CRC-32C
  const TempDir dir;
  write_event_file(dir / "events", {{2.5, 300, {{"fit/loss", 0.5f}}}});
  const std::string bytes = read_text(dir / "events");
  size_t at = 0;
  std::vector<std::string> records;
  while (at + 12 <= bytes.size()) {
    uint64_t length = 0;
    uint32_t stored = 0;
    std::memcpy(&length, &bytes[at], 8);
    ASSERT_LE(at + 16 + length, bytes.size());
    records.push_back(bytes.substr(at + 12, length));
    std::memcpy(&stored, &bytes[at + 12 + length], 4);
    const uint32_t c = crc32c(records.back().data(), length);
    EXPECT_EQ(stored, ((c >> 15) | (c << 17)) + 0xa282ead8u);
    at += 16 + length;
  }
  EXPECT_EQ(at, bytes.size());
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].substr(9),
            "\x1a\x0d"
            "brain.Event:2");
  // wall_time 2.5, step 300, summary { value { tag, simple_value 0.5 } }
  const std::string expected(
      "\x09\0\0\0\0\0\0\x04\x40\x10\xac\x02\x2a\x11\x0a\x0f\x0a\x08"
      "fit/loss\x15\0\0\0\x3f",
      31);
  EXPECT_EQ(records[1], expected);
}

}  // namespace
}  // namespace realfake::testing
