#pragma once
// Checkpoints of a training loop: a safetensors file with checksums that is whole or absent, the
// one before it kept.
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "model/safetensors.h"

namespace realfake {

class Checkpoint {
 public:
  // `settings`: what must be equal for a resumed run, as a JSON object (a resolved config, without
  // paths and cadence).
  Checkpoint(std::filesystem::path folder, std::string settings);

  // FOLDER/checkpoint.safetensors, the older as checkpoint.previous.safetensors. The new file is
  // durable and read back before the others move, so that a kill at any moment leaves a whole one
  // under one of the two names.
  void save(int64_t step, const std::function<void(SafetensorsWriter&)>& fill) const;
  // Loads the newest whole checkpoint and returns its step, or nothing when there is none. A
  // damaged newest one falls back to the previous with a line to `warn`.  InputError when made with
  // other settings, or when all there are are damaged.
  std::optional<int64_t> load(const std::function<void(const SafetensorsFile&)>& take,
                              const std::function<void(const std::string&)>& warn) const;
  void remove() const;  // after the run has finished

 private:
  std::filesystem::path newest_, previous_, next_;
  std::string settings_;
};

}  // namespace realfake
