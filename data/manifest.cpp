#include "data/manifest.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>

#include "data/captions.h"
#include "data/png.h"
#include "kernels/base/error.h"
#include "kernels/base/sha256.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t max_manifest_bytes = uint64_t{4} << 30;

std::vector<fs::path> manifests_of(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code none;
  for (const auto& item : fs::directory_iterator(folder, none)) {
    const std::string name = item.path().filename().string();
    if (name.rfind("manifest", 0) == 0 && item.path().extension() == ".jsonl") {
      files.push_back(item.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// The index a temporary file was meant for: ".000123.png.PID-N.tmp".
std::optional<int64_t> index_of_temporary(const std::string& name) {
  size_t at = name.find_first_not_of('.');
  if (at == std::string::npos) return std::nullopt;
  int64_t index = 0;
  const size_t first = at;
  for (; at < name.size() && name[at] >= '0' && name[at] <= '9' && at - first < 18; ++at) {
    index = index * 10 + (name[at] - '0');
  }
  if (at == first || name.compare(at, 4, ".png") != 0) return std::nullopt;
  return index;
}

}  // namespace

bool has_manifest(const fs::path& folder) {
  return !manifests_of(folder).empty();
}

std::vector<ManifestLine> read_manifests(const fs::path& folder,
                                         const std::vector<std::string>& classes) {
  std::map<int64_t, std::pair<ManifestLine, std::string>> lines;
  for (const fs::path& file : manifests_of(folder)) {
    size_t number = 0;
    for (const std::string& text : read_whole_lines(file, max_manifest_bytes)) {
      const std::string where = concat(file.string(), ":", ++number);
      if (text.size() > 2 * max_caption_line) {
        throw InputError(concat(where, ": line longer than ", 2 * max_caption_line, " bytes"));
      }
      const Json value = parse_json(text, where);
      const JsonReader reader(value, where);
      ManifestLine line;
      line.index = reader.integer("index", 0, INT64_MAX);
      line.label = reader.integer("label", 0, static_cast<int64_t>(classes.size()) - 1);
      line.file = reader.text("file");
      line.prompt = reader.text_or("prompt", "");
      line.sha256 = reader.text_or("sha256", "");
      const std::string name = reader.text("class");
      const std::string& expected = classes[static_cast<size_t>(line.label)];
      if (name != expected) {
        throw InputError(concat(where, ": class of label ", line.label, ": found '",
                                printable(name), "', expected '", printable(expected), "'"));
      }
      const fs::path path = fs::path(line.file).lexically_normal();
      if (line.file.empty() || path.is_absolute() || *path.begin() == "..") {
        throw InputError(concat(where, ": '", printable(line.file), "' leaves the folder"));
      }
      const int64_t index = line.index;
      const auto [at, is_new] = lines.emplace(index, std::make_pair(std::move(line), where));
      if (!is_new) {
        throw InputError(
            concat(where, ": index ", index, " listed twice (first ", at->second.second, ")"));
      }
    }
  }
  std::vector<ManifestLine> all;
  for (auto& [index, line] : lines) all.push_back(std::move(line.first));
  return all;
}

DatasetWriter::DatasetWriter(fs::path folder, std::vector<std::string> classes,
                             const std::string& manifest, const std::function<bool(int64_t)>& owned)
    : folder_(std::move(folder)), classes_(std::move(classes)) {
  require(!classes_.empty(), "[DatasetWriter] no classes");
  require(manifest.rfind("manifest", 0) == 0 && fs::path(manifest).extension() == ".jsonl",
          "[DatasetWriter] manifest name ", manifest);
  try {
    fs::create_directories(folder_ / "images");
  } catch (const fs::filesystem_error& error) {
    throw IoError(concat(folder_.string(), ": cannot create: ", error.code().message()));
  }
  const std::vector<std::string> there = classes_of_folder(folder_);
  if (there.empty()) {
    write_classes(folder_, classes_);
  } else {
    require_same_classes(classes_, "this run", there, (folder_ / "classes.txt").string());
  }
  remove_leftovers(owned);

  // A torn last line would run into the next one: cut it off first.
  const fs::path file = folder_ / manifest;
  if (fs::exists(file)) {
    std::string whole;
    for (const std::string& line : read_whole_lines(file, max_manifest_bytes)) whole += line + '\n';
    if (whole.size() != fs::file_size(file)) write_file_atomic(file, whole);
  }
  // A line whose picture is gone: the line goes too, and the picture is made again. It may stand in
  // a manifest of shards when this run makes the whole set.
  std::set<int64_t> gone;
  for (const ManifestLine& line : read_manifests(folder_, classes_)) {
    std::error_code none;
    const bool present = fs::is_regular_file(folder_ / line.file, none);
    if (present) complete_.insert(line.index);
    if (!present && (!owned || owned(line.index))) gone.insert(line.index);
  }
  for (const fs::path& listed : gone.empty() ? std::vector<fs::path>{} : manifests_of(folder_)) {
    std::string kept;
    bool changed = false;
    for (const std::string& line : read_whole_lines(listed, max_manifest_bytes)) {
      const Json value = parse_json(line, listed.string());
      const bool keep = gone.count(value.at("index").get<int64_t>()) == 0;
      if (keep) kept += line + '\n';
      changed = changed || !keep;
    }
    if (changed) write_file_atomic(listed, kept);
  }
  manifest_ = std::make_unique<LineAppender>(file);
}

void DatasetWriter::remove_leftovers(const std::function<bool(int64_t)>& owned) const {
  std::vector<fs::path> leftovers;
  for (const auto& item : fs::directory_iterator(folder_ / "images")) {
    if (item.path().extension() != ".tmp" || item.is_directory()) continue;
    const auto index = index_of_temporary(item.path().filename().string());
    if (index && (!owned || owned(*index))) leftovers.push_back(item.path());
  }
  for (const fs::path& path : leftovers) fs::remove(path);
}

bool DatasetWriter::has(int64_t index) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return complete_.count(index) > 0;
}

int64_t DatasetWriter::count() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int64_t>(complete_.size());
}

std::string DatasetWriter::file_name(int64_t index) {
  char name[48];
  std::snprintf(name, sizeof name, "images/%06lld.png", static_cast<long long>(index));
  return name;
}

void DatasetWriter::write(int64_t index, const Image& image, int64_t label,
                          const std::string& prompt, uint64_t seed, const Json& more) {
  require(index >= 0 && label >= 0 && label < static_cast<int64_t>(classes_.size()),
          "[DatasetWriter] index ", index, ", label ", label);
  if (has(index)) return;  // the same bytes by construction
  const std::string png = encode_png(image), file = file_name(index);
  write_file_atomic(folder_ / file, png);
  Json line;
  line["index"] = index;
  line["file"] = file;
  line["label"] = label;
  line["class"] = classes_[static_cast<size_t>(label)];
  line["prompt"] = prompt;
  line["seed"] = seed;
  line["sha256"] = sha256_hex(png);
  for (const auto& [key, value] : more.items()) line[key] = value;
  const std::string text = line.dump(-1, ' ', false, Json::error_handler_t::replace);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (complete_.insert(index).second) manifest_->append(text);
}

void DatasetWriter::sync() {
  const std::lock_guard<std::mutex> lock(mutex_);
  manifest_->sync();
}

}  // namespace realfake
