#include "data/jpeg.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/random.h"
#include "tests/data/jpeg_samples.h"
#include "tests/data/temporary_folder.h"

namespace realfake {
namespace {

void refuse(const std::string& file, const std::string& message) {
  expect_input_error([&] { decode_image(file, "x.jpg"); }, "x.jpg: ", message);
}

// Where the contents of the first segment with this marker start (after its length).
size_t segment(const std::string& file, int marker) {
  size_t at = 2;
  while (at + 4 <= file.size()) {
    if (static_cast<uint8_t>(file[at + 1]) == marker) return at + 4;
    at += 2 + static_cast<size_t>(static_cast<uint8_t>(file[at + 2]) << 8 |
                                  static_cast<uint8_t>(file[at + 3]));
  }
  ADD_FAILURE() << "no segment " << marker;
  return 0;
}

std::string with_byte(std::string file, size_t at, int value) {
  file[at] = static_cast<char>(value);
  return file;
}

std::string without_segment(std::string file, int marker) {
  const size_t at = segment(file, marker) - 4;
  const size_t length = static_cast<size_t>(static_cast<uint8_t>(file[at + 2]) << 8 |
                                            static_cast<uint8_t>(file[at + 3]));
  return file.erase(at, 2 + length);
}

TEST(Jpeg, BaselineProgressiveAndGreyLoad) {
  for (const char* hex : {baseline_jpeg_hex, progressive_jpeg_hex}) {
    const Image image = decode_image(from_hex(hex), "x.jpg");
    ASSERT_EQ(image.height, 16);
    ASSERT_EQ(image.width, 16);
    ASSERT_EQ(image.channels, 3);
    for (int y = 0; y < 16; ++y) {
      for (int x = 0; x < 16; ++x) {
        const uint8_t* p = &image.pixels[static_cast<size_t>(3 * (16 * y + x))];
        EXPECT_NEAR(p[0], 16 * x, 24) << x << ' ' << y;
        EXPECT_NEAR(p[1], 16 * y, 24) << x << ' ' << y;
        EXPECT_NEAR(p[2], 128, 24) << x << ' ' << y;
      }
    }
  }
  const Image grey = decode_image(from_hex(grey_jpeg_hex), "x.jpg");
  EXPECT_EQ(grey.channels, 1);
  EXPECT_NEAR(grey.pixels[8 * 16 + 8], 0.299 * 128 + 0.587 * 128 + 0.114 * 128, 4);
  // What follows the end marker does no harm.
  EXPECT_EQ(decode_image(from_hex(grey_jpeg_hex) + "more", "x.jpg").pixels, grey.pixels);
}

TEST(Jpeg, EveryCutIsFound) {  // case 53
  for (const char* hex : {baseline_jpeg_hex, progressive_jpeg_hex, grey_jpeg_hex}) {
    const std::string good = from_hex(hex);
    for (size_t n = 2; n < good.size(); ++n) {
      EXPECT_THROW(decode_image(good.substr(0, n), "x.jpg"), InputError) << n;
    }
    refuse(good.substr(0, good.size() / 8), "JPEG ends before its end marker");
    refuse(good.substr(0, good.size() - 1), "JPEG ends before its end marker");
  }
}

TEST(Jpeg, ScansAreNeededAndCounted) {  // cases 54, 58
  const std::string good = from_hex(grey_jpeg_hex);
  const size_t scan = segment(good, 0xDA) - 4;
  refuse(good.substr(0, scan) + "\xFF\xD9", "JPEG has no image data");
  refuse(good.substr(0, scan), "JPEG has no image data");
  std::string many = good.substr(0, scan);
  const std::string one = good.substr(scan, good.size() - 2 - scan);
  for (int i = 0; i < 101; ++i) many += one;
  refuse(many + "\xFF\xD9", "more than 100 scans");
}

TEST(Jpeg, TablesAreChecked) {  // cases 55, 56
  const std::string good = from_hex(grey_jpeg_hex);
  const size_t dht = segment(good, 0xC4), frame = segment(good, 0xC0);
  std::string bad = good;
  for (size_t i = 1; i <= 16; ++i) bad[dht + i] = static_cast<char>(i <= 13 ? 0 : 255);
  refuse(bad, "Huffman table has 765 codes, at most 256");
  refuse(with_byte(good, dht + 1, 3), "Huffman table is over-subscribed at length 1");
  refuse(with_byte(good, dht, 0x05), "Huffman table: class 0, number 5");
  refuse(without_segment(good, 0xC4), "Huffman table 0 missing");
  refuse(without_segment(good, 0xDB), "quantisation table 0 missing");
  refuse(with_byte(with_byte(good, frame + 1, 0), frame + 2, 0), "JPEG frame: size 16x0");
  refuse(with_byte(good, frame + 7, 0x01), "JPEG frame: sampling factor 0");
  refuse(with_byte(good, frame + 5, 5), "JPEG frame: 5 components");
  refuse(with_byte(good, frame + 5, 4), "CMYK JPEG is not supported");
  refuse(with_byte(good, frame, 12), "12-bit JPEG is not supported");
  refuse(with_byte(good, frame - 3, 0xC9), "arithmetic-coded JPEG is not supported");
  refuse(with_byte(good, frame - 3, 0xC3), "lossless JPEG is not supported");
  refuse(with_byte(with_byte(good, 4, 0), 5, 1), "length 1, expected at least 2");
  std::string twice = good;
  twice.insert(frame - 4, good.substr(frame - 4, 4 + 9));
  refuse(twice, "second frame header");
  std::string large = good;
  for (size_t i = 1; i <= 4; ++i) large[frame + i] = '\x3E';
  refuse(large, "253.9 Mpixel exceeds 64");
}

// Under a sanitizer this shows that nothing which passes the walk makes the decoder leave its
// buffers.
TEST(Jpeg, MutantsAreDecodedOrRefused) {
  Philox random(11, Stream::user, 0);
  int decoded = 0;
  for (const char* hex : {baseline_jpeg_hex, progressive_jpeg_hex, grey_jpeg_hex}) {
    const std::string good = from_hex(hex);
    for (int trial = 0; trial < 1000; ++trial) {
      std::string mutant = good;
      for (uint32_t k = 0; k <= random.below(2); ++k) {
        mutant[2 + random.below(static_cast<uint32_t>(good.size() - 2))] =
            static_cast<char>(random.below(256));
      }
      try {
        const size_t frame = mutant.find(
            good.substr(segment(good, hex == progressive_jpeg_hex ? 0xC2 : 0xC0) - 4, 9));
        if (frame == std::string::npos) continue;  // other sizes would only cost time
        decoded += !decode_image(mutant, "x.jpg").pixels.empty();
      } catch (const InputError&) {
      }
    }
  }
  EXPECT_GT(decoded, 100);
}

}  // namespace
}  // namespace realfake
