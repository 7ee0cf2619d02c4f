#include "data/png.h"

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>

#include "data/inflate.h"
#include "kernels/base/error.h"
#include "kernels/base/file.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-function"
#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace realfake {
namespace {

constexpr std::string_view signature("\x89PNG\r\n\x1a\n", 8);

struct Header {
  uint32_t width = 0, height = 0;
  int depth = 0, colour = 0;
  bool interlaced = false;

  int samples() const {  // per pixel, as stored
    switch (colour) {
      case 2:
        return 3;
      case 4:
        return 2;
      case 6:
        return 4;
      default:
        return 1;
    }
  }
  int pixel_bits() const { return samples() * depth; }
  uint64_t row_bytes(uint64_t width) const { return (width * pixel_bits() + 7) / 8; }
};

// One pass of Adam7, or the whole picture.
struct Pass {
  uint32_t x0, y0, dx, dy;
};
constexpr std::array<Pass, 7> adam7 = {{{0, 0, 8, 8},
                                        {4, 0, 8, 8},
                                        {0, 4, 4, 8},
                                        {2, 0, 4, 4},
                                        {0, 2, 2, 4},
                                        {1, 0, 2, 2},
                                        {0, 1, 1, 2}}};
constexpr Pass whole = {0, 0, 1, 1};

uint64_t count(uint32_t size, uint32_t first, uint32_t step) {
  return size > first ? (uint64_t{size} - first + step - 1) / step : 0;
}

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  Image run() {
    walk();
    std::vector<Pass> passes = {whole};
    if (header_.interlaced) passes.assign(adam7.begin(), adam7.end());
    uint64_t expected = 0;
    for (const Pass& pass : passes) {
      const uint64_t columns = count(header_.width, pass.x0, pass.dx);
      const uint64_t rows = count(header_.height, pass.y0, pass.dy);
      if (columns > 0) expected += rows * (1 + header_.row_bytes(columns));
    }
    std::vector<uint8_t> raw = inflate_zlib(data_, expected, name_);
    data_.clear();
    data_.shrink_to_fit();

    image_.height = header_.height;
    image_.width = header_.width;
    image_.channels = header_.colour == 0 || header_.colour == 4 ? 1 : 3;
    image_.pixels.resize(static_cast<size_t>(image_.height * image_.width * image_.channels));
    uint8_t* from = raw.data();
    for (const Pass& pass : passes) from = decode_pass(from, pass);
    return std::move(image_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw InputError(name_ + ": " + what); }
  uint32_t u32(size_t at) const {
    uint32_t v = 0;
    for (size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<uint8_t>(bytes_[at + i]);
    return v;
  }

  // Chunks in order; fills header_, palette_ and data_.
  void walk() {
    if (bytes_.size() < 8 || bytes_.substr(0, 8) != signature) fail("not a PNG");
    bool ended = false, data_over = false, have_header = false, have_data = false;
    size_t at = 8;
    while (!ended) {
      if (at == bytes_.size()) fail("PNG has no IEND chunk (cut file?)");
      if (bytes_.size() - at < 12) fail(concat("chunk at byte ", at, ": ends before its header"));
      const uint64_t length = u32(at);
      const std::string type(bytes_.substr(at + 4, 4));
      for (const char c : type) {
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))) {
          fail(concat("chunk at byte ", at, ": bad chunk name"));
        }
      }
      const std::string where = concat("chunk ", type, " at byte ", at);
      if (length > INT32_MAX || length > bytes_.size() - at - 12) {
        fail(concat(where, ": ", length, " bytes, but the file has ", bytes_.size() - at - 12,
                    " left (cut file?)"));
      }
      const std::string_view body = bytes_.substr(at + 8, length);
      if (!have_header && type != "IHDR") fail(concat(where, ": expected IHDR first"));
      if (crc32(bytes_.substr(at + 4, 4 + length)) != u32(at + 8 + length)) {
        fail(concat(where, ": checksum mismatch"));
      }
      if (type != "IDAT" && have_data) data_over = true;
      if (type == "IHDR") {
        if (have_header) fail(concat(where, ": second IHDR"));
        have_header = true;
        read_header(body, at + 8, where);
      } else if (type == "PLTE") {
        if (have_data) fail(concat(where, ": PLTE after IDAT"));
        if (!palette_.empty()) fail(concat(where, ": second PLTE"));
        if (length == 0 || length % 3 != 0 || length > 768) {
          fail(concat(where, ": ", length, " bytes, expected 3 to 768 in steps of 3"));
        }
        if (header_.colour == 0 || header_.colour == 4) fail(concat(where, ": PLTE in a grey PNG"));
        palette_ = body;
      } else if (type == "IDAT") {
        if (data_over) fail(concat(where, ": IDAT chunks are not adjacent"));
        if (header_.colour == 3 && palette_.empty()) fail(concat(where, ": no PLTE before IDAT"));
        have_data = true;
        data_.append(body);
      } else if (type == "IEND") {
        if (length != 0) fail(concat(where, ": ", length, " bytes, expected 0"));
        ended = true;
      } else if ((type[0] & 32) == 0) {
        fail(concat(where, ": unknown critical chunk"));
      }  // other chunks may be anything and are not looked into
      at += 12 + length;
    }
    if (at != bytes_.size()) fail(concat(bytes_.size() - at, " bytes after IEND"));
    if (!have_data) fail("PNG has no image data");
  }

  void read_header(std::string_view body, size_t at, const std::string& where) {
    if (body.size() != 13) fail(concat(where, ": ", body.size(), " bytes, expected 13"));
    header_.width = u32(at);
    header_.height = u32(at + 4);
    header_.depth = static_cast<uint8_t>(body[8]);
    header_.colour = static_cast<uint8_t>(body[9]);
    const int method = static_cast<uint8_t>(body[10]), filter = static_cast<uint8_t>(body[11]);
    const int interlace = static_cast<uint8_t>(body[12]);
    check_image_size(header_.width, header_.height, name_);
    const int d = header_.depth;
    bool legal = false;
    switch (header_.colour) {
      case 0:
        legal = d == 1 || d == 2 || d == 4 || d == 8 || d == 16;
        break;
      case 3:
        legal = d == 1 || d == 2 || d == 4 || d == 8;
        break;
      case 2:
      case 4:
      case 6:
        legal = d == 8 || d == 16;
        break;
      default:
        fail(concat(where, ": colour type ", header_.colour, ", expected 0, 2, 3, 4 or 6"));
    }
    if (!legal) fail(concat(where, ": bit depth ", d, " for colour type ", header_.colour));
    if (method != 0 || filter != 0 || interlace > 1) {
      fail(concat(where, ": unknown compression, filter or interlace method"));
    }
    header_.interlaced = interlace == 1;
  }

  // Undoes the filters of one pass in place and spreads its pixels; returns where the next pass
  // starts.
  uint8_t* decode_pass(uint8_t* from, const Pass& pass) {
    const uint64_t columns = count(header_.width, pass.x0, pass.dx);
    const uint64_t rows = count(header_.height, pass.y0, pass.dy);
    if (columns == 0) return from;
    const size_t bytes = header_.row_bytes(columns);
    const size_t step = static_cast<size_t>(std::max(1, header_.pixel_bits() / 8));
    const std::vector<uint8_t> zeros(bytes, 0);
    const uint8_t* above = zeros.data();
    for (uint64_t row = 0; row < rows; ++row) {
      const int filter = *from++;
      if (filter > 4) fail(concat("image data: filter type ", filter, " in a row, expected 0..4"));
      unfilter(from, above, bytes, step, filter);
      spread(from, columns, pass, pass.y0 + row * pass.dy);
      above = from;
      from += bytes;
    }
    return from;
  }

  static void unfilter(uint8_t* row, const uint8_t* above, size_t bytes, size_t step, int filter) {
    for (size_t i = 0; i < bytes; ++i) {
      const int left = i >= step ? row[i - step] : 0;
      const int up = above[i];
      const int corner = i >= step ? above[i - step] : 0;
      int guess = 0;
      if (filter == 1) {
        guess = left;
      } else if (filter == 2) {
        guess = up;
      } else if (filter == 3) {
        guess = (left + up) / 2;
      } else if (filter == 4) {
        const int p = left + up - corner;
        const int a = std::abs(p - left), b = std::abs(p - up), c = std::abs(p - corner);
        guess = a <= b && a <= c ? left : b <= c ? up : corner;
      }
      row[i] = static_cast<uint8_t>(row[i] + guess);
    }
  }

  void spread(const uint8_t* row, uint64_t columns, const Pass& pass, uint64_t y) {
    const int depth = header_.depth, samples = header_.samples();
    const int channels = static_cast<int>(image_.channels);
    const int largest = (1 << std::min(depth, 8)) - 1;
    for (uint64_t i = 0; i < columns; ++i) {
      const uint64_t x = pass.x0 + i * pass.dx;
      uint8_t* to = image_.pixels.data() +
                    (y * static_cast<uint64_t>(image_.width) + x) * static_cast<uint64_t>(channels);
      if (header_.colour == 3) {
        const size_t index = static_cast<size_t>(packed(row, i, depth));
        if (index * 3 >= palette_.size()) {
          fail(concat("palette index ", index, ", palette has ", palette_.size() / 3));
        }
        for (size_t c = 0; c < 3; ++c) to[c] = static_cast<uint8_t>(palette_[index * 3 + c]);
      } else if (depth < 8) {
        to[0] = static_cast<uint8_t>(packed(row, i, depth) * 255 / largest);
      } else {
        const uint64_t bytes = static_cast<uint64_t>(depth / 8);
        for (int c = 0; c < channels; ++c) to[c] = row[(i * samples + c) * bytes];
      }
    }
  }

  // Sample i of a row whose samples have 1, 2, 4 or 8 bits.
  static int packed(const uint8_t* row, uint64_t i, int depth) {
    const uint64_t bit = i * static_cast<uint64_t>(depth);
    return row[bit / 8] >> (8 - depth - static_cast<int>(bit % 8)) & ((1 << depth) - 1);
  }

  std::string_view bytes_;
  const std::string& name_;
  Header header_;
  std::string_view palette_;
  std::string data_;
  Image image_;
};

}  // namespace

Image decode_png(std::string_view bytes, const std::string& name) {
  return Reader(bytes, name).run();
}

std::string encode_png(const Image& image) {
  require(image.channels == 1 || image.channels == 3, "[encode_png] ", image.channels, " channels");
  require(
      image.height > 0 && image.width > 0 &&
          image.pixels.size() == static_cast<size_t>(image.height * image.width * image.channels),
      "[encode_png] ", image.pixels.size(), " bytes for ", image.width, "x", image.height, "x",
      image.channels);
  // The writer computes (x n + 1) y in int.
  require((image.width * image.channels + 1) * image.height < INT_MAX, "[encode_png] too large");
  std::string out;
  const auto append = [](void* context, void* data, int bytes) {
    static_cast<std::string*>(context)->append(static_cast<const char*>(data),
                                               static_cast<size_t>(bytes));
  };
  const int ok =
      stbi_write_png_to_func(append, &out, static_cast<int>(image.width),
                             static_cast<int>(image.height), static_cast<int>(image.channels),
                             image.pixels.data(), static_cast<int>(image.width * image.channels));
  if (ok == 0 || out.empty()) throw MemoryError("no memory to write a PNG");
  return out;
}

void write_png(const std::filesystem::path& path, const Image& image) {
  write_file_atomic(path, encode_png(image));
}

}  // namespace realfake
