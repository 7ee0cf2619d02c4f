#include <gtest/gtest.h>

#include <thread>

#include "data/captions.h"
#include "data/dataset.h"
#include "data/manifest.h"
#include "data/png.h"
#include "tests/data/temporary_folder.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

Image picture(int value, int64_t side = 4, int64_t channels = 1) {
  return {side, side, channels,
          std::vector<uint8_t>(static_cast<size_t>(side * side * channels),
                               static_cast<uint8_t>(value))};
}

std::string content(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

const std::vector<std::string> classes = {"cat", "dog"};

void write_some(const fs::path& folder, int64_t first, int64_t last) {
  DatasetWriter writer(folder, classes);
  for (int64_t i = first; i < last; ++i) {
    writer.write(i, picture(static_cast<int>(10 * i)), i % 2, "photo of " + classes[i % 2], 7);
  }
  writer.sync();
}

TEST(DatasetWriter, WritesWhatLoadDatasetReads) {
  const TemporaryFolder folder;
  write_some(folder.path(), 0, 5);
  const ImageSet set = load_dataset(folder.path());
  EXPECT_EQ(set.size(), 5);
  EXPECT_EQ(set.classes, classes);
  EXPECT_EQ(set.labels, (std::vector<int64_t>{0, 1, 0, 1, 0}));
  EXPECT_EQ(set.captions[1], "photo of dog");
  EXPECT_EQ(set.names[3], "images/000003.png");
  EXPECT_EQ(set.pixels[3 * 16], 30);
}

TEST(DatasetWriter, GoesOnAfterAStop) {
  const TemporaryFolder whole, stopped;
  write_some(whole.path(), 0, 6);
  write_some(stopped.path(), 0, 3);
  // As a kill leaves it: a torn line, a picture without a line, a temporary file.
  std::ofstream(stopped.path() / "manifest.jsonl", std::ios::app) << "{\"index\":3,\"fi";
  write_png(stopped.path() / "images/000003.png", picture(99));
  stopped.write("images/.000004.png.123-0.tmp", "half");
  stopped.write("images/notes.tmp", "not ours");
  {
    const DatasetWriter writer(stopped.path(), classes);
    EXPECT_EQ(writer.count(), 3);
    EXPECT_TRUE(writer.has(2));
    EXPECT_FALSE(writer.has(3));
  }
  EXPECT_FALSE(fs::exists(stopped.path() / "images/.000004.png.123-0.tmp"));
  EXPECT_TRUE(fs::exists(stopped.path() / "images/notes.tmp"));
  write_some(stopped.path(), 0, 6);
  EXPECT_EQ(content(stopped.path() / "manifest.jsonl"), content(whole.path() / "manifest.jsonl"));
  EXPECT_EQ(load_dataset(stopped.path()).pixels, load_dataset(whole.path()).pixels);
  // A picture that was removed is made again.
  fs::remove(stopped.path() / "images/000001.png");
  EXPECT_FALSE(DatasetWriter(stopped.path(), classes).has(1));
  write_some(stopped.path(), 0, 6);
  EXPECT_EQ(load_dataset(stopped.path()).pixels, load_dataset(whole.path()).pixels);
}

TEST(DatasetWriter, ShardsKeepTheirOwnManifest) {
  const TemporaryFolder folder;
  folder.write("images/.000001.png.9-0.tmp", "another shard's, at work");
  const auto even = [](int64_t i) { return i % 2 == 0; };
  DatasetWriter a(folder.path(), classes, "manifest-0-of-2.jsonl", even);
  EXPECT_TRUE(fs::exists(folder.path() / "images/.000001.png.9-0.tmp"));
  DatasetWriter b(folder.path(), classes, "manifest-1-of-2.jsonl",
                  [&](int64_t i) { return !even(i); });
  std::thread other([&] {
    for (int64_t i = 1; i < 20; i += 2) b.write(i, picture(static_cast<int>(i)), 1, "", 0);
  });
  for (int64_t i = 0; i < 20; i += 2) a.write(i, picture(static_cast<int>(i)), 0, "", 0);
  other.join();
  const ImageSet set = load_dataset(folder.path());
  ASSERT_EQ(set.size(), 20);
  for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(set.pixels[static_cast<size_t>(16 * i)], i);
}

TEST(DatasetWriter, AnotherClassListIsRefused) {
  const TemporaryFolder folder;
  write_some(folder.path(), 0, 1);
  expect_input_error(
      [&] {
        DatasetWriter(folder.path(), {"dog", "cat"});
      },
      "classes.txt", "class 0: found 'cat', expected 'dog'");
  expect_input_error([&] { DatasetWriter(folder.path(), {"cat"}); }, "found 2 classes, expected 1");
}

TEST(Manifest, DamageIsFoundByName) {
  const TemporaryFolder folder;
  write_some(folder.path(), 0, 3);
  const auto manifest = folder.path() / "manifest.jsonl";
  const std::string good = content(manifest), png = content(folder.path() / "images/000001.png");
  const auto refuse = [&](const std::string& text, const std::string& message) {
    folder.write("manifest.jsonl", text);
    expect_input_error([&] { load_dataset(folder.path()); }, message);
    folder.write("manifest.jsonl", good);
  };
  refuse(good + good, "manifest.jsonl:4: index 0 listed twice");
  refuse("{\"index\":0,\"file\":\"../x.png\",\"label\":0,\"class\":\"cat\"}\n",
         "leaves the folder");
  refuse("{\"index\":0,\"file\":\"/x.png\",\"label\":0,\"class\":\"cat\"}\n", "leaves the folder");
  refuse("{\"index\":0,\"file\":\"x.png\",\"label\":2,\"class\":\"cat\"}\n", "label");
  refuse("{\"index\":0,\"file\":\"x.png\",\"label\":1,\"class\":\"cat\"}\n",
         "found 'cat', expected 'dog'");
  refuse("", "lists no pictures");
  refuse("{broken\n", "manifest.jsonl:1");
  // All bad pictures in one error.
  folder.write("images/000001.png", png + " ");
  fs::remove(folder.path() / "images/000002.png");
  expect_input_error([&] { load_dataset(folder.path()); }, "000001.png: found sha256",
                     "000002.png");
  LoadOptions skip;
  skip.skip_bad = true;
  expect_input_error([&] { load_dataset(folder.path(), skip); }, "2 of 3 pictures are bad");
  skip.skip_limit = 1;
  std::string warning;
  skip.warn = [&](const std::string& text) { warning = text; };
  EXPECT_EQ(load_dataset(folder.path(), skip).size(), 1);
  EXPECT_NE(warning.find("skipped 2 bad pictures"), std::string::npos);
}

TEST(ClassGuard, ChangedListsAreRefused) {
  const TemporaryFolder folder;
  write_classes(folder.path(), {"a", "b"});
  EXPECT_EQ(classes_of_folder(folder.path()), (std::vector<std::string>{"a", "b"}));
  folder.write("classes.txt", "b\na\n");
  expect_input_error([&] { classes_of_folder(folder.path()); }, "the class list was changed");
  const auto refuse = [&](const std::string& text, const std::string& message) {
    expect_input_error([&] { read_classes(folder.write("c.txt", text)); }, message);
  };
  refuse("", "no class names");
  refuse("a\n\nb\n", "c.txt:2: found an empty line");
  refuse("a\nb\na\n", "c.txt:3: class 'a' listed twice (first line 1)");
  EXPECT_EQ(read_classes(folder.write("c.txt", "a\r\nb")), (std::vector<std::string>{"a", "b"}));
}

void write_tree(const TemporaryFolder& folder) {
  fs::create_directories(folder.path() / "10/deep");
  fs::create_directories(folder.path() / "2");
  write_png(folder.path() / "10/deep/b.PNG", picture(1));
  write_png(folder.path() / "10/a.png", picture(2));
  write_png(folder.path() / "2/c.png", picture(3));
}

TEST(ImageFolder, ClassesInStringOrder) {
  const TemporaryFolder folder;
  write_tree(folder);
  const ImageSet set = load_dataset(folder.path());
  EXPECT_EQ(set.classes, (std::vector<std::string>{"10", "2"}));  // as strings, not as numbers
  EXPECT_EQ(set.labels, (std::vector<int64_t>{0, 0, 1}));
  EXPECT_EQ(set.names, (std::vector<std::string>{"10/a.png", "10/deep/b.PNG", "2/c.png"}));
  folder.write("classes.txt", "2\n10\n");
  EXPECT_EQ(load_dataset(folder.path()).labels, (std::vector<int64_t>{1, 1, 0}));
  folder.write("classes.txt", "2\n11\n");
  expect_input_error([&] { load_dataset(folder.path()); }, "'10' is not a class of classes.txt");
}

TEST(ImageFolder, SizesAndChannels) {
  const TemporaryFolder folder;
  write_tree(folder);
  write_png(folder.path() / "2/d.png", picture(50, 8, 3));
  expect_input_error([&] { load_dataset(folder.path()); }, "found 8x8 pixels, expected 4x4");
  LoadOptions options;
  options.size = 4;
  EXPECT_EQ(load_dataset(folder.path(), options).channels, 3);
  options.channels = 1;
  EXPECT_EQ(load_dataset(folder.path(), options).channels, 1);
  folder.write("2/e.webp", "RIFF....WEBP");
  folder.write("2/f.jpg", "GIF89a");
  expect_input_error([&] { load_dataset(folder.path(), options); }, "e.webp: file is",
                     "f.jpg: file is GIF");
  const TemporaryFolder empty;
  expect_input_error([&] { load_dataset(empty.path()); }, "no class folders");
  fs::create_directories(empty.path() / "a");
  expect_input_error([&] { load_dataset(empty.path()); }, "class has no pictures");
}

TEST(ImageFolder, SplitsAndUnions) {
  const TemporaryFolder folder;
  for (const char* part : {"train", "val"}) {
    for (const std::string& name : classes) {
      fs::create_directories(folder.path() / part / name);
      write_png(folder.path() / part / name / "x.png", picture(part[0]));
    }
  }
  LoadOptions options;
  options.split = "val";
  EXPECT_EQ(load_dataset(folder.path(), options).pixels[0], 'v');
  const ImageSet both = load_datasets({folder.path() / "train", folder.path() / "val"});
  EXPECT_EQ(both.size(), 4);
  EXPECT_EQ(both.labels, (std::vector<int64_t>{0, 1, 0, 1}));
  const TemporaryFolder other;
  write_tree(other);
  expect_input_error(
      [&] {
        load_datasets({folder.path(), other.path()});
      },
      "class 0: found '10', expected 'cat'");
}

TEST(Captions, AreJoinedToThePictures) {
  const TemporaryFolder folder;
  write_tree(folder);
  folder.write("metadata.jsonl",
               "{\"file_name\":\"10/a.png\",\"text\":\"a red cat\"}\r\n"
               "{\"file_name\":\"./2/c.png\",\"caption\":\"\"}\n");
  std::string warnings;
  LoadOptions options;
  options.warn = [&](const std::string& text) { warnings += text + "\n"; };
  const ImageSet set = load_dataset(folder.path(), options);
  EXPECT_EQ(set.captions, (std::vector<std::string>{"a red cat", "", ""}));
  EXPECT_NE(warnings.find("1 empty captions"), std::string::npos);
  EXPECT_NE(warnings.find("1 pictures have no caption"), std::string::npos);
}

TEST(Captions, BadFilesAreRefusedByLine) {  // cases 48 to 50
  const TemporaryFolder folder;
  folder.write("a.png", "x");
  const std::string good = "{\"file_name\":\"a.png\",\"text\":\"t\"}\n";
  const auto refuse = [&](const std::string& text, const std::string& message) {
    const auto file = folder.write("captions.jsonl", text);
    expect_input_error([&] { read_captions(file); }, message);
  };
  EXPECT_EQ(read_captions(folder.write("captions.jsonl", good)).at("a.png"), "t");
  refuse(good + "\n{\"file_name\":\"a.png\" \"text\":\"t\"}\n", "captions.jsonl:3: ");
  refuse("{\"file_name\":\"a.png\",\"text\":1}\n", "captions.jsonl:1: ");
  refuse("{\"file_name\":\"a.png\"}\n", "no key 'text'");
  refuse("[1]\n", "captions.jsonl:1: ");
  refuse(good + good, "captions.jsonl:2: 'a.png' listed twice (first line 1)");
  refuse("{\"file_name\":\"b.png\",\"text\":\"t\"}\n", "'b.png' not found");
  refuse("{\"file_name\":\"x/../../a.png\",\"text\":\"t\"}\n", "leaves the folder");
  refuse("{\"file_name\":\"/etc/passwd\",\"text\":\"t\"}\n", "leaves the folder");
  refuse(std::string(good).replace(good.find("\"t\"") + 1, 1, 1, '\0'), "NUL byte");
  refuse("{\"file_name\":\"a.png\",\"text\":\"\\u0000\"}\n", "NUL byte");
  refuse("{\"file_name\":\"a.png\",\"text\":\"\xff\"}\n", "invalid UTF-8");
  refuse(good + std::string(10 << 20, 'x'), "captions.jsonl:2: line longer than 65536 bytes");
}

TEST(Prompts, FollowTheTemplate) {
  EXPECT_EQ(make_prompt("three"), "photo of three");
  EXPECT_EQ(make_prompt("three", "thin slanted"), "photo of three, thin slanted");
  EXPECT_EQ(make_prompt("three", "photo of three, thin"), "photo of three, thin");
  EXPECT_EQ(caption_of_prompt("photo of three, thin", "three"), "thin");
  EXPECT_EQ(caption_of_prompt("photo of threesome", "three"), "photo of threesome");
}

}  // namespace
}  // namespace realfake
