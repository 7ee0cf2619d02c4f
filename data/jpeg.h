#pragma once
// JPEG in. Our walk over the file's structure comes first; stb_image decodes what passed it.
// Releases of stb_image write past their tables on bad Huffman counts (2.27) or answer a cut file
// with invented pixels (2.30).
#include <string>
#include <string_view>

#include "data/image.h"

namespace realfake {

// Baseline, extended and progressive Huffman JPEG of 8 bits, grey or colour.
Image decode_jpeg(std::string_view bytes, const std::string& name);

// The structure walk alone: InputError, or the size of the file up to and with its end marker.
size_t check_jpeg(std::string_view bytes, const std::string& name);

}  // namespace realfake
