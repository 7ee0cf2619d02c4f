#include "tools/html.h"

#include <cmath>
#include <cstdio>

#include "kernels/base/error.h"
#include "kernels/base/text.h"

namespace realfake {
namespace {

// Characters that a reader cannot see or that change the order of those around them.
bool is_hidden(uint32_t c) {
  struct Range {
    uint32_t first, last;
  };
  static constexpr Range ranges[] = {
      {0x00, 0x1F},     {0x7F, 0x9F},     {0xAD, 0xAD},     {0x34F, 0x34F},     {0x61C, 0x61C},
      {0x115F, 0x1160}, {0x17B4, 0x17B5}, {0x180B, 0x180F}, {0x200B, 0x200F},   {0x2028, 0x202E},
      {0x2060, 0x206F}, {0x3164, 0x3164}, {0xFE00, 0xFE0F}, {0xFDD0, 0xFDEF},   {0xFEFF, 0xFEFF},
      {0xFFA0, 0xFFA0}, {0xFFF0, 0xFFFB}, {0xE000, 0xF8FF}, {0xE0000, 0xE0FFF},
  };
  for (const Range& range : ranges) {
    if (c >= range.first && c <= range.last) return true;
  }
  return (c & 0xFFFE) == 0xFFFE;
}

std::string escape(std::string_view text, bool quotes) {
  std::string out;
  char shown[24];
  size_t at = 0;
  while (at < text.size() && at < max_shown_text) {
    uint32_t c = 0;
    const size_t length = decode_utf8(text, at, c);
    if (length == 0) {
      std::snprintf(shown, sizeof shown, "\\x%02X",
                    static_cast<unsigned>(static_cast<unsigned char>(text[at])));
      out += shown;
      ++at;
      continue;
    }
    if (is_hidden(c)) {
      std::snprintf(shown, sizeof shown, "\\u{%X}", static_cast<unsigned>(c));
      out += shown;
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (quotes && c == '"') {
      out += "&quot;";
    } else if (quotes && c == '\'') {
      out += "&#39;";
    } else {
      out += text.substr(at, length);
    }
    at += length;
  }
  if (at < text.size()) out += concat(" … (", text.size() - at, " more bytes)");
  return out;
}

}  // namespace

std::string html_text(std::string_view text) {
  return escape(text, false);
}
std::string html_attribute(std::string_view text) {
  return escape(text, true);
}

void Html::open(const char* tag, Attributes attributes) {
  out_ += concat("<", tag);
  for (const Attribute& attribute : attributes) {
    out_ += concat(" ", attribute.name, "=\"", html_attribute(attribute.value), "\"");
  }
  out_ += ">";
}

void Html::close() {
  out_ += concat("</", open_.back(), ">");
  const std::string_view tag = open_.back();
  if (tag == "tr" || tag == "section" || tag == "figure" || tag == "svg" || tag == "li" ||
      tag == "p") {
    out_ += "\n";  // so that two pages can be compared line by line
  }
  open_.pop_back();
}

Html::Scope Html::in(const char* tag, Attributes attributes) {
  open(tag, attributes);
  open_.push_back(tag);
  return Scope(*this);
}

void Html::element(const char* tag, Attributes attributes, std::string_view content) {
  const Scope scope = in(tag, attributes);
  text(content);
}

void Html::empty(const char* tag, Attributes attributes) {
  open(tag, attributes);
}

void Html::style(const char* css) {
  out_ += concat("<style>\n", css, "</style>\n");
}

void Html::data_image(std::string_view png, const std::string& alt, int64_t width, int64_t height) {
  out_ += concat("<img alt=\"", html_attribute(alt), "\" width=\"", width, "\" height=\"", height,
                 "\" src=\"data:image/png;base64,", base64(png), "\">");
}

void Html::path(const char* css_class, std::string_view points) {
  out_ += concat("<path class=\"", css_class, "\" d=\"", points, "\"></path>");
}

std::string Html::finish() && {
  require(open_.empty(), "[html] a tag is still open: ", open_.empty() ? "" : open_.back());
  out_ += "\n";
  return std::move(out_);
}

std::string base64(std::string_view bytes) {
  static constexpr char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      const size_t shift = 6 * (3 - k);
      out += i + k <= bytes.size() ? digits[group >> shift & 63] : '=';
    }
  }
  return out;
}

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  char text[64];
  if (std::abs(value) >= 1e15) {
    std::snprintf(text, sizeof text, "%.3e", value);
  } else {
    std::snprintf(text, sizeof text, "%.*f", digits, value);
  }
  return text;
}

}  // namespace realfake
