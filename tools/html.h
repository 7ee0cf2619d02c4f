#pragma once
// HTML written so that it cannot go wrong: every text and attribute is escaped on its way in, every
// tag that was opened is closed. Only literals of the program reach the page unescaped (names of
// tags and attributes, the style sheet).
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace realfake {

// For text between tags: & < > escaped. Characters that are not seen or that reorder others
// (controls, bidi marks, zero-width) are shown as \u{202E}, bytes that are not UTF-8 as \xNN. Cut
// after `max_shown_text` bytes.
std::string html_text(std::string_view text);
// For values between double quotes: quotes escaped too.
std::string html_attribute(std::string_view text);

constexpr size_t max_shown_text = 2000;

class Html {
 public:
  struct Attribute {
    const char* name;
    std::string value;
  };
  using Attributes = std::initializer_list<Attribute>;

  // Closes its tag at the end of the block.
  class Scope {
   public:
    explicit Scope(Html& html) : html_(html) {}
    ~Scope() { html_.close(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Html& html_;
  };

  [[nodiscard]] Scope in(const char* tag, Attributes attributes = {});
  void element(const char* tag, std::string_view text) { element(tag, {}, text); }
  void element(const char* tag, Attributes attributes, std::string_view text = {});
  void empty(const char* tag, Attributes attributes);  // meta, img: tags without an end
  void text(std::string_view text) { out_ += html_text(text); }
  void style(const char* css);
  // For values longer than any text, made by the program itself (a picture as data, the points of a
  // curve).
  void data_image(std::string_view png, const std::string& alt, int64_t width, int64_t height);
  void path(const char* css_class, std::string_view points);

  std::string finish() &&;  // ContractError when a tag is open

 private:
  void open(const char* tag, Attributes attributes);
  void close();
  std::string out_ = "<!DOCTYPE html>\n";
  std::vector<const char*> open_;
};

std::string base64(std::string_view bytes);

// 3 digits after the point: "0.125". Not a number: "-".
std::string fixed(double value, int digits);

}  // namespace realfake
