#include "data/dataset.h"

#include <algorithm>
#include <map>
#include <optional>

#include "data/captions.h"
#include "data/manifest.h"
#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "kernels/base/sha256.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

// A picture that is to be read.
struct Entry {
  fs::path path;
  std::string name;  // relative to the root
  int64_t label = 0;
  std::string caption, sha256;
};

bool has_image_extension(const fs::path& path) {
  std::string e = path.extension().string();
  std::transform(e.begin(), e.end(), e.begin(), [](unsigned char c) { return std::tolower(c); });
  // torchvision's list: kinds that are not read must be reported, not passed over.
  static const std::vector<std::string> known = {".jpg", ".jpeg", ".png",  ".ppm", ".bmp",
                                                 ".pgm", ".tif",  ".tiff", ".webp"};
  return std::find(known.begin(), known.end(), e) != known.end();
}

// Throws one error for all bad pictures, or drops them where that is allowed.
void handle_bad(const std::vector<std::string>& errors, const std::string& root,
                const LoadOptions& options) {
  constexpr size_t shown = 20;
  size_t bad = 0;
  std::string list;
  for (const std::string& error : errors) {
    if (error.empty()) continue;
    if (bad++ < shown) list += (list.empty() ? "" : "\n") + error;
  }
  if (bad == 0) return;
  if (bad > shown) list += concat("\n(and ", bad - shown, " more bad pictures)");
  const double limit = options.skip_limit * static_cast<double>(errors.size());
  if (!options.skip_bad) throw InputError(list);
  if (static_cast<double>(bad) > limit || bad == errors.size()) {
    throw InputError(concat(root, ": ", bad, " of ", errors.size(),
                            " pictures are bad, more than may be skipped\n", list));
  }
  if (options.warn) options.warn(concat(root, ": skipped ", bad, " bad pictures\n", list));
}

ImageSet read_entries(const std::vector<Entry>& entries, std::vector<std::string> classes,
                      const fs::path& root, const LoadOptions& options) {
  std::vector<Image> images(entries.size());
  std::vector<std::string> errors(entries.size());
  bool no_memory = false;
#pragma omp parallel for schedule(dynamic, 16)
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string name = entries[i].path.string();
    try {
      const std::string bytes = read_file(entries[i].path, max_image_file_bytes);
      if (!entries[i].sha256.empty() && options.verify) {
        const std::string found = sha256_hex(bytes);
        if (found != entries[i].sha256) {
          throw InputError(concat(name, ": found sha256 ", found, ", expected ",
                                  printable(entries[i].sha256), " (manifest)"));
        }
      }
      images[i] = decode_image(bytes, name, options.channels);
      if (options.size > 0) images[i] = resize_and_crop(images[i], options.size);
    } catch (const Error& error) {
      errors[i] = error.what();
    } catch (const std::bad_alloc&) {
#pragma omp atomic write
      no_memory = true;
    }
  }
  if (no_memory) throw MemoryError(root.string() + ": not enough memory to hold the pictures");
  handle_bad(errors, root.string(), options);

  ImageSet set;
  set.classes = std::move(classes);
  int channels = options.channels;
  bool captions = false;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!errors[i].empty()) continue;
    if (options.channels == 0) channels = std::max(channels, static_cast<int>(images[i].channels));
    captions |= !entries[i].caption.empty();
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!errors[i].empty()) continue;
    const Image image = with_channels(images[i], channels);
    images[i] = {};
    if (set.labels.empty()) {
      set.height = image.height;
      set.width = image.width;
      set.channels = channels;
    } else if (image.height != set.height || image.width != set.width) {
      throw InputError(concat(entries[i].path.string(), ": found ", image.width, "x", image.height,
                              " pixels, expected ", set.width, "x", set.height,
                              " as in the first picture (a size to scale to may be given)"));
    }
    set.pixels.insert(set.pixels.end(), image.pixels.begin(), image.pixels.end());
    set.labels.push_back(entries[i].label);
    set.names.push_back(entries[i].name);
    if (captions) set.captions.push_back(entries[i].caption);
  }
  return set;
}

ImageSet load_generated(const fs::path& root, const LoadOptions& options) {
  std::vector<std::string> classes = classes_of_folder(root);
  if (classes.empty()) throw InputError((root / "classes.txt").string() + ": not found");
  std::vector<Entry> entries;
  for (const ManifestLine& line : read_manifests(root, classes)) {
    entries.push_back({root / line.file, line.file, line.label, line.prompt, line.sha256});
  }
  if (entries.empty()) throw InputError((root / "manifest.jsonl").string() + ": lists no pictures");
  return read_entries(entries, std::move(classes), root, options);
}

ImageSet load_idx_folder(const fs::path& root, const LoadOptions& options) {
  const fs::path images = root / (options.split + "-images-idx3-ubyte");
  const fs::path labels = root / (options.split + "-labels-idx1-ubyte");
  ImageSet set = load_idx(images, labels, options.channels == 3 ? 3 : 1);
  if (std::vector<std::string> classes = classes_of_folder(root); !classes.empty()) {
    const int64_t n = static_cast<int64_t>(classes.size());
    for (size_t i = 0; i < set.labels.size(); ++i) {
      if (set.labels[i] >= n) {
        throw InputError(concat(labels.string(), ": record ", i, ": label ", set.labels[i],
                                ", expected 0..", n - 1));
      }
    }
    set.classes = std::move(classes);
  }
  const fs::path captions = root / (options.split + "-captions.txt");
  if (fs::exists(captions)) {
    set.captions = read_whole_lines(captions, uint64_t{1} << 30);
    if (set.captions.size() != set.labels.size()) {
      throw InputError(concat(captions.string(), ": found ", set.captions.size(),
                              " lines, expected ", set.labels.size()));
    }
  }
  if (options.size > 0 && (set.height != options.size || set.width != options.size)) {
    std::vector<uint8_t> pixels;
    const auto per_image = static_cast<std::ptrdiff_t>(set.pixels_per_image());
    for (int64_t i = 0; i < set.size(); ++i) {
      const auto from = set.pixels.begin() + i * per_image;
      const Image image = resize_and_crop(
          {set.height, set.width, set.channels, {from, from + per_image}}, options.size);
      pixels.insert(pixels.end(), image.pixels.begin(), image.pixels.end());
    }
    set.pixels = std::move(pixels);
    set.height = set.width = options.size;
  }
  return set;
}

std::vector<std::string> sub_folders(const fs::path& root) {
  std::vector<std::string> names;
  for (const auto& item : fs::directory_iterator(root)) {
    const std::string name = item.path().filename().string();
    if (item.is_directory() && name[0] != '.') names.push_back(name);
  }
  std::sort(names.begin(), names.end());  // plain string order, as torchvision
  return names;
}

ImageSet load_tree(const fs::path& root, const LoadOptions& options) {
  const std::vector<std::string> folders = sub_folders(root);
  if (folders.empty()) {
    throw InputError(concat(root.string(), ": found no manifest.jsonl, no ", options.split,
                            "-images-idx3-ubyte and no class folders, expected one of them"));
  }
  std::vector<std::string> classes = classes_of_folder(root);
  if (classes.empty()) classes = folders;
  std::map<std::string, std::string> captions;
  for (const char* name : {"metadata.jsonl", "captions.jsonl"}) {
    if (fs::exists(root / name)) captions.merge(read_captions(root / name, options.warn));
  }
  std::vector<Entry> entries;
  size_t uncaptioned = 0;
  for (const std::string& folder : folders) {
    const auto at = std::find(classes.begin(), classes.end(), folder);
    if (at == classes.end()) {
      throw InputError(concat((root / folder).string(), ": folder '", printable(folder),
                              "' is not a class of classes.txt"));
    }
    std::vector<fs::path> files;
    for (const auto& item : fs::recursive_directory_iterator(root / folder)) {
      if (!item.is_directory() && has_image_extension(item.path())) files.push_back(item.path());
    }
    if (files.empty()) throw InputError((root / folder).string() + ": class has no pictures");
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      Entry entry{file, file.lexically_relative(root).string(), at - classes.begin(), {}, {}};
      const auto caption = captions.find(entry.name);
      if (caption != captions.end()) {
        entry.caption = caption->second;
      } else if (!captions.empty()) {
        ++uncaptioned;
      }
      entries.push_back(std::move(entry));
    }
  }
  if (uncaptioned > 0 && options.warn) {
    options.warn(concat(root.string(), ": ", uncaptioned, " pictures have no caption"));
  }
  return read_entries(entries, std::move(classes), root, options);
}

}  // namespace

ImageSet ImageSet::subset(const std::vector<int64_t>& indices) const {
  ImageSet out;
  out.height = height;
  out.width = width;
  out.channels = channels;
  out.classes = classes;
  const auto step = static_cast<std::ptrdiff_t>(pixels_per_image());
  out.pixels.reserve(indices.size() * static_cast<size_t>(step));
  for (const int64_t i : indices) {
    require(i >= 0 && i < size(), "[subset] index ", i, " of ", size());
    const auto from = pixels.begin() + i * step;
    out.pixels.insert(out.pixels.end(), from, from + step);
    out.labels.push_back(labels[static_cast<size_t>(i)]);
    if (!captions.empty()) out.captions.push_back(captions[static_cast<size_t>(i)]);
    if (!names.empty()) out.names.push_back(names[static_cast<size_t>(i)]);
  }
  return out;
}

void ImageSet::append(const ImageSet& other, const std::string& this_name,
                      const std::string& other_name) {
  require_same_classes(classes, this_name, other.classes, other_name);
  if (other.height != height || other.width != width || other.channels != channels) {
    throw InputError(concat(other_name, ": pictures: found ", other.width, "x", other.height, "x",
                            other.channels, ", expected ", width, "x", height, "x", channels,
                            " as in ", this_name));
  }
  const auto join = [&](std::vector<std::string>& mine, const std::vector<std::string>& theirs) {
    if (mine.empty() && theirs.empty()) return;
    mine.resize(labels.size());
    mine.insert(mine.end(), theirs.begin(), theirs.end());
    mine.resize(labels.size() + other.labels.size());
  };
  join(captions, other.captions);
  join(names, other.names);
  pixels.insert(pixels.end(), other.pixels.begin(), other.pixels.end());
  labels.insert(labels.end(), other.labels.begin(), other.labels.end());
}

ImageSet load_dataset(const fs::path& folder, const LoadOptions& options) {
  require(options.channels == 0 || options.channels == 1 || options.channels == 3,
          "[load_dataset] channels ", options.channels);
  std::error_code none;
  if (!fs::is_directory(folder, none)) {
    throw InputError(folder.string() + ": not a folder");
  }
  if (has_manifest(folder)) return load_generated(folder, options);
  if (fs::exists(folder / (options.split + "-images-idx3-ubyte"))) {
    return load_idx_folder(folder, options);
  }
  const fs::path part = folder / options.split;
  if (!options.split.empty() && fs::is_directory(part, none) && !sub_folders(part).empty()) {
    return load_tree(part, options);
  }
  return load_tree(folder, options);
}

ImageSet load_datasets(const std::vector<fs::path>& folders, const LoadOptions& options) {
  require(!folders.empty(), "[load_datasets] no folders");
  ImageSet all = load_dataset(folders[0], options);
  for (size_t i = 1; i < folders.size(); ++i) {
    ImageSet more = load_dataset(folders[i], options);
    if (options.channels == 0 && more.channels != all.channels) {  // one of them is grey
      for (ImageSet* set : {&all, &more}) {
        if (set->channels == 1) {
          *set = load_dataset(set == &all ? folders[0] : folders[i], [&] {
            LoadOptions rgb = options;
            rgb.channels = 3;
            return rgb;
          }());
        }
      }
    }
    all.append(more, folders[0].string(), folders[i].string());
  }
  return all;
}

}  // namespace realfake
