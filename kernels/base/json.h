#pragma once
// JSON from files that may not be trusted: depth at most 64, duplicate keys refused, UTF-8 checked.
// Values are nlohmann's; only the parsing is guarded here.
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace realfake {

using Json = nlohmann::ordered_json;

// `where` names the source in messages (a file, or "file:line").  InputError.
Json parse_json(std::string_view text, const std::string& where);
Json read_json(const std::filesystem::path& path, uint64_t limit = 64 << 20);
// The guards alone, for a reader that builds no tree: UTF-8 and nesting. `origin` is where the text
// begins in its file, for the byte positions in messages.
void check_json_guards(std::string_view text, const std::string& where, uint64_t origin = 0);
// "found X, expected Y at column N" from what nlohmann's SAX parser reports.
std::string json_syntax_message(std::string_view text, size_t position,
                                const std::string& last_token,
                                const nlohmann::detail::exception& error);
void write_json_atomic(const std::filesystem::path& path, const Json& value);

// Typed access whose errors name the file, the key, what was found and what was expected.
// A null counts as an absent key, as in the configs of diffusers. Keeps a reference to the object.
class JsonReader {
 public:
  JsonReader(const Json& object, std::string where);
  bool has(const std::string& key) const;
  const Json& at(const std::string& key) const;
  int64_t integer(const std::string& key, int64_t low, int64_t high) const;
  int64_t integer_or(const std::string& key, int64_t fallback, int64_t low, int64_t high) const;
  double number(const std::string& key) const;
  double number_or(const std::string& key, double fallback) const;
  bool boolean_or(const std::string& key, bool fallback) const;
  std::string text(const std::string& key) const;
  std::string text_or(const std::string& key, const std::string& fallback) const;
  std::vector<int64_t> integers(const std::string& key, int64_t low, int64_t high) const;
  std::vector<std::string> texts(const std::string& key) const;
  const std::string& where() const { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

}  // namespace realfake
