#pragma once
// The text front end of CLIP: what transformers' normalizer and word pattern do, by Unicode
// category.
#include <functional>
#include <string>
#include <string_view>

namespace realfake {

// NFC, then each run of white space to one space, then lower case. The text must be valid UTF-8.
std::string normalize_text(std::string_view text);

// Calls `word` for each match of 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+, in
// order.
void for_each_word(std::string_view text, const std::function<void(std::string_view)>& word);

}  // namespace realfake
