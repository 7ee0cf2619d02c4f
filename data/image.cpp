#include "data/image.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "data/jpeg.h"
#include "data/png.h"
#include "kernels/base/error.h"
#include "kernels/base/file.h"

namespace realfake {
namespace {

bool starts(std::string_view bytes, std::string_view with, size_t at = 0) {
  return bytes.size() >= at + with.size() && bytes.substr(at, with.size()) == with;
}

// Named for the message only: nothing but PNG and JPEG is decoded.
std::string kind_of_file(std::string_view bytes) {
  if (starts(bytes, "GIF8")) return "GIF";
  if (starts(bytes, "RIFF") && starts(bytes, "WEBP", 8)) return "WebP";
  if (starts(bytes, "ftyp", 4)) return "AVIF or HEIF";
  if (starts(bytes, "BM")) return "BMP";
  if (starts(bytes, "\x53\x80\xF6\x34")) return "PIC";
  if (starts(bytes, "II*") || starts(bytes, "MM")) return "TIFF";
  if (starts(bytes, "version https://git-lfs")) return "a Git LFS pointer, not the picture";
  if (starts(bytes, "<")) return "text (HTML or XML)";
  return "of an unknown kind";
}

// Weights of one output sample: input[first .. first + weight.size()).
struct Taps {
  int64_t first = 0;
  std::vector<float> weight;
};

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

std::vector<Taps> taps(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double stretch = std::max(1.0, scale), support = 2.0 * stretch;
  std::vector<Taps> all(static_cast<size_t>(out));
  for (int64_t i = 0; i < out; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    const int64_t low = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const int64_t high = std::min<int64_t>(in, static_cast<int64_t>(center + support + 0.5));
    Taps& t = all[static_cast<size_t>(i)];
    t.first = low;
    double sum = 0;
    for (int64_t j = low; j < high; ++j) {
      const double w = cubic((static_cast<double>(j) - center + 0.5) / stretch);
      t.weight.push_back(static_cast<float>(w));
      sum += w;
    }
    for (float& w : t.weight) w = static_cast<float>(w / sum);
  }
  return all;
}

uint8_t round_u8(float v) {
  return static_cast<uint8_t>(std::clamp(v + 0.5f, 0.0f, 255.0f));
}

// Resizes the middle axis of (rows, in, columns), columns being the innermost.
std::vector<uint8_t> resize_axis(const std::vector<uint8_t>& x, int64_t rows, int64_t in,
                                 int64_t columns, int64_t out) {
  const std::vector<Taps> all = taps(in, out);
  std::vector<uint8_t> y(static_cast<size_t>(rows * out * columns));
  std::vector<float> sum(static_cast<size_t>(columns));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < out; ++i) {
      const Taps& t = all[static_cast<size_t>(i)];
      std::fill(sum.begin(), sum.end(), 0.0f);
      for (size_t k = 0; k < t.weight.size(); ++k) {
        const uint8_t* from = x.data() + (r * in + t.first + static_cast<int64_t>(k)) * columns;
        for (int64_t c = 0; c < columns; ++c) sum[static_cast<size_t>(c)] += t.weight[k] * from[c];
      }
      uint8_t* to = y.data() + (r * out + i) * columns;
      for (int64_t c = 0; c < columns; ++c) to[c] = round_u8(sum[static_cast<size_t>(c)]);
    }
  }
  return y;
}

}  // namespace

void check_image_size(uint64_t width, uint64_t height, const std::string& where) {
  if (width == 0 || height == 0) {
    throw InputError(concat(where, ": image size is ", width, "x", height));
  }
  // Both are at most 2^32 - 1, so the product fits.
  const uint64_t pixels = width * height;
  if (pixels > max_image_pixels) {
    char text[64];
    std::snprintf(text, sizeof text, "%.1f Mpixel exceeds 64", static_cast<double>(pixels) / 1e6);
    throw InputError(where + ": " + text);
  }
  if (std::max(width, height) > max_image_side) {
    throw InputError(
        concat(where, ": image side ", std::max(width, height), " exceeds ", max_image_side));
  }
}

Image decode_image(std::string_view bytes, const std::string& name, int channels) {
  require(channels == 0 || channels == 1 || channels == 3, "[decode_image] channels ", channels);
  if (bytes.empty()) throw InputError(name + ": empty file");
  Image image;
  if (starts(bytes, "\x89PNG")) {
    image = decode_png(bytes, name);
  } else if (starts(bytes, "\xFF\xD8")) {
    image = decode_jpeg(bytes, name);
  } else {
    throw InputError(
        concat(name, ": file is ", kind_of_file(bytes), "; only JPEG and PNG are read"));
  }
  return channels == 0 ? image : with_channels(image, channels);
}

Image read_image(const std::filesystem::path& path, int channels) {
  return decode_image(read_file(path, max_image_file_bytes), path.string(), channels);
}

Image with_channels(const Image& image, int channels) {
  require(channels == 1 || channels == 3, "[with_channels] channels ", channels);
  if (image.channels == channels) return image;
  const size_t n = static_cast<size_t>(image.height * image.width);
  Image out{image.height, image.width, channels, {}};
  out.pixels.resize(n * static_cast<size_t>(channels));
  for (size_t i = 0; i < n; ++i) {
    if (channels == 3) {
      std::fill_n(out.pixels.begin() + static_cast<std::ptrdiff_t>(3 * i), 3, image.pixels[i]);
    } else {
      const uint8_t* p = image.pixels.data() + 3 * i;
      out.pixels[i] =
          static_cast<uint8_t>((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
    }
  }
  return out;
}

Image resize_image(const Image& image, int64_t height, int64_t width) {
  require(height > 0 && width > 0, "[resize_image] to ", width, "x", height);
  Image out = image;
  if (width != image.width) {
    out.pixels = resize_axis(out.pixels, image.height, image.width, image.channels, width);
    out.width = width;
  }
  if (height != image.height) {
    out.pixels = resize_axis(out.pixels, 1, image.height, width * image.channels, height);
    out.height = height;
  }
  return out;
}

Image resize_and_crop(const Image& image, int64_t size) {
  const int64_t shorter = std::min(image.height, image.width);
  const auto scaled = [&](int64_t side) { return side == shorter ? size : side * size / shorter; };
  const Image whole = resize_image(image, scaled(image.height), scaled(image.width));
  const int64_t top = (whole.height - size) / 2, left = (whole.width - size) / 2;
  Image out{size, size, image.channels, {}};
  out.pixels.reserve(static_cast<size_t>(size * size * image.channels));
  for (int64_t y = 0; y < size; ++y) {
    const auto row = whole.pixels.begin() + ((top + y) * whole.width + left) * whole.channels;
    out.pixels.insert(out.pixels.end(), row, row + size * whole.channels);
  }
  return out;
}

}  // namespace realfake
