#include "data/jpeg.h"

#include <array>
#include <memory>

#include "kernels/base/error.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STB_IMAGE_STATIC
#define STBI_MAX_DIMENSIONS 16384
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>
#pragma GCC diagnostic pop

namespace realfake {
namespace {

constexpr int max_scans = 100;

struct Component {
  int id = 0, h = 0, v = 0, quantisation = 0;
};

class Walker {
 public:
  Walker(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  size_t run() {
    if (bytes_.size() < 4 || byte(0) != 0xFF || byte(1) != 0xD8) fail("not a JPEG");
    at_ = 2;
    while (true) {
      if (at_ == bytes_.size() && frame_ && scans_ == 0) fail("JPEG has no image data");
      const int marker = next_marker();
      if (marker == 0xD9) break;
      if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7)) continue;  // no segment follows
      if (marker == 0xD8) fail(concat("second start marker at byte ", at_ - 2));
      segment(marker);
    }
    if (scans_ == 0) fail("JPEG has no image data");
    return at_;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw InputError(name_ + ": " + what); }
  [[noreturn]] void cut() const { fail("JPEG ends before its end marker"); }
  int byte(size_t at) const { return static_cast<uint8_t>(bytes_[at]); }

  int next_marker() {
    if (at_ + 2 > bytes_.size()) cut();
    if (byte(at_) != 0xFF) {
      fail(concat("JPEG byte ", at_, ": found 0x", hex(byte(at_)), ", expected a marker"));
    }
    while (at_ < bytes_.size() && byte(at_) == 0xFF) ++at_;  // fill bytes
    if (at_ == bytes_.size()) cut();
    const int marker = byte(at_++);
    if (marker == 0) fail(concat("JPEG byte ", at_ - 2, ": image data outside a scan"));
    return marker;
  }

  static std::string hex(int value) {
    constexpr char digits[] = "0123456789abcdef";
    return {digits[value >> 4 & 15], digits[value & 15]};
  }

  void segment(int marker) {
    const size_t start = at_;
    if (at_ + 2 > bytes_.size()) cut();
    const size_t length = static_cast<size_t>(byte(at_) << 8 | byte(at_ + 1));
    if (length < 2) {
      fail(
          concat("JPEG segment at byte ", start - 2, ": length ", length, ", expected at least 2"));
    }
    if (length > bytes_.size() - at_) cut();
    begin_ = start + 2;
    end_ = start + length;
    at_ = end_;
    if (marker == 0xC4) {
      huffman_tables();
    } else if (marker == 0xDB) {
      quantisation_tables();
    } else if (marker == 0xDA) {
      scan();
      entropy_data();
    } else if (marker == 0xDD) {
      if (length != 4) fail("JPEG restart interval: bad length");
    } else if (marker == 0xCC || (marker >= 0xC9 && marker <= 0xCF)) {
      fail("arithmetic-coded JPEG is not supported");
    } else if (marker >= 0xC0 && marker <= 0xC2) {
      frame(marker);
    } else if (marker == 0xC3 || (marker >= 0xC5 && marker <= 0xC8)) {
      fail(marker == 0xC3 ? "lossless JPEG is not supported"
                          : "hierarchical JPEG is not supported");
    }  // APPn, COM and the rest are skipped unread
  }

  void frame(int marker) {
    if (frame_) fail("JPEG frame: second frame header");
    if (end_ - begin_ < 6) fail("JPEG frame: header too short");
    frame_ = true;
    progressive_ = marker == 0xC2;
    const int precision = byte(begin_);
    const uint64_t height = static_cast<uint64_t>(byte(begin_ + 1) << 8 | byte(begin_ + 2));
    const uint64_t width = static_cast<uint64_t>(byte(begin_ + 3) << 8 | byte(begin_ + 4));
    const size_t components = static_cast<size_t>(byte(begin_ + 5));
    if (precision != 8) fail(concat(precision, "-bit JPEG is not supported"));
    if (height == 0 || width == 0) fail(concat("JPEG frame: size ", width, "x", height));
    check_image_size(width, height, name_);
    if (components == 4) fail("CMYK JPEG is not supported");
    if (components != 1 && components != 3) {
      fail(concat("JPEG frame: ", components, " components, expected 1 or 3"));
    }
    if (end_ - begin_ != 6 + 3 * components) fail("JPEG frame: bad header length");
    int largest_h = 1, largest_v = 1;
    for (size_t i = 0; i < components; ++i) {
      const size_t at = begin_ + 6 + 3 * i;
      Component c{byte(at), byte(at + 1) >> 4, byte(at + 1) & 15, byte(at + 2)};
      for (const int factor : {c.h, c.v}) {
        if (factor < 1 || factor > 4) fail(concat("JPEG frame: sampling factor ", factor));
      }
      if (c.quantisation > 3) fail(concat("JPEG frame: quantisation table ", c.quantisation));
      for (const Component& other : components_) {
        if (other.id == c.id) fail(concat("JPEG frame: component ", c.id, " twice"));
      }
      largest_h = std::max(largest_h, c.h);
      largest_v = std::max(largest_v, c.v);
      components_.push_back(c);
    }
    for (const Component& c : components_) {  // the decoder's resampling knows whole factors only
      if (largest_h % c.h != 0 || largest_v % c.v != 0) {
        fail("JPEG frame: fractional sampling is not supported");
      }
    }
  }

  void quantisation_tables() {
    size_t at = begin_;
    while (at < end_) {
      const int wide = byte(at) >> 4, id = byte(at) & 15;
      const size_t bytes = wide ? 129 : 65;
      if (wide > 1 || id > 3) fail(concat("JPEG quantisation table ", id, ": bad header"));
      if (end_ - at < bytes) fail(concat("JPEG quantisation table ", id, ": cut"));
      have_quantisation_[static_cast<size_t>(id)] = true;
      at += bytes;
    }
  }

  void huffman_tables() {
    size_t at = begin_;
    while (at < end_) {
      if (end_ - at < 17) fail("Huffman table is cut");
      const int kind = byte(at) >> 4, id = byte(at) & 15;
      if (kind > 1 || id > 3) fail(concat("Huffman table: class ", kind, ", number ", id));
      size_t codes = 0;
      for (size_t i = 1; i <= 16; ++i) codes += static_cast<size_t>(byte(at + i));
      if (codes > 256) fail(concat("Huffman table has ", codes, " codes, at most 256"));
      uint32_t next = 0;
      for (size_t i = 1; i <= 16; ++i) {
        next = (next << 1) + static_cast<uint32_t>(byte(at + i));
        if (next > (1u << i)) fail(concat("Huffman table is over-subscribed at length ", i));
      }
      if (end_ - at < 17 + codes) fail("Huffman table is cut");
      for (size_t i = 0; kind == 0 && i < codes; ++i) {
        if (byte(at + 17 + i) > 15) {
          fail(concat("Huffman table: DC symbol ", byte(at + 17 + i), ", at most 15"));
        }
      }
      have_huffman_[static_cast<size_t>(kind)][static_cast<size_t>(id)] = true;
      at += 17 + codes;
    }
  }

  void scan() {
    if (!frame_) fail("JPEG scan before its frame header");
    if (++scans_ > max_scans) fail(concat("more than ", max_scans, " scans"));
    const size_t size = end_ - begin_;
    const size_t n = size > 0 ? static_cast<size_t>(byte(begin_)) : 0;
    if (n < 1 || n > components_.size()) fail(concat("JPEG scan: ", n, " components"));
    if (size != 4 + 2 * n) fail("JPEG scan: bad header length");
    const int first = byte(begin_ + 1 + 2 * n), last = byte(begin_ + 2 + 2 * n);
    const int high = byte(begin_ + 3 + 2 * n) >> 4, low = byte(begin_ + 3 + 2 * n) & 15;
    if (progressive_) {
      if (first > last || last > 63 || high > 13 || low > 13 || (first == 0 && last != 0) ||
          (first > 0 && n != 1)) {
        fail(concat("JPEG scan: coefficients ", first, "..", last, ", bits ", high, "..", low));
      }
    } else if (first != 0 || high != 0 || low != 0) {
      fail(concat("JPEG scan: coefficients ", first, "..", last, " in a sequential file"));
    }
    const bool needs_dc = first == 0 && high == 0, needs_ac = !progressive_ || first > 0;
    for (size_t i = 0; i < n; ++i) {
      const int id = byte(begin_ + 1 + 2 * i);
      const size_t dc = static_cast<size_t>(byte(begin_ + 2 + 2 * i) >> 4);
      const size_t ac = static_cast<size_t>(byte(begin_ + 2 + 2 * i) & 15);
      const Component* component = nullptr;
      for (const Component& c : components_) {
        if (c.id == id) component = &c;
      }
      if (component == nullptr) fail(concat("JPEG scan: unknown component ", id));
      for (size_t j = 0; j < i; ++j) {
        if (byte(begin_ + 1 + 2 * j) == id) fail(concat("JPEG scan: component ", id, " twice"));
      }
      if (dc > 3 || ac > 3) fail("JPEG scan: Huffman table number over 3");
      if (needs_dc && !have_huffman_[0][dc])
        fail(concat("JPEG scan: DC Huffman table ", dc, " missing"));
      if (needs_ac && !have_huffman_[1][ac])
        fail(concat("JPEG scan: AC Huffman table ", ac, " missing"));
      if (!have_quantisation_[static_cast<size_t>(component->quantisation)]) {
        fail(concat("JPEG frame: quantisation table ", component->quantisation, " missing"));
      }
    }
  }

  // Up to the next marker that is neither a stuffed zero nor a restart.
  void entropy_data() {
    const size_t start = at_;
    while (true) {
      const size_t found = bytes_.find('\xFF', at_);
      if (found == std::string_view::npos || found + 1 >= bytes_.size()) cut();
      const int marker = byte(found + 1);
      if (marker == 0 || (marker >= 0xD0 && marker <= 0xD7)) {
        at_ = found + 2;
      } else if (marker == 0xFF) {
        at_ = found + 1;
      } else {
        at_ = found;
        break;
      }
    }
    if (at_ == start) fail(concat("JPEG scan at byte ", start, " is empty"));
  }

  std::string_view bytes_;
  const std::string& name_;
  size_t at_ = 0, begin_ = 0, end_ = 0;  // begin_, end_: contents of the current segment
  bool frame_ = false, progressive_ = false;
  int scans_ = 0;
  std::vector<Component> components_;
  std::array<bool, 4> have_quantisation_{};
  std::array<std::array<bool, 4>, 2> have_huffman_{};
};

}  // namespace

size_t check_jpeg(std::string_view bytes, const std::string& name) {
  return Walker(bytes, name).run();
}

Image decode_jpeg(std::string_view bytes, const std::string& name) {
  const size_t size =
      check_jpeg(bytes, name);  // what follows the end marker is not shown to the decoder
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(bytes.data()), static_cast<int>(size),
                            &width, &height, &channels, 0),
      stbi_image_free);
  if (pixels == nullptr) {
    throw InputError(concat(name, ": JPEG cannot be decoded: ", stbi_failure_reason()));
  }
  if (channels != 1 && channels != 3) {
    throw InputError(concat(name, ": JPEG has ", channels, " channels, expected 1 or 3"));
  }
  Image image{height, width, channels, {}};
  image.pixels.assign(pixels.get(),
                      pixels.get() + size_t(height) * size_t(width) * size_t(channels));
  return image;
}

}  // namespace realfake
