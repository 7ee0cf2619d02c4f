#pragma once
// UTF-8, checked strictly: no overlong forms, no surrogates, nothing above U+10FFFF.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace realfake {

// Reads the character that starts at `text[at]` and returns its length in bytes (1..4), or 0 when
// the bytes there are not valid UTF-8. `at` must be inside the text.
size_t decode_utf8(std::string_view text, size_t at, uint32_t& character);

// Number of leading bytes that are valid; equals text.size() when all are.
size_t valid_utf8_prefix(std::string_view text);

void append_utf8(std::string& to, uint32_t character);

}  // namespace realfake
