#include "data/inflate.h"

#include <algorithm>
#include <array>

#include "kernels/base/error.h"

namespace realfake {
namespace {

constexpr int max_code_bits = 15;

// A canonical Huffman code, decoded bit by bit from the counts of each length (as in zlib's puff).
struct Huffman {
  std::array<uint16_t, max_code_bits + 1> count{};
  std::array<uint16_t, 288> symbol{};

  // False when the lengths are over-subscribed, or leave codes unused (allowed only for a single
  // code of one bit).
  bool build(const uint8_t* lengths, int n) {
    count.fill(0);
    for (int i = 0; i < n; ++i) ++count[lengths[i]];
    if (count[0] == n) return true;  // no codes at all: an error only if one is read
    int left = 1;
    for (int bits = 1; bits <= max_code_bits; ++bits) {
      left = (left << 1) - count[bits];
      if (left < 0) return false;
    }
    std::array<uint16_t, max_code_bits + 1> offset{};
    for (int bits = 1; bits < max_code_bits; ++bits) {
      offset[bits + 1] = static_cast<uint16_t>(offset[bits] + count[bits]);
    }
    for (int i = 0; i < n; ++i) {
      if (lengths[i] != 0) symbol[offset[lengths[i]]++] = static_cast<uint16_t>(i);
    }
    return left == 0 || n - count[0] == 1;
  }
};

class Inflater {
 public:
  Inflater(std::string_view in, size_t expected, const std::string& where)
      : in_(in), where_(where), expected_(expected), out_(expected) {}

  std::vector<uint8_t> run() {
    if (in_.size() < 6) fail("zlib stream is too short");
    const int cmf = byte(0), flags = byte(1);
    if ((cmf & 15) != 8 || (cmf >> 4) > 7 || (cmf * 256 + flags) % 31 != 0 || (flags & 32)) {
      fail("not a zlib stream");
    }
    position_ = 2;
    bool last = false;
    while (!last) {
      last = bits(1);
      const uint32_t type = bits(2);
      if (type == 0) {
        stored();
      } else if (type == 1) {
        fixed();
      } else if (type == 2) {
        dynamic();
      } else {
        fail("bad block type in the compressed data");
      }
    }
    if (used_ != expected_) size_error(std::to_string(used_));
    if (position_ + 4 > in_.size()) short_input();
    uint32_t stored_sum = 0;
    for (int i = 0; i < 4; ++i) stored_sum = stored_sum << 8 | byte(position_ + i);
    if (stored_sum != adler32(out_.data(), out_.size())) fail("Adler-32 checksum mismatch");
    position_ += 4;
    if (position_ != in_.size()) {
      fail(concat(in_.size() - position_, " bytes after the end of the compressed data"));
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw InputError(where_ + ": " + what); }
  [[noreturn]] void size_error(const std::string& found) const {
    fail(concat("image data has ", found, " bytes, expected ", expected_));
  }
  [[noreturn]] void short_input() const { size_error(std::to_string(used_)); }
  uint8_t byte(size_t at) const { return static_cast<uint8_t>(in_[at]); }

  uint32_t bits(int n) {
    while (held_ < n) {
      if (position_ >= in_.size()) short_input();
      hold_ |= static_cast<uint32_t>(byte(position_++)) << held_;
      held_ += 8;
    }
    const uint32_t value = hold_ & ((1u << n) - 1);
    hold_ >>= n;
    held_ -= n;
    return value;
  }

  int decode(const Huffman& code) {
    int value = 0, first = 0, index = 0;
    for (int length = 1; length <= max_code_bits; ++length) {
      value |= static_cast<int>(bits(1));
      const int count = code.count[length];
      if (value - count < first) return code.symbol[index + (value - first)];
      index += count;
      first = (first + count) << 1;
      value <<= 1;
    }
    fail("bad code in the compressed data");
  }

  void put(uint8_t value) {
    if (used_ == expected_) size_error(concat("more than ", expected_));
    out_[used_++] = value;
  }

  void stored() {
    hold_ = 0;
    held_ = 0;
    if (position_ + 4 > in_.size()) short_input();
    const uint32_t length = byte(position_) | byte(position_ + 1) << 8;
    const uint32_t inverse = byte(position_ + 2) | byte(position_ + 3) << 8;
    if (length != (~inverse & 0xFFFF)) fail("bad length of a stored block");
    position_ += 4;
    if (length > expected_ - used_) size_error(concat("more than ", expected_));
    const size_t have = std::min<size_t>(length, in_.size() - position_);
    std::copy_n(in_.begin() + static_cast<std::ptrdiff_t>(position_), have,
                out_.begin() + static_cast<std::ptrdiff_t>(used_));
    used_ += have;
    position_ += have;
    if (have < length) short_input();
  }

  void fixed() {
    std::array<uint8_t, 288> lengths;
    std::fill_n(lengths.begin(), 144, uint8_t{8});
    std::fill_n(lengths.begin() + 144, 112, uint8_t{9});
    std::fill_n(lengths.begin() + 256, 24, uint8_t{7});
    std::fill_n(lengths.begin() + 280, 8, uint8_t{8});
    std::array<uint8_t, 30> distances;
    distances.fill(5);
    Huffman literal, distance;
    literal.build(lengths.data(), 288);
    distance.build(distances.data(), 30);
    codes(literal, distance);
  }

  void dynamic() {
    static constexpr std::array<uint8_t, 19> order = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                      11, 4,  12, 3, 13, 2, 14, 1, 15};
    const int literals = static_cast<int>(bits(5)) + 257;
    const int distances = static_cast<int>(bits(5)) + 1;
    const int lengths_of_lengths = static_cast<int>(bits(4)) + 4;
    if (literals > 286 || distances > 30) fail("bad code counts in the compressed data");
    std::array<uint8_t, 320> lengths{};
    for (int i = 0; i < lengths_of_lengths; ++i) {
      lengths[order[static_cast<size_t>(i)]] = static_cast<uint8_t>(bits(3));
    }
    Huffman code;
    if (!code.build(lengths.data(), 19)) fail("bad code lengths in the compressed data");
    lengths.fill(0);
    for (int i = 0; i < literals + distances;) {
      const int symbol = decode(code);
      if (symbol < 16) {
        lengths[static_cast<size_t>(i++)] = static_cast<uint8_t>(symbol);
        continue;
      }
      uint8_t repeated = 0;
      int times = 0;
      if (symbol == 16) {
        if (i == 0) fail("bad code lengths in the compressed data");
        repeated = lengths[static_cast<size_t>(i - 1)];
        times = 3 + static_cast<int>(bits(2));
      } else {
        times = symbol == 17 ? 3 + static_cast<int>(bits(3)) : 11 + static_cast<int>(bits(7));
      }
      if (i + times > literals + distances) fail("bad code lengths in the compressed data");
      while (times-- > 0) lengths[static_cast<size_t>(i++)] = repeated;
    }
    Huffman literal, distance;
    if (lengths[256] == 0 || !literal.build(lengths.data(), literals) ||
        !distance.build(lengths.data() + literals, distances)) {
      fail("bad code lengths in the compressed data");
    }
    codes(literal, distance);
  }

  void codes(const Huffman& literal, const Huffman& distance) {
    static constexpr std::array<uint16_t, 29> length_base = {
        3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
        31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static constexpr std::array<uint8_t, 29> length_extra = {
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static constexpr std::array<uint16_t, 30> distance_base = {
        1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
        193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    static constexpr std::array<uint8_t, 30> distance_extra = {
        0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
        6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
    while (true) {
      const int symbol = decode(literal);
      if (symbol < 256) {
        put(static_cast<uint8_t>(symbol));
        continue;
      }
      if (symbol == 256) return;
      const size_t i = static_cast<size_t>(symbol - 257);
      if (i >= length_base.size()) fail("bad length code in the compressed data");
      const size_t length = length_base[i] + bits(length_extra[i]);
      const size_t j = static_cast<size_t>(decode(distance));
      if (j >= distance_base.size()) fail("bad distance code in the compressed data");
      const size_t back = distance_base[j] + bits(distance_extra[j]);
      if (back > used_) fail("distance before the start of the compressed data");
      if (length > expected_ - used_) size_error(concat("more than ", expected_));
      for (size_t k = 0; k < length; ++k, ++used_) out_[used_] = out_[used_ - back];
    }
  }

  std::string_view in_;
  const std::string& where_;
  size_t expected_, position_ = 0, used_ = 0;
  uint32_t hold_ = 0;
  int held_ = 0;
  std::vector<uint8_t> out_;
};

}  // namespace

uint32_t crc32(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t n = 0; n < 256; ++n) {
      uint32_t c = n;
      for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
      t[n] = c;
    }
    return t;
  }();
  uint32_t c = 0xFFFFFFFFu;
  for (const char b : bytes) c = table[(c ^ static_cast<uint8_t>(b)) & 255] ^ (c >> 8);
  return ~c;
}

uint32_t adler32(const uint8_t* data, size_t bytes) {
  uint32_t a = 1, b = 0;
  while (bytes > 0) {
    const size_t run = std::min<size_t>(bytes, 5552);  // the most that cannot overflow 32 bits
    for (size_t i = 0; i < run; ++i) b += a += data[i];
    a %= 65521;
    b %= 65521;
    data += run;
    bytes -= run;
  }
  return b << 16 | a;
}

std::vector<uint8_t> inflate_zlib(std::string_view packed, size_t expected,
                                  const std::string& where) {
  return Inflater(packed, expected, where).run();
}

}  // namespace realfake
