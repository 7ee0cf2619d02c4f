// Checkpoints: whole or absent, checked before they are believed, and never fewer than one.
#include "train/checkpoint.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <limits>

#include "tests/train/tiny_pipeline.h"
#include "train/seal.h"

namespace realfake::testing {
namespace {

namespace fs = std::filesystem;

const std::string settings = R"({"rank":8,"seed":1})";

// Five tensors that follow from the step.
void save(const fs::path& folder, int64_t step, size_t width = 200) {
  Checkpoint(folder, settings).save(step, [&](SafetensorsWriter& w) {
    for (int i = 0; i < 5; ++i) {
      const std::vector<float> v(width, static_cast<float>(step * 10 + i));
      w.add_f32(concat("layer.", i), {static_cast<int64_t>(width)}, v.data());
    }
  });
}

struct Loaded {
  std::optional<int64_t> step;
  float value = -1;
  std::vector<std::string> warnings;
};

Loaded load(const fs::path& folder, const std::string& with = settings) {
  Loaded l;
  l.step = Checkpoint(folder, with)
               .load([&](const SafetensorsFile& f) { l.value = f.read_f32("layer.3").back(); },
                     [&](const std::string& line) { l.warnings.push_back(line); });
  return l;
}

TEST(Checkpoint, NewestIsLoadedAndThePreviousKept) {
  const TempDir dir;
  EXPECT_FALSE(load(dir.path()).step);
  for (const int64_t step : {3, 6, 9}) save(dir.path(), step);
  const Loaded l = load(dir.path());
  EXPECT_EQ(l.step, 9);
  EXPECT_EQ(l.value, 93);
  EXPECT_TRUE(l.warnings.empty());
  EXPECT_EQ(SafetensorsFile(dir / "checkpoint.previous.safetensors").read_i64("step").at(0), 6);
  Checkpoint(dir.path(), settings).remove();
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(Checkpoint, EveryDamageIsNoticed) {
  const TempDir dir;
  save(dir.path(), 3);
  save(dir.path(), 6);
  const fs::path newest = dir / "checkpoint.safetensors";
  const std::string whole = bytes_of(newest);
  for (size_t at = 0; at < whole.size(); at += 41) {  // the length, the header, the data
    put_bytes(newest, whole);
    flip_bit(newest, static_cast<int64_t>(at));
    const Loaded l = load(dir.path());
    EXPECT_EQ(l.step, 3) << "byte " << at;
    EXPECT_EQ(l.value, 33);
    ASSERT_EQ(l.warnings.size(), 1u) << "byte " << at;
    expect_says(l.warnings[0], "checkpoint.safetensors");
    expect_says(l.warnings[0], "trying the checkpoint before it");
  }
  put_bytes(newest, whole);
  flip_bit(newest, -8);
  expect_says(load(dir.path()).warnings.at(0), "checksum mismatch in 'layer.4'");
  for (const size_t length : {size_t{0}, size_t{5}, size_t{300}, whole.size() - 1}) {
    put_bytes(newest, whole.substr(0, length));
    EXPECT_EQ(load(dir.path()).step, 3) << length << " bytes";
  }
}

TEST(Checkpoint, ADamagedOneDoesNotPushOutAWholeOne) {
  const TempDir dir;
  save(dir.path(), 3);
  save(dir.path(), 6);
  flip_bit(dir / "checkpoint.safetensors", -8);
  save(dir.path(), 9);
  EXPECT_EQ(load(dir.path()).step, 9);
  flip_bit(dir / "checkpoint.safetensors", -8);
  EXPECT_EQ(load(dir.path()).step, 3);
}

TEST(Checkpoint, WithNoWholeOneLeftItSaysSo) {
  const TempDir dir;
  save(dir.path(), 3);
  save(dir.path(), 6);
  flip_bit(dir / "checkpoint.safetensors", -8);
  flip_bit(dir / "checkpoint.previous.safetensors", -8);
  const std::string said = refused<InputError>([&] { load(dir.path()); });
  expect_says(said, "checkpoint.previous.safetensors: checksum mismatch");
  expect_says(said, "no whole checkpoint is left");
}

TEST(Checkpoint, OtherSettingsAndNewerFormatsAreRefused) {
  const TempDir dir;
  save(dir.path(), 3);
  const std::string said =
      refused<InputError>([&] { load(dir.path(), R"({"rank":16,"seed":1,"token":"off"})"); });
  expect_says(said, "rank 8, now 16");
  expect_says(said, "token nothing, now \"off\"");
  EXPECT_EQ(said.find("seed"), std::string::npos) << said;

  SafetensorsWriter newer;
  newer.set_metadata("checkpoint_format", "3");
  newer.write(dir / "checkpoint.safetensors");
  expect_says(refused<InputError>([&] { load(dir.path()); }), "format 3, this program reads 2");
  SafetensorsWriter foreign;
  const float one = 1;
  foreign.add_f32("layer.3", {1}, &one);
  foreign.write(dir / "checkpoint.safetensors");
  expect_says(refused<InputError>([&] { load(dir.path()); }), "no checksums");
}

TEST(Checkpoint, ValuesThatAreNotFiniteComeBackAsTheyWere) {
  const TempDir dir;
  const std::vector<float> v{1, std::numeric_limits<float>::infinity()};
  Checkpoint c(dir.path(), settings);
  c.save(1, [&](SafetensorsWriter& w) { w.add_f32("x", {2}, v.data()); });
  const auto step = c.load([&](const SafetensorsFile& f) { EXPECT_EQ(f.read_f32("x"), v); },
                           [](const std::string&) {});
  EXPECT_EQ(step, 1);
}

TEST(Checkpoint, AFolderThatCannotBeWrittenIsAnIoError) {
  const TempDir dir;
  put_bytes(dir / "file", "");
  EXPECT_THROW(save(dir / "file", 3), IoError);
  EXPECT_THROW(save(dir / "none", 3), IoError);
}

// A child saves without end and is killed some time after its first save; what it leaves is whole,
// at least as late as what it has told of, and loads.
TEST(Checkpoint, KilledAnywhereAWholeOneIsLeft) {
  const TempDir dir;
  int64_t last = 0;
  for (int round = 0; round < 40; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      for (int64_t step = last + 1;; ++step) {
        save(dir.path(), step, 3000);
        if (step == last + 1 && write(ends[1], "x", 1) != 1) _exit(1);
      }
    }
    close(ends[1]);
    char told = 0;
    EXPECT_EQ(read(ends[0], &told, 1), 1);
    close(ends[0]);
    usleep(static_cast<useconds_t>(977 * round % 9000));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const Loaded l = load(dir.path());
    EXPECT_TRUE(l.warnings.empty()) << l.warnings.at(0);
    ASSERT_TRUE(l.step);
    EXPECT_GT(*l.step, last);
    EXPECT_EQ(l.value, static_cast<float>(*l.step * 10 + 3));
    last = *l.step;
  }
}

TEST(Seal, CoversNamesShapesAndMetadata) {
  const TempDir dir;
  const std::vector<float> v{1, 2, 3, 4, 5, 6};
  const auto write = [&](std::vector<int64_t> shape, const char* name, const char* note,
                         const std::string& from) {
    SafetensorsWriter w;
    w.add_f32(name, shape, v.data());
    w.set_metadata("note", note);
    if (from.empty()) {
      seal(w);
    } else {
      const SafetensorsFile sealed(from);
      for (const char* key : {"checksum", "checksums"})
        w.set_metadata(key, sealed.metadata().at(key));
    }
    w.write(dir / (from.empty() ? "sealed" : "other"));
  };
  write({2, 3}, "a", "n", "");
  check_seal(SafetensorsFile(dir / "sealed"));
  const std::string sealed = (dir / "sealed").string();
  const auto other = [&] {
    return refused<InputError>([&] { check_seal(SafetensorsFile(dir / "other")); });
  };
  write({3, 2}, "a", "n", sealed);
  expect_says(other(), "checksum mismatch in 'a'");
  write({2, 3}, "b", "n", sealed);
  expect_says(other(), "checksum mismatch in 'b'");
  write({2, 3}, "a", "m", sealed);
  expect_says(other(), "checksum mismatch in the header");
}

}  // namespace
}  // namespace realfake::testing
