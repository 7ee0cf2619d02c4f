#pragma once
// SHA-256 (FIPS 180-4), used for manifests and cache keys.
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace realfake {

class Sha256 {
 public:
  Sha256();
  void update(const void* data, size_t bytes);
  std::string hex();  // finishes; 64 lower-case digits

 private:
  void block(const uint8_t* data);
  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> buffer_;
  uint64_t total_ = 0;
};

std::string sha256_hex(std::string_view data);
std::string sha256_of_file(const std::filesystem::path& path);  // streamed

}  // namespace realfake
