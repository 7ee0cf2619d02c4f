#pragma once
// Images in memory and their files. Only PNG and JPEG are read; both are checked by our own
// structure walk before a pixel is decoded, because the decoders of the field trust their input
// (wrong checksums, cut files, bad tables).
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace realfake {

struct Image {
  int64_t height = 0, width = 0, channels = 0;  // channels 1 (grey) or 3 (RGB)
  std::vector<uint8_t> pixels;                  // (H,W,C)
};

// Limits of every image read (boundaries included).
constexpr uint64_t max_image_file_bytes = uint64_t{256} << 20;
constexpr uint64_t max_image_pixels = 64'000'000;
constexpr uint64_t max_image_side = 16384;

// Decodes a whole file held in memory. `name` starts the message of an InputError. channels: 1, 3
// or 0 (as stored). Colour becomes grey by the ITU-R 601 luma; alpha is dropped, as torchvision
// does; EXIF rotation is not applied.
Image decode_image(std::string_view bytes, const std::string& name, int channels = 0);
Image read_image(const std::filesystem::path& path, int channels = 0);

// The same picture with 1 or 3 channels.
Image with_channels(const Image& image, int channels);

// Antialiased bicubic (a = -0.5, support widened when shrinking), as Pillow resizes.
Image resize_image(const Image& image, int64_t height, int64_t width);
// Shorter side to `size`, then the middle square.
Image resize_and_crop(const Image& image, int64_t size);

// Throws InputError when a picture of this size must not be decoded; called before anything is
// allocated.
void check_image_size(uint64_t width, uint64_t height, const std::string& where);

}  // namespace realfake
