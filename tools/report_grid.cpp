#include "tools/report_grid.h"

#include <algorithm>

#include "data/captions.h"
#include "data/dataset.h"
#include "data/manifest.h"
#include "kernels/base/error.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

constexpr int64_t largest_side = 64, max_classes = 100;

// By label, the first pictures of each class.
struct Samples {
  std::vector<std::string> classes;
  std::vector<std::vector<Image>> images;
};

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string()[0] != '.') paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

Samples from_manifest(const fs::path& folder, size_t per_class) {
  Samples samples;
  samples.classes = classes_of_folder(folder);
  if (samples.classes.empty()) throw InputError((folder / "classes.txt").string() + ": not found");
  samples.images.resize(samples.classes.size());
  for (const ManifestLine& line : read_manifests(folder, samples.classes)) {
    const auto label = static_cast<size_t>(line.label);
    if (line.label < max_classes && samples.images.at(label).size() < per_class) {
      samples.images[label].push_back(read_image(folder / line.file));
    }
  }
  return samples;
}

Samples from_idx(const fs::path& folder, const std::string& split, size_t per_class) {
  LoadOptions options;
  options.split = split;
  const ImageSet set = load_dataset(folder, options);
  Samples samples;
  samples.classes = set.classes;
  for (int64_t i = 0; i < set.size(); ++i) {
    const auto label = static_cast<size_t>(set.labels[static_cast<size_t>(i)]);
    if (label >= max_classes) continue;
    samples.images.resize(std::max(samples.images.size(), label + 1));
    if (samples.images[label].size() >= per_class) continue;
    const auto from = set.pixels.begin() + i * set.pixels_per_image();
    samples.images[label].push_back(
        {set.height, set.width, set.channels, {from, from + set.pixels_per_image()}});
  }
  return samples;
}

Samples from_tree(const fs::path& folder, size_t per_class) {
  Samples samples;
  samples.classes = classes_of_folder(folder);
  if (samples.classes.empty()) {
    for (const fs::path& entry : sorted_entries(folder)) {
      if (fs::is_directory(entry)) samples.classes.push_back(entry.filename().string());
    }
  }
  if (samples.classes.empty()) throw InputError(folder.string() + ": found no class folders");
  for (size_t label = 0; label < std::min<size_t>(samples.classes.size(), max_classes); ++label) {
    auto& images = samples.images.emplace_back();
    const fs::path part = folder / samples.classes[label];
    if (!fs::is_directory(part)) continue;
    for (const fs::path& file : sorted_entries(part)) {
      if (images.size() >= per_class) break;
      const std::string kind = file.extension().string();
      if (kind == ".png" || kind == ".jpg" || kind == ".jpeg" || kind == ".PNG" || kind == ".JPG") {
        images.push_back(read_image(file));
      }
    }
  }
  return samples;
}

Samples read_samples(const fs::path& folder, const GridSource& source) {
  const auto per_class = static_cast<size_t>(source.per_class);
  if (!fs::is_directory(folder)) throw InputError("not a folder");
  if (has_manifest(folder)) return from_manifest(folder, per_class);
  if (fs::exists(folder / (source.split + "-images-idx3-ubyte"))) {
    return from_idx(folder, source.split, per_class);
  }
  const fs::path part = folder / source.split;
  return from_tree(!source.split.empty() && fs::is_directory(part) ? part : folder, per_class);
}

GridCell cell_of(const std::vector<Image>& images, int64_t side, int64_t gap, int64_t channels,
                 int64_t per_class) {
  constexpr uint8_t gap_grey = 128;
  GridCell cell;
  cell.shown = static_cast<int64_t>(images.size());
  // Small pictures stand in one row; larger ones would be shown too small.
  cell.columns = side < 32 || per_class <= 4 ? per_class : (per_class + 1) / 2;
  if (images.empty()) return cell;
  const int64_t across = std::min(cell.columns, cell.shown), pitch = side + gap;
  const int64_t rows = (cell.shown + across - 1) / across;
  Image& strip = cell.strip;
  strip.height = rows * pitch - gap;
  strip.width = across * pitch - gap;
  strip.channels = channels;
  strip.pixels.assign(static_cast<size_t>(strip.height * strip.width * channels), gap_grey);
  for (int64_t i = 0; i < cell.shown; ++i) {
    const Image& image = images[static_cast<size_t>(i)];
    const int64_t y0 = i / across * pitch, x0 = i % across * pitch;
    for (int64_t y = 0; y < side; ++y) {
      const auto from = image.pixels.begin() + y * side * channels;
      std::copy(from, from + side * channels,
                strip.pixels.begin() + ((y0 + y) * strip.width + x0) * channels);
    }
  }
  return cell;
}

}  // namespace

GridColumn read_grid(const fs::path& run_folder, const GridSource& source) {
  GridColumn column;
  column.title = source.title;
  try {
    Samples samples = read_samples(run_folder / source.folder, source);
    int64_t channels = 1;
    for (const auto& images : samples.images) {
      for (const Image& image : images) {
        channels = std::max(channels, image.channels);
        const int64_t shorter = std::min({image.height, image.width, largest_side});
        column.side = column.side == 0 ? shorter : std::min(column.side, shorter);
      }
    }
    if (column.side == 0) throw InputError("found no pictures");
    column.gap = std::max<int64_t>(1, column.side / 12);
    for (auto& images : samples.images) {
      for (Image& image : images) {
        if (image.height != column.side || image.width != column.side) {
          image = resize_and_crop(image, column.side);
        }
        image = with_channels(image, static_cast<int>(channels));
      }
      column.cells.push_back(cell_of(images, column.side, column.gap, channels, source.per_class));
    }
    column.classes = samples.classes;
    for (size_t i = column.classes.size(); i < column.cells.size(); ++i) {
      column.classes.push_back(std::to_string(i));
    }
  } catch (const Error& error) {
    column.problem = concat(source.folder.string(), ": ", error.what());
  } catch (const fs::filesystem_error& error) {
    column.problem = concat(source.folder.string(), ": ", error.code().message());
  }
  return column;
}

}  // namespace realfake
