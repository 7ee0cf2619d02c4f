// Runs of the program that are stopped, killed and doubled: the end is byte for byte that of an
// undisturbed run.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "data/manifest.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/sha256.h"
#include "tests/tools/background_program.h"
#include "tests/train/tiny_pipeline.h"
#include "train/seal.h"

namespace realfake::testing {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Job {
  Words words;
  std::string result;  // the file that counts, in the run folder
  Words resume;
};

Job finetune_job() {
  const Tiny& t = Tiny::get();
  return {{"finetune", "--model", t.pipeline, "--embedded", t.embedded_file, "--max_train_steps",
           "60", "--train_batch_size", "3", "--checkpointing_steps", "7", "--batch_by", "class",
           "--guidance_token", "image", "--threads", "1"},
          "pytorch_lora_weights.safetensors",
          {"--resume_from_checkpoint", "latest"}};
}

Job train_job() {
  return {
      {"train", "--train_data_dir", Tiny::get().data, "--max_train_steps", "40", "--batch_size",
       "5", "--checkpointing_steps", "6", "--ema_decay", "0.9", "--mixup", "0.2", "--threads", "1"},
      "model.safetensors",
      {"--resume_from_checkpoint", "latest"}};
}

Job generate_job() {
  const Tiny& t = Tiny::get();
  return {{"generate", "--model", t.pipeline, "--embedded", t.embedded_file,
           "--num_inference_steps", "6", "--versions", "8", "--batch_size", "4", "--threads", "1"},
          "manifest.jsonl",
          {}};
}

// The result, and for a set all its pictures in order of their names.
std::string result_of(const Job& job, const fs::path& folder) {
  std::string all = read_text(folder / job.result);
  if (fs::exists(folder / "images")) {
    std::map<std::string, std::string> pictures;
    for (const auto& entry : fs::directory_iterator(folder / "images"))
      pictures[entry.path().filename().string()] = read_text(entry.path());
    for (const auto& [name, bytes] : pictures) all += name + bytes;
  }
  return all;
}

size_t steps_logged(const fs::path& folder) {
  const std::string text = read_text(folder / "metrics.jsonl");
  return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
}

// Each step once, in order.
void expect_whole_log(const fs::path& folder, int64_t total) {
  int64_t step = 0;
  for (const std::string& line : read_whole_lines(folder / "metrics.jsonl", 1 << 22))
    EXPECT_EQ(parse_json(line, "metrics")["step"], ++step);
  EXPECT_EQ(step, total);
}

std::string undisturbed(const Job& job) {
  const TempDir dir;
  const Outcome o = run_program(job.words + Words{"--output_dir", dir / "run"});
  EXPECT_EQ(o.code, 0) << o.err;
  return result_of(job, dir / "run");
}

// Nothing under a final name is less than whole, however the program ended.
void expect_nothing_torn(const fs::path& folder) {
  for (const char* name : {"checkpoint.safetensors", "checkpoint.previous.safetensors"})
    if (fs::exists(folder / name)) {
      EXPECT_NO_THROW(check_seal(SafetensorsFile(folder / name)));
    }
  if (!fs::exists(folder / "manifest.jsonl") || !fs::exists(folder / "classes.txt")) return;
  for (const ManifestLine& line : read_manifests(folder, read_classes(folder / "classes.txt")))
    EXPECT_EQ(sha256_of_file(folder / line.file), line.sha256);
}

// Killed when so many steps are logged, started again, killed again ..., then left to finish.
void kill_and_resume(const Job& job, const std::vector<size_t>& at) {
  const std::string whole = undisturbed(job);
  const TempDir dir;
  const fs::path folder = dir / "run";
  const Words words = job.words + Words{"--output_dir", folder};
  int killed = 0;
  for (size_t i = 0; i < at.size(); ++i) {
    BackgroundProgram program(i == 0 ? words : words + job.resume);
    if (!program.wait_until(
            [&] { return fs::exists(folder / "metrics.jsonl") && steps_logged(folder) >= at[i]; }))
      break;
    std::this_thread::sleep_for(std::chrono::microseconds(700 * i));
    killed += program.end(SIGKILL).code == 128 + SIGKILL;
    expect_nothing_torn(folder);
  }
  EXPECT_GE(killed, 3);
  const Outcome o = run_program(words + job.resume);
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(result_of(job, folder), whole);
  EXPECT_FALSE(fs::exists(folder / "checkpoint.safetensors"));
}

TEST(Resume, FinetuneKilledAtManyTimes) {
  kill_and_resume(finetune_job(), {1, 8, 9, 15, 21, 30, 41, 50});
}
TEST(Resume, TrainKilledAtManyTimes) {
  kill_and_resume(train_job(), {1, 7, 12, 20, 27, 33});
}
TEST(Resume, GenerateKilledAtManyTimes) {
  kill_and_resume(generate_job(), {1, 4, 9, 14, 19});
}

// SIGTERM in the middle: saved, said, 143 (130 for SIGINT); then on to the same bytes and a log
// without gaps or doubles.
void stop_and_resume(const Job& job, int signal, size_t at, int64_t total) {
  const std::string whole = undisturbed(job);
  const TempDir dir;
  const fs::path folder = dir / "run";
  const Words words = job.words + Words{"--output_dir", folder};
  BackgroundProgram program(words);
  ASSERT_TRUE(program.wait_until(
      [&] { return fs::exists(folder / "metrics.jsonl") && steps_logged(folder) >= at; }));
  const Outcome stopped = program.end(signal);
  EXPECT_EQ(stopped.code, signal == SIGINT ? 130 : 143) << stopped.err;
  expect_says(stopped.err, "interrupted after");
  expect_nothing_torn(folder);
  const Outcome o = run_program(words + job.resume);
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(result_of(job, folder), whole);
  expect_whole_log(folder, total);
}

TEST(Resume, FinetuneStopped) {
  stop_and_resume(finetune_job(), SIGTERM, 5, 60);
}
TEST(Resume, TrainStopped) {
  stop_and_resume(train_job(), SIGINT, 5, 40);
}

TEST(Resume, GenerateStopped) {
  const Job job = generate_job();
  const TempDir dir;
  const Words words = job.words + Words{"--output_dir", dir / "run"};
  BackgroundProgram program(words);
  ASSERT_TRUE(program.wait_until(
      [&] { return fs::exists(dir / "run/metrics.jsonl") && steps_logged(dir / "run") >= 3; }));
  const Outcome stopped = program.end(SIGTERM);
  EXPECT_EQ(stopped.code, 143) << stopped.err;
  expect_nothing_torn(dir / "run");
  EXPECT_EQ(run_program(words).code, 0);
  EXPECT_EQ(result_of(job, dir / "run"), undisturbed(job));
}

TEST(Resume, LogOfAKilledRunHasEachStepOnce) {
  const Job job = finetune_job();
  const TempDir dir;
  const Words words = job.words + Words{"--output_dir", dir / "run"};
  BackgroundProgram program(words);
  ASSERT_TRUE(program.wait_until(
      [&] { return fs::exists(dir / "run/metrics.jsonl") && steps_logged(dir / "run") >= 18; }));
  program.end(SIGKILL);
  EXPECT_EQ(run_program(words + job.resume).code, 0);
  expect_whole_log(dir / "run", 60);
}

TEST(Resume, OtherSettingsAreRefused) {
  const Job job = finetune_job();
  const TempDir dir;
  const Words words = job.words + Words{"--output_dir", dir / "run"};
  BackgroundProgram program(words);
  ASSERT_TRUE(program.wait_until([&] { return fs::exists(dir / "run/checkpoint.safetensors"); }));
  program.end(SIGKILL);
  const Outcome o = run_program(words + job.resume + Words{"--rank", "8"});
  EXPECT_EQ(o.code, 3);
  expect_says(o.err, "rank 4, now 8");
  flip_bit(dir / "run/checkpoint.safetensors", -40);
  fs::remove(dir / "run/checkpoint.previous.safetensors");
  const Outcome damaged = run_program(words + job.resume);
  EXPECT_EQ(damaged.code, 3);
  expect_says(damaged.err, "checksum mismatch in '");
}

TEST(Resume, ASecondProcessOnTheFolderIsRefused) {
  for (const Job& job : {finetune_job(), generate_job()}) {
    const TempDir dir;
    Words words = job.words + Words{"--output_dir", dir / "run"};
    Words longer = words;
    longer[job.words[0] == "finetune" ? 6 : 8] = "3000";
    BackgroundProgram first(longer);
    ASSERT_TRUE(first.wait_until([&] { return fs::exists(dir / "run/metrics.jsonl"); }));
    const Outcome o = run_program(words);
    EXPECT_EQ(o.code, 7) << o.err;
    expect_says(o.err, std::to_string(first.id()));
    first.end(SIGKILL);
    EXPECT_EQ(run_program(words).code, 0);  // the lock went with its holder
  }
}

}  // namespace
}  // namespace realfake::testing
