// Single files, shard indexes and folders of weights, looked up by tensor name.
#include <algorithm>

#include "kernels/base/error.h"
#include "kernels/base/json.h"
#include "model/safetensors.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

std::string shown(const fs::path& path) {
  return printable(path.string());
}

bool inside(const fs::path& folder, const fs::path& file) {
  const auto ends = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  return ends.first == folder.end();
}

// A link may leave the folder in one known layout: the download cache of the hub keeps
// `<root>/snapshots/<revision>/...` as links into `<root>/blobs`.
bool in_hub_cache(const fs::path& folder, const fs::path& file) {
  for (fs::path at = folder; at.has_relative_path(); at = at.parent_path())
    if (at.filename() == "snapshots") return inside(at.parent_path() / "blobs", file);
  return false;
}

// The file of a folder that holds the weights, in the order in which diffusers and transformers
// look.
fs::path choose_in(const fs::path& folder) {
  for (const char* suffix :
       {".safetensors", ".safetensors.index.json", ".fp16.safetensors", ".non_ema.safetensors"})
    for (const char* stem : {"diffusion_pytorch_model", "model"})
      if (fs::exists(folder / (std::string(stem) + suffix)))
        return folder / (std::string(stem) + suffix);
  std::vector<fs::path> found;
  bool pickles = false;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto extension = entry.path().extension();
    if (extension == ".safetensors") found.push_back(entry.path());
    pickles |=
        extension == ".bin" || extension == ".ckpt" || extension == ".pth" || extension == ".pt";
  }
  if (found.size() == 1) return found.front();
  std::string what =
      concat("found ", found.size(), " .safetensors files, expected one or an index");
  if (found.empty() && pickles) what += "; for .bin, .ckpt and .pth run `realfake convert`";
  throw InputError(concat(shown(folder), ": ", what));
}

}  // namespace

WeightFiles::WeightFiles(const fs::path& path) : path_(path) {
  std::error_code ignored;  // a missing path is named by the reader below
  if (fs::is_directory(path, ignored)) path_ = choose_in(path);
  if (path_.extension() == ".json") {
    open_index(path_);
  } else {
    files_.push_back(std::make_unique<SafetensorsFile>(path_));
    for (const auto& name : files_.front()->names()) where_[name] = 0;
  }
  for (const auto& entry : where_) names_.push_back(entry.first);
}

void WeightFiles::open_index(const fs::path& index) {
  const std::string where = shown(index);
  const Json document = read_json(index, SafetensorsFile::header_limit);
  const JsonReader top(document, where);
  const Json& map = top.at("weight_map");
  if (!map.is_object() || map.empty())
    throw InputError(where + ": 'weight_map' is not an object of tensor names and files");
  const fs::path folder = index.has_parent_path() ? index.parent_path() : fs::path(".");
  std::map<std::string, size_t> opened;
  for (const auto& [name, shard] : map.items()) {
    if (!shard.is_string())
      throw InputError(concat(where, ": file of '", printable(name), "' is not a string"));
    const auto text = shard.get<std::string>();
    auto at = opened.find(text);
    if (at == opened.end()) {
      const fs::path relative(text);
      const bool leaves = relative.is_absolute() || relative.empty() ||
                          std::find(relative.begin(), relative.end(), "..") != relative.end() ||
                          text.find('\0') != std::string::npos;
      const auto refuse = [&] {
        throw InputError(
            concat(where, ": '", printable(text), "': shard path leaves the model folder"));
      };
      if (leaves) refuse();
      std::error_code error;
      const fs::path real = fs::canonical(folder / relative, error);
      if (error) throw InputError(concat(where, ": shard '", printable(text), "' not found"));
      const fs::path root = fs::canonical(folder);
      if (!inside(root, real) && !in_hub_cache(root, real)) refuse();
      files_.push_back(std::make_unique<SafetensorsFile>(folder / relative));
      at = opened.emplace(text, files_.size() - 1).first;
    }
    if (!files_[at->second]->has(name))
      throw InputError(
          concat(where, ": '", printable(name), "' listed in ", printable(text), ", not there"));
    where_[name] = at->second;
  }
  // A tensor that the index forgot still counts: the loader must use or report it.
  for (size_t i = 0; i < files_.size(); ++i)
    for (const auto& name : files_[i]->names()) where_.emplace(name, i);
}

const SafetensorsFile& WeightFiles::file_of(const std::string& name) const {
  const auto at = where_.find(name);
  if (at == where_.end())
    throw InputError(concat(shown(path_), ": missing '", printable(name), "'"));
  return *files_[at->second];
}

std::vector<float> WeightFiles::read_f32(const std::string& name,
                                         const std::vector<int64_t>& expected) {
  const auto& shape = info(name).shape;
  if (shape != expected) {
    const bool inpainting = name.ends_with("conv_in.weight") && shape.size() == 4 &&
                            expected.size() == 4 && shape[1] == 9 && expected[1] == 4;
    throw InputError(concat(shown(file_of(name).path()), ": '", printable(name), "' is ",
                            shape_text(shape), ", model expects ", shape_text(expected),
                            inpainting ? " (inpainting model?)" : ""));
  }
  return read_f32(name);
}

void WeightFiles::allow_nonfinite(bool allow) {
  for (auto& file : files_) file->allow_nonfinite(allow);
}

void WeightFiles::require_all(const std::vector<std::string>& names) const {
  std::string first;
  size_t missing = 0;
  for (const auto& name : names) {
    if (has(name)) continue;
    if (missing++ == 0) first = name;
  }
  if (missing == 0) return;
  throw InputError(concat(shown(path_), ": missing '", printable(first), "'",
                          missing > 1 ? concat(" and ", missing - 1, " more") : ""));
}

std::vector<std::string> WeightFiles::unread() const {
  std::vector<std::string> left;
  std::set_difference(names_.begin(), names_.end(), read_.begin(), read_.end(),
                      std::back_inserter(left));
  return left;
}

}  // namespace realfake
