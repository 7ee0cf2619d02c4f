#pragma once
// TensorBoard event files: protobuf messages in TFRecord framing, written by hand (scalars only).
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace realfake {

struct ScalarEvent {
  double wall_time = 0;
  int64_t step = 0;
  std::vector<std::pair<std::string, float>> values;  // tag, value
};

void write_event_file(const std::filesystem::path& file, const std::vector<ScalarEvent>& events);

// CRC-32C (Castagnoli).
uint32_t crc32c(const void* data, size_t bytes);

}  // namespace realfake
