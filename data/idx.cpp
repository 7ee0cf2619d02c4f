// MNIST's IDX files: 00 00 TYPE RANK, then RANK big-endian u32 sizes, then the data.
#include <algorithm>

#include "data/captions.h"
#include "data/dataset.h"
#include "kernels/base/error.h"
#include "kernels/base/file.h"

namespace realfake {
namespace {

constexpr uint64_t max_idx_bytes = uint64_t{4} << 30;
constexpr uint32_t images_magic = 0x00000803, labels_magic = 0x00000801;

std::string hex32(uint32_t v) {
  std::string text = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[v >> shift & 15];
  return text;
}

uint32_t big_endian(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}

struct IdxFile {
  std::vector<uint32_t> sizes;
  std::vector<uint8_t> data;
};

// Sizes are proven against the file before anything is allocated.
IdxFile read_idx(const std::filesystem::path& path, uint32_t magic) {
  const InputFile file(path);
  const std::string name = path.string();
  if (file.size() == 0) throw InputError(name + ": empty file");
  if (file.size() < 4)
    throw InputError(concat(name, ": ", file.size(), " bytes; a magic number needs 4"));
  uint8_t head[4];
  file.read(head, 4, 0);
  const uint32_t found = big_endian(head);
  if (found >> 16 == 0x1f8b) {
    throw InputError(concat(name, ": magic ", hex32(found), ": this is gzip, unpack it first"));
  }
  if (found >> 8 == magic >> 8 && found != magic) {
    throw InputError(concat(name, ": rank ", found & 255, ", expected ", magic & 255));
  }
  if (found != magic) {
    throw InputError(concat(name, ": magic ", hex32(found), ", expected ", hex32(magic)));
  }
  const uint64_t rank = magic & 255, header = 4 + 4 * rank;
  if (file.size() < header) {
    throw InputError(concat(name, ": ", file.size(), " bytes; the header needs ", header));
  }
  IdxFile idx;
  uint64_t bytes = 1;
  for (uint64_t i = 0; i < rank; ++i) {
    uint8_t size[4];
    file.read(size, 4, 4 + 4 * i);
    idx.sizes.push_back(big_endian(size));
    if (__builtin_mul_overflow(bytes, uint64_t{idx.sizes.back()}, &bytes)) {
      throw InputError(name + ": product of the dimensions overflows");
    }
  }
  if (idx.sizes[0] == 0) throw InputError(name + ": holds no samples");
  if (bytes != file.size() - header) {
    throw InputError(concat(name, ": data has ", file.size() - header, " bytes, expected ", bytes,
                            bytes > file.size() - header ? " (incomplete download?)" : ""));
  }
  if (bytes > max_idx_bytes) {
    throw InputError(concat(name, ": ", bytes, " bytes exceed the limit ", max_idx_bytes));
  }
  idx.data.resize(bytes);
  file.read(idx.data.data(), bytes, header);
  return idx;
}

void put_header(std::string& out, uint32_t magic, const std::vector<int64_t>& sizes) {
  const auto put = [&](uint64_t v) {
    require(v <= UINT32_MAX, "[write_idx] size ", v);
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(v >> shift & 255);
  };
  put(magic);
  for (const int64_t size : sizes) put(static_cast<uint64_t>(size));
}

}  // namespace

ImageSet load_idx(const std::filesystem::path& images, const std::filesystem::path& labels,
                  int channels) {
  require(channels == 1 || channels == 3, "[load_idx] channels ", channels);
  IdxFile pictures = read_idx(images, images_magic);
  const IdxFile numbers = read_idx(labels, labels_magic);
  if (pictures.sizes[0] != numbers.sizes[0]) {
    throw InputError(concat(labels.string(), ": ", pictures.sizes[0], " images but ",
                            numbers.sizes[0], " labels"));
  }
  check_image_size(pictures.sizes[2], pictures.sizes[1], images.string());
  ImageSet set;
  set.height = pictures.sizes[1];
  set.width = pictures.sizes[2];
  set.channels = channels;
  set.labels.assign(numbers.data.begin(), numbers.data.end());
  if (channels == 1) {
    set.pixels = std::move(pictures.data);
  } else {
    set.pixels.reserve(pictures.data.size() * 3);
    for (const uint8_t v : pictures.data) set.pixels.insert(set.pixels.end(), 3, v);
  }
  const int64_t most = *std::max_element(set.labels.begin(), set.labels.end());
  for (int64_t i = 0; i <= most; ++i) set.classes.push_back(std::to_string(i));
  return set;
}

void write_idx(const std::filesystem::path& folder, const std::string& split, const ImageSet& set) {
  require(set.channels == 1, "[write_idx] ", set.channels, " channels, expected 1");
  std::string images, labels;
  put_header(images, images_magic, {set.size(), set.height, set.width});
  images.append(reinterpret_cast<const char*>(set.pixels.data()), set.pixels.size());
  put_header(labels, labels_magic, {set.size()});
  for (const int64_t label : set.labels) {
    require(label >= 0 && label < 256, "[write_idx] label ", label);
    labels += static_cast<char>(label);
  }
  write_classes(folder, set.classes);
  if (!set.captions.empty()) {
    std::string captions;
    for (const std::string& caption : set.captions) captions += caption + '\n';
    write_file_atomic(folder / (split + "-captions.txt"), captions);
  }
  write_file_atomic(folder / (split + "-labels-idx1-ubyte"), labels);
  write_file_atomic(folder / (split + "-images-idx3-ubyte"), images);
}

}  // namespace realfake
