#pragma once
// Makes PNG files chunk by chunk, so that each rule can be broken alone.
#include <string>
#include <string_view>
#include <vector>

#include "data/inflate.h"

namespace realfake {

inline std::string be32(uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
          static_cast<char>(v)};
}

inline std::string png_chunk(const std::string& type, const std::string& body) {
  const std::string checked = type + body;
  return be32(static_cast<uint32_t>(body.size())) + checked + be32(crc32(checked));
}

inline std::string png_header(uint32_t width, uint32_t height, int depth, int colour,
                              int interlace = 0) {
  std::string body = be32(width) + be32(height);
  for (const int v : {depth, colour, 0, 0, interlace}) body += static_cast<char>(v);
  return png_chunk("IHDR", body);
}

// zlib with stored blocks only.
inline std::string zlib_stored(const std::string& raw) {
  std::string out = "\x78\x01";
  size_t at = 0;
  do {
    const size_t n = std::min<size_t>(raw.size() - at, 65535);
    out += static_cast<char>(at + n == raw.size());
    for (const size_t v : {n, ~n & 0xFFFF}) {
      out += static_cast<char>(v & 255);
      out += static_cast<char>(v >> 8);
    }
    out += raw.substr(at, n);
    at += n;
  } while (at < raw.size());
  return out + be32(adler32(reinterpret_cast<const uint8_t*>(raw.data()), raw.size()));
}

inline std::string png_signature() {
  return std::string("\x89PNG\r\n\x1a\n", 8);
}

inline std::string png_file(const std::string& header, const std::string& raw,
                            const std::string& before_data = "") {
  return png_signature() + header + before_data + png_chunk("IDAT", zlib_stored(raw)) +
         png_chunk("IEND", "");
}

}  // namespace realfake
