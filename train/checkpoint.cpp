#include "train/checkpoint.h"

#include <vector>

#include "kernels/base/error.h"

namespace realfake {

namespace fs = std::filesystem;

Checkpoint::Checkpoint(fs::path folder, std::string settings)
    : newest_(folder / "checkpoint.safetensors"),
      previous_(folder / "checkpoint.previous.safetensors"),
      settings_(std::move(settings)) {}

void Checkpoint::save(int64_t step, const std::function<void(SafetensorsWriter&)>& fill) const {
  SafetensorsWriter w;
  fill(w);
  w.add_i64("step", {1}, &step);
  w.set_metadata("settings", settings_);
  w.set_metadata("checkpoint_format", "1");
  if (fs::exists(newest_)) fs::rename(newest_, previous_);
  w.write(newest_);
}

std::optional<int64_t> Checkpoint::load(const std::function<void(const SafetensorsFile&)>& take,
                                        const std::function<void(const std::string&)>& warn) const {
  for (const fs::path& path : {newest_, previous_}) {
    if (!fs::exists(path)) continue;
    std::optional<SafetensorsFile> file;
    try {
      file.emplace(path);
    } catch (const InputError& e) {
      warn(std::string(e.what()) + "; trying the checkpoint before it");
      continue;
    }
    const auto& meta = file->metadata();
    const auto at = [&](const char* key) { return meta.contains(key) ? meta.at(key) : std::string(); };
    if (at("checkpoint_format") != "1")
      throw InputError(concat(path.string(), ": format '", at("checkpoint_format"), "', this program reads 1"));
    if (at("settings") != settings_)
      throw InputError(concat(path.string(), ": made with other settings; found ", at("settings"), ", expected ",
                              settings_, " (start in another folder, or remove the checkpoint)"));
    take(*file);
    return file->read_i64("step").at(0);
  }
  return std::nullopt;
}

void Checkpoint::remove() const {
  fs::remove(newest_);
  fs::remove(previous_);
}

}  // namespace realfake
