#include "train/checkpoint.h"

#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/json.h"
#include "train/seal.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFormat = 2;

bool is_whole(const fs::path& path) {
  if (!fs::exists(path)) return false;
  try {
    check_seal(SafetensorsFile(path));
    return true;
  } catch (const Error&) {
    return false;
  }
}

// "rank 8, now 16; seed 1, now 2" of two JSON objects.
std::string differences(const std::string& found, const std::string& now,
                        const std::string& where) {
  const Json a = parse_json(found, where), b = parse_json(now, "settings");
  std::string out;
  const auto text = [](const Json& object, const std::string& key) {
    return object.contains(key) ? object.at(key).dump() : std::string("nothing");
  };
  const auto compare = [&](const std::string& key) {
    if (text(a, key) == text(b, key)) return;
    out += concat(out.empty() ? "" : "; ", printable(key), " ", printable(text(a, key)), ", now ",
                  text(b, key));
  };
  for (const auto& [key, value] : a.items()) compare(key);
  for (const auto& [key, value] : b.items())
    if (!a.contains(key)) compare(key);
  return out.empty() ? "the same values in another order" : out;
}

}  // namespace

Checkpoint::Checkpoint(fs::path folder, std::string settings)
    : newest_(folder / "checkpoint.safetensors"),
      previous_(folder / "checkpoint.previous.safetensors"),
      next_(folder / "checkpoint.next.safetensors"),
      settings_(std::move(settings)) {}

void Checkpoint::save(int64_t step, const std::function<void(SafetensorsWriter&)>& fill) const {
  SafetensorsWriter w;
  fill(w);
  w.add_i64("step", {1}, &step);
  w.set_metadata("settings", settings_);
  w.set_metadata("checkpoint_format", std::to_string(kFormat));
  seal(w);
  w.write(next_);
  try {
    check_seal(SafetensorsFile(next_));
  } catch (const InputError& e) {  // what was just written: the disk's fault, not the user's
    throw IoError(concat(e.what(), " (just written)"));
  }
  // A damaged newest one must not push out the whole one before it.
  if (is_whole(newest_)) fs::rename(newest_, previous_);
  fs::rename(next_, newest_);
}

std::optional<int64_t> Checkpoint::load(const std::function<void(const SafetensorsFile&)>& take,
                                        const std::function<void(const std::string&)>& warn) const {
  std::string damage;
  for (const fs::path& path : {newest_, previous_}) {
    if (!fs::exists(path)) continue;
    std::optional<SafetensorsFile> file;
    int64_t format = 0;
    try {
      file.emplace(path);
      const auto found = file->metadata().find("checkpoint_format");
      if (found != file->metadata().end() && found->second.size() < 10)
        format = std::atoll(found->second.c_str());
      if (format <= kFormat) check_seal(*file);
    } catch (const InputError& e) {
      warn(concat(e.what(), path == newest_ ? "; trying the checkpoint before it" : ""));
      damage += concat(damage.empty() ? "" : "; ", e.what());
      continue;
    }
    if (format != kFormat)
      throw InputError(
          concat(path.string(), ": format ", format, ", this program reads ", kFormat));
    const auto found = file->metadata().find("settings");
    const std::string settings = found == file->metadata().end() ? "{}" : found->second;
    if (settings != settings_)
      throw InputError(concat(
          path.string(), ": made with other settings: ",
          differences(settings, settings_, path.string() + ": settings"),
          "\nhint: write to another folder, or start anew without --resume_from_checkpoint"));
    file->allow_nonfinite(true);  // the bytes are as they were saved; the loop looks at the numbers
    take(*file);
    return file->read_i64("step").at(0);
  }
  if (!damage.empty())
    throw InputError(
        damage +
        "\nhint: no whole checkpoint is left; start anew without --resume_from_checkpoint");
  return std::nullopt;
}

void Checkpoint::remove() const {
  for (const fs::path& path : {newest_, previous_, next_}) fs::remove(path);
}

}  // namespace realfake
