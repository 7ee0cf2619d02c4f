#pragma once
// PNG in and out (ISO 15948). The reader is ours from signature to pixels; the writer is stb's
// behind checks.
#include <string>
#include <string_view>

#include "data/image.h"

namespace realfake {

// All depths, grey / RGB / palette / alpha, interlaced or not; 16-bit samples keep their high byte.
Image decode_png(std::string_view bytes, const std::string& name);
// 8-bit grey or RGB.
std::string encode_png(const Image& image);
// Written under a temporary name, then renamed.
void write_png(const std::filesystem::path& path, const Image& image);

}  // namespace realfake
