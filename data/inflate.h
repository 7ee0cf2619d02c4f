#pragma once
// zlib streams (RFC 1950, 1951), unpacked into a buffer of known size: the size is proven before,
// so a small file cannot ask for much memory.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace realfake {

uint32_t crc32(std::string_view bytes);
uint32_t adler32(const uint8_t* data, size_t bytes);

// Exactly `expected` bytes; InputError "WHERE: image data has X bytes, expected Y" and the like.
std::vector<uint8_t> inflate_zlib(std::string_view packed, size_t expected,
                                  const std::string& where);

}  // namespace realfake
