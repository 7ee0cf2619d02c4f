#include <gtest/gtest.h>

#include "data/captions.h"
#include "data/dataset.h"
#include "kernels/base/file.h"
#include "kernels/base/sha256.h"
#include "tests/data/png_builder.h"
#include "tests/data/temporary_folder.h"

namespace realfake {
namespace {

const std::filesystem::path shipped = std::filesystem::path(REALFAKE_SOURCE_DIR) / "data";

std::string idx(uint32_t magic, std::initializer_list<uint32_t> sizes, const std::string& data) {
  std::string out = be32(magic);
  for (const uint32_t size : sizes) out += be32(size);
  return out + data;
}

TEST(Idx, ShippedDigitsLoad) {
  const ImageSet train = load_dataset(shipped / "digits");
  EXPECT_EQ(train.size(), 1000);
  EXPECT_EQ(train.height, 8);
  EXPECT_EQ(train.width, 8);
  EXPECT_EQ(train.channels, 1);
  EXPECT_EQ(train.pixels.size(), 64000u);
  EXPECT_EQ(train.classes, digit_words());
  LoadOptions test;
  test.split = "test";
  test.channels = 3;
  const ImageSet held_out = load_dataset(shipped / "digits", test);
  EXPECT_EQ(held_out.size(), 797);
  EXPECT_EQ(held_out.channels, 3);
  for (size_t i = 0; i < held_out.pixels.size(); i += 3) {
    ASSERT_EQ(held_out.pixels[i], held_out.pixels[i + 1]);
    ASSERT_EQ(held_out.pixels[i], held_out.pixels[i + 2]);
  }
  EXPECT_EQ(sha256_of_file(shipped / "digits" / "train-images-idx3-ubyte"),
            "c67f7652be30c9f07c360b022498eda17841c19d29f9315ccc53614c2191b30c");
  EXPECT_EQ(sha256_of_file(shipped / "digits" / "test-images-idx3-ubyte"),
            "d56b3cba0b46617db2b8c4530d26aef43e182e1f96311864cf771d742adaedc7");
}

TEST(Idx, ShippedPrintedSetLoads) {
  const ImageSet set = load_dataset(shipped / "printed");
  EXPECT_EQ(set.size(), 1000);
  EXPECT_EQ(set.classes, digit_words());
  ASSERT_EQ(set.captions.size(), 1000u);
  for (size_t i = 0; i < 1000; ++i) {
    const std::string start = "photo of " + set.classes[static_cast<size_t>(set.labels[i])];
    EXPECT_EQ(set.captions[i].substr(0, start.size()), start);
  }
}

TEST(Idx, WrittenSetsAreReadBack) {
  const TemporaryFolder folder;
  const ImageSet some = load_dataset(shipped / "printed").subset({5, 3, 999, 3});
  write_idx(folder.path(), "train", some);
  const ImageSet back = load_dataset(folder.path());
  EXPECT_EQ(back.pixels, some.pixels);
  EXPECT_EQ(back.labels, some.labels);
  EXPECT_EQ(back.captions, some.captions);
  EXPECT_EQ(back.classes, some.classes);
}

TEST(Idx, BadFilesAreRefusedByName) {  // case 66
  const TemporaryFolder folder;
  const auto labels = folder.write("labels", idx(0x801, {2}, std::string("\0\1", 2)));
  const auto refuse = [&](const std::string& content, const std::string& message) {
    const auto images = folder.write("images", content);
    expect_input_error([&] { load_idx(images, labels); }, message);
  };
  const std::string pixels(8, 'p');
  const auto good = folder.write("good", idx(0x803, {2, 2, 2}, pixels));
  EXPECT_EQ(load_idx(good, labels).size(), 2);
  refuse("", "empty file");
  refuse("abc", "3 bytes; a magic number needs 4");
  refuse(std::string("\x1f\x8b\x08\x00 rest", 9),
         "magic 0x1f8b0800: this is gzip, unpack it first");
  refuse(idx(0x12345678, {}, pixels), "magic 0x12345678, expected 0x00000803");
  refuse(idx(0xD03, {2, 2, 2}, pixels), "magic 0x00000d03");  // floats
  refuse(idx(0x809, {2, 2, 2}, pixels), "rank 9, expected 3");
  refuse(idx(0x803, {2, 2}, ""), "12 bytes; the header needs 16");
  refuse(idx(0x803, {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}, pixels),
         "product of the dimensions overflows");
  refuse(idx(0x803, {0x80000000, 0x80000000, 4}, pixels), "product of the dimensions overflows");
  refuse(idx(0x803, {2, 2, 2}, pixels.substr(1)), "data has 7 bytes, expected 8");
  refuse(idx(0x803, {2, 2, 2}, pixels + "x"), "data has 9 bytes, expected 8");
  refuse(idx(0x803, {0, 2, 2}, ""), "holds no samples");
  refuse(idx(0x803, {2, 0, 2}, ""), "image size is 2x0");
  refuse(idx(0x803, {4, 2, 1}, pixels), "4 images but 2 labels");
  EXPECT_THROW(load_idx(folder.path() / "none", labels), Error);
}

TEST(Idx, LabelsOutsideTheClassListAreRefused) {
  const TemporaryFolder folder;
  folder.write("train-images-idx3-ubyte", idx(0x803, {2, 1, 1}, "ab"));
  folder.write("train-labels-idx1-ubyte", idx(0x801, {2}, std::string("\0\3", 2)));
  EXPECT_EQ(load_dataset(folder.path()).classes.size(), 4u);
  folder.write("classes.txt", "a\nb\nc\n");
  expect_input_error([&] { load_dataset(folder.path()); }, "record 1: label 3, expected 0..2");
}

}  // namespace
}  // namespace realfake
