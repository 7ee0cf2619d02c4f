#include <gtest/gtest.h>
#include <sys/stat.h>

#include "data/png.h"
#include "kernels/random.h"
#include "tests/data/png_builder.h"
#include "tests/data/temporary_folder.h"

namespace realfake {
namespace {

std::string text_of(std::initializer_list<int> bytes) {
  std::string s;
  for (const int b : bytes) s += static_cast<char>(b);
  return s;
}

Image noise(int64_t height, int64_t width, int64_t channels, uint64_t seed, bool smooth) {
  Image image{height, width, channels, {}};
  Philox random(seed, Stream::user, 0);
  for (int64_t i = 0; i < height * width * channels; ++i) {
    image.pixels.push_back(
        static_cast<uint8_t>(smooth ? i / 7 + random.below(3) : random.below(256)));
  }
  return image;
}

void refuse(const std::string& file, const std::string& message) {
  expect_input_error([&] { decode_image(file, "x.png"); }, "x.png: ", message);
}

TEST(Png, WhatIsWrittenIsReadBack) {
  uint64_t seed = 0;
  for (const int64_t channels : {1, 3}) {
    for (const auto& [h, w] :
         {std::pair<int64_t, int64_t>{1, 1}, {8, 8}, {5, 131}, {200, 3}, {97, 101}}) {
      for (const bool smooth : {false, true}) {
        const Image image = noise(h, w, channels, ++seed, smooth);
        const Image back = decode_png(encode_png(image), "x.png");
        EXPECT_EQ(back.height, h);
        EXPECT_EQ(back.width, w);
        EXPECT_EQ(back.channels, channels);
        EXPECT_EQ(back.pixels, image.pixels);
      }
    }
  }
}

TEST(Png, DepthsAndColoursLoad) {
  // 4x1 with 1, 2 and 4 bits: 1010, 0123, 0 5 10 15.
  EXPECT_EQ(decode_image(png_file(png_header(4, 1, 1, 0), text_of({0, 0xA0})), "x").pixels,
            (std::vector<uint8_t>{255, 0, 255, 0}));
  EXPECT_EQ(decode_image(png_file(png_header(4, 1, 2, 0), text_of({0, 0x1B})), "x").pixels,
            (std::vector<uint8_t>{0, 85, 170, 255}));
  EXPECT_EQ(decode_image(png_file(png_header(4, 1, 4, 0), text_of({0, 0x05, 0xAF})), "x").pixels,
            (std::vector<uint8_t>{0, 85, 170, 255}));
  // 16 bits keep the high byte; alpha goes.
  EXPECT_EQ(
      decode_image(png_file(png_header(1, 1, 16, 2), text_of({0, 9, 1, 8, 2, 7, 3})), "x").pixels,
      (std::vector<uint8_t>{9, 8, 7}));
  EXPECT_EQ(decode_image(png_file(png_header(2, 1, 8, 4), text_of({0, 50, 1, 60, 2})), "x").pixels,
            (std::vector<uint8_t>{50, 60}));
  EXPECT_EQ(decode_image(png_file(png_header(1, 1, 8, 6), text_of({0, 1, 2, 3, 4})), "x").pixels,
            (std::vector<uint8_t>{1, 2, 3}));
  const std::string palette = png_chunk("PLTE", text_of({10, 20, 30, 40, 50, 60}));
  EXPECT_EQ(decode_image(png_file(png_header(2, 1, 1, 3), text_of({0, 0x40}), palette), "x").pixels,
            (std::vector<uint8_t>{10, 20, 30, 40, 50, 60}));
  EXPECT_EQ(decode_image(png_file(png_header(1, 1, 8, 0), text_of({0, 7})), "x", 3).pixels,
            (std::vector<uint8_t>{7, 7, 7}));
}

TEST(Png, FiltersAreUndone) {
  // Rows of one picture, each with its own filter; the plain values are 10 20 30 / 11 22 33 / ...
  const std::string raw = text_of({1, 10, 10, 10, 2, 1, 2, 3, 3, 7, 6, 7, 4, 1, 1, 1});
  const Image image = decode_image(png_file(png_header(3, 4, 8, 0), raw), "x");
  // Sub, Up, Average: 7+11/2=12, 6+(12+22)/2=23, 7+(23+33)/2=35; Paeth: 1+12, 1+23, 1+35.
  EXPECT_EQ(image.pixels, (std::vector<uint8_t>{10, 20, 30, 11, 22, 33, 12, 23, 35, 13, 24, 36}));
}

TEST(Png, InterlacedLoads) {
  // 8x8: the value of a pixel is 8 y + x, laid out pass by pass.
  constexpr int passes[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
  for (const auto& [h, w] : {std::pair<int, int>{8, 8}, {3, 2}, {1, 1}, {5, 9}}) {
    std::string raw;
    std::vector<uint8_t> expected;
    for (int i = 0; i < h * w; ++i) expected.push_back(static_cast<uint8_t>(i));
    for (const auto& p : passes) {
      if (p[0] >= w) continue;
      for (int y = p[1]; y < h; y += p[3]) {
        raw += '\0';
        for (int x = p[0]; x < w; x += p[2]) raw += static_cast<char>(y * w + x);
      }
    }
    const std::string file =
        png_file(png_header(static_cast<uint32_t>(w), static_cast<uint32_t>(h), 8, 0, 1), raw);
    EXPECT_EQ(decode_image(file, "x").pixels, expected) << w << "x" << h;
  }
}

TEST(Png, BombsAreRefusedByTheirHeader) {  // case 59
  refuse(png_file(png_header(16000, 16000, 8, 0), "x"), "256.0 Mpixel exceeds 64");
  refuse(png_file(png_header(0x80000000u, 1, 8, 0), "x"), "Mpixel exceeds 64");
  refuse(png_file(png_header(16385, 1, 8, 0), "x"), "image side 16385 exceeds 16384");
  const std::string row(16385, '\0');
  EXPECT_EQ(decode_image(png_file(png_header(16384, 1, 8, 0), row), "x").width, 16384);
}

TEST(Png, ChecksumsAndLengths) {  // cases 60, 61
  const std::string raw = text_of({0, 1, 2, 0, 3, 4});
  const std::string good = png_file(png_header(2, 2, 8, 0), raw);
  ASSERT_EQ(decode_image(good, "x").pixels, (std::vector<uint8_t>{1, 2, 3, 4}));
  std::string bad = good;
  bad[50] = static_cast<char>(bad[50] ^ 1);
  refuse(bad, "chunk IDAT at byte 33: checksum mismatch");
  std::string packed = zlib_stored(raw);
  packed.back() = static_cast<char>(packed.back() ^ 1);
  refuse(
      png_signature() + png_header(2, 2, 8, 0) + png_chunk("IDAT", packed) + png_chunk("IEND", ""),
      "Adler-32 checksum mismatch");
  bad = good;
  bad.replace(33, 4, be32(0x80000000u));
  refuse(bad, "chunk IDAT at byte 33: 2147483648 bytes");
  refuse(png_file(png_header(2, 2, 8, 0), raw.substr(0, 3)), "image data has 3 bytes, expected 6");
  refuse(png_file(png_header(2, 2, 8, 0), raw + "more"),
         "image data has more than 6 bytes, expected 6");
  refuse(good.substr(0, good.size() - 12), "no IEND");
  refuse(good + "junk", "4 bytes after IEND");
  for (size_t cut = 0; cut < good.size(); ++cut) {  // every cut is an input error
    EXPECT_THROW(decode_image(good.substr(0, cut), "x"), InputError) << cut;
  }
}

TEST(Png, StructureRules) {  // case 62
  const std::string raw = text_of({0, 5}), palette = png_chunk("PLTE", text_of({1, 2, 3}));
  const std::string data = png_chunk("IDAT", zlib_stored(raw)), end = png_chunk("IEND", "");
  const std::string grey = png_header(1, 1, 8, 0), indexed = png_header(1, 1, 8, 3);
  refuse(png_file(indexed, raw), "no PLTE before IDAT");
  refuse(png_file(indexed, raw, palette), "palette index 5, palette has 1");
  refuse(png_file(png_header(1, 1, 3, 0), raw), "bit depth 3 for colour type 0");
  refuse(png_file(png_header(1, 1, 8, 5), raw), "colour type 5");
  refuse(png_file(png_header(1, 1, 8, 0, 2), raw), "interlace");
  refuse(png_file(grey, text_of({7, 5})), "filter type 7");
  refuse(png_file(grey + grey, raw), "second IHDR");
  refuse(png_file(png_header(0, 4, 8, 0), raw), "image size is 0x4");
  refuse(png_signature() + data + end, "expected IHDR first");
  refuse(png_signature() + grey + end, "no image data");
  refuse(png_signature() + png_header(1, 1, 8, 2) + data + palette + end, "PLTE after IDAT");
  refuse(png_signature() + grey + data + png_chunk("tEXt", "a") + data + end, "not adjacent");
  refuse(png_file(grey, raw, png_chunk("ABCD", "")), "unknown critical chunk");
  // A compressed text that would unpack to much is skipped unread.
  EXPECT_EQ(
      decode_image(png_file(grey, raw, png_chunk("zTXt", "k\0\0 not deflate")), "x").pixels[0], 5);
  EXPECT_EQ(decode_image(png_file(grey, raw, png_chunk("eXIf", "MM\0*")), "x").pixels[0], 5);
}

TEST(Png, EveryFlippedByteIsFoundOrHarmless) {
  const Image image = noise(6, 5, 3, 3, true);
  const std::string good = encode_png(image);
  int refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (const int bit : {1, 16, 128}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ bit);
      try {
        decode_image(bad, "x.png");
      } catch (const InputError&) {
        ++refused;
      }
    }
  }
  EXPECT_EQ(refused, static_cast<int>(3 * good.size()));
}

TEST(Png,
     DeflateMutantsNeverLeaveTheirBuffers) {  // with valid CRCs, so that the inflater sees them
  const Image image = noise(16, 16, 3, 4, true);
  const std::string good = encode_png(image);
  const size_t length = good.size() - 33 - 12 - 12;
  const std::string body = good.substr(41, length);
  Philox random(5, Stream::user, 1);
  for (int trial = 0; trial < 3000; ++trial) {
    std::string mutant = body;
    for (uint32_t k = 0; k <= random.below(3); ++k) {
      mutant[random.below(static_cast<uint32_t>(length))] = static_cast<char>(random.below(256));
    }
    try {
      decode_image(good.substr(0, 33) + png_chunk("IDAT", mutant) + png_chunk("IEND", ""), "x");
    } catch (const InputError&) {
    }
  }
}

TEST(ImageFile, OtherKindsAreNamed) {  // cases 52, 64
  const TemporaryFolder folder;
  const auto refuse_file = [&](const std::string& content, const std::string& message) {
    const auto file = folder.write("a.png", content);
    expect_input_error([&] { read_image(file); }, file.string(), message);
  };
  refuse_file("", "empty file");
  refuse_file("GIF89a...........", "file is GIF; only JPEG and PNG are read");
  refuse_file(std::string("RIFF\0\0\0\0WEBPVP8 ", 16), "file is WebP");
  refuse_file(std::string("\0\0\0 ftypavif", 12), "file is AVIF");
  refuse_file("BM123456", "file is BMP");
  refuse_file("\x53\x80\xF6\x34 pic", "file is PIC");
  refuse_file("version https://git-lfs.github.com/spec/v1", "Git LFS pointer");
  EXPECT_THROW(read_image(folder.path()), Error);
  const auto fifo = folder.path() / "fifo.png";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  expect_input_error([&] { read_image(fifo); }, "not a regular file");
}

TEST(ResizeImage, KeepsConstantsAndAverages) {
  const Image flat{5, 9, 3, std::vector<uint8_t>(5 * 9 * 3, 77)};
  for (const uint8_t v : resize_image(flat, 13, 4).pixels) EXPECT_EQ(v, 77);
  EXPECT_EQ(resize_image(flat, 5, 9).pixels, flat.pixels);
  const Image cropped = resize_and_crop(flat, 8);
  EXPECT_EQ(cropped.height, 8);
  EXPECT_EQ(cropped.width, 8);
  Image ramp{1, 64, 1, {}};
  for (int i = 0; i < 64; ++i) ramp.pixels.push_back(static_cast<uint8_t>(4 * i));
  const Image small = resize_image(ramp, 1, 8);
  for (int i = 1; i < 7; ++i) EXPECT_NEAR(small.pixels[static_cast<size_t>(i)], 32 * i + 14, 1);
}

}  // namespace
}  // namespace realfake
