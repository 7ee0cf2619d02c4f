#include "model/unicode_words.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "kernels/base/error.h"
#include "kernels/base/text.h"

namespace realfake {
namespace {

// White_Space of Unicode, which is what \s of the pattern means.
bool is_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

enum class Kind { space, letter, number, other };

Kind kind_of(uint32_t c) {
  if (is_space(c)) return Kind::space;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return Kind::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return Kind::number;
    default:
      return Kind::other;
  }
}

std::string to_nfc(std::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &composed, options);
  if (length < 0) throw InputError(concat("text cannot be normalised: ", utf8proc_errmsg(length)));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  return std::string(reinterpret_cast<const char*>(composed), static_cast<size_t>(length));
}

}  // namespace

std::string normalize_text(std::string_view text) {
  if (text.empty()) return {};
  const std::string composed = to_nfc(text);
  std::string out;
  out.reserve(composed.size());
  bool after_space = false;
  uint32_t c = 0;
  for (size_t at = 0; at < composed.size();) {
    at += std::max<size_t>(decode_utf8(composed, at, c), 1);
    if (is_space(c)) {
      if (!after_space) out.push_back(' ');
      after_space = true;
      continue;
    }
    after_space = false;
    if (c == 0x130) {  // the one character whose lower case is two: i and a dot above
      out += "i\xcc\x87";
      continue;
    }
    append_utf8(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
  return out;
}

void for_each_word(std::string_view text, const std::function<void(std::string_view)>& word) {
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '\'') {
      // Longest alternatives do not matter: no contraction begins with another one.
      size_t taken = 0;
      for (std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
        if (text.substr(at).starts_with(ending)) taken = ending.size();
      if (taken) {
        word(text.substr(at, taken));
        at += taken;
        continue;
      }
    }
    uint32_t c = 0;
    const size_t begin = at;
    at += std::max<size_t>(decode_utf8(text, at, c), 1);
    const Kind kind = kind_of(c);
    if (kind == Kind::space) continue;
    // A digit stands alone; letters and other characters go on while their kind does.
    while (kind != Kind::number && at < text.size()) {
      const size_t length = std::max<size_t>(decode_utf8(text, at, c), 1);
      if (kind_of(c) != kind) break;
      at += length;
    }
    word(text.substr(begin, at - begin));
  }
}

}  // namespace realfake
