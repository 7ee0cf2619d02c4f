#include "kernels/base/json.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "kernels/base/text.h"

namespace realfake {
namespace {

constexpr int max_depth = 64;

const char* kind_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

// Builds the tree like nlohmann's own builder, with two differences: duplicate keys are refused,
// and keys are appended without the linear search of ordered_map (a vocabulary has 50,000 keys).
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  TreeBuilder(std::string_view text, const std::string& where) : text_(text), where_(where) {}
  Json root;

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(int64_t v) override { return put(v); }
  bool number_unsigned(uint64_t v) override { return put(v); }
  bool number_float(double v, const std::string&) override { return put(v); }
  bool string(std::string& v) override { return put(std::move(v)); }
  bool binary(Json::binary_t&) override { return false; }  // not part of JSON text
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool key(std::string& v) override {
    key_ = std::move(v);
    return true;
  }
  bool end_object() override {
    const auto& object = stack_.back()->get_ref<const Json::object_t&>();
    std::vector<std::string_view> keys;
    keys.reserve(object.size());
    for (const auto& entry : object) keys.push_back(entry.first);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      throw InputError(concat(where_, ": key '", printable(*twice), "' appears twice"));
    stack_.pop_back();
    return true;
  }
  bool end_array() override {
    stack_.pop_back();
    return true;
  }
  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& error) override {
    throw InputError(concat(where_, ": ", json_syntax_message(text_, position, last_token, error)));
  }

 private:
  // Children of a container are moved only while it is open and they are closed, so the pointers of
  // the stack (the chain of open containers) stay valid.
  Json* place(Json value) {
    if (stack_.empty()) {
      root = std::move(value);
      return &root;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      auto& array = parent.get_ref<Json::array_t&>();
      array.push_back(std::move(value));
      return &array.back();
    }
    auto& object = parent.get_ref<Json::object_t&>();
    Json::object_t::Container& entries = object;
    entries.emplace_back(std::move(key_), std::move(value));
    return &entries.back().second;
  }
  bool put(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    stack_.push_back(place(std::move(value)));
    return true;
  }

  std::string_view text_;
  const std::string& where_;
  std::vector<Json*> stack_;
  std::string key_;
};

}  // namespace

void check_json_guards(std::string_view text, const std::string& where, uint64_t origin) {
  const size_t valid = valid_utf8_prefix(text);
  if (valid != text.size())
    throw InputError(concat(where, ": invalid UTF-8 at byte ", origin + valid));
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    // The parser would take it for the end of the text, whatever follows.
    if (c == '\0') throw InputError(concat(where, ": a NUL in JSON text at byte ", origin + i));
    if (quoted) {
      if (c == '\\' && i + 1 < text.size() && text[i + 1] != '\0') ++i;
      quoted = c != '"';
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > max_depth)
        throw InputError(
            concat(where, ": JSON nested deeper than ", max_depth, " at byte ", origin + i));
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
}

std::string json_syntax_message(std::string_view text, size_t position,
                                const std::string& last_token,
                                const nlohmann::detail::exception& error) {
  // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while parsing
  //  object - unexpected X; expected Y"
  std::string found = error.what(), expected;
  if (const size_t split = found.rfind("; expected "); split != std::string::npos) {
    expected = found.substr(split + 11);
    found.resize(split);
  }
  // What was read last can be the whole file: the place says enough.
  if (const size_t read = found.find("; last read: "); read != std::string::npos)
    found.resize(read);
  const size_t begin = error.id == 101 ? found.find(" - ") : found.find("] ");
  if (begin != std::string::npos) found.erase(0, begin + (error.id == 101 ? 3 : 2));
  if (found.starts_with("unexpected ")) found.erase(0, 11);
  if (found.size() > 200) found = found.substr(0, 200) + "...";

  // The position is after the token; `last_token` is the token alone only for strings and numbers.
  const size_t token = found == "end of input"                                  ? 0
                       : found == "string literal" || found == "number literal" ? last_token.size()
                       : found == "false literal"                               ? 5
                       : found == "true literal" || found == "null literal"     ? 4
                                                                                : 1;
  const size_t at = std::min(position >= token ? position - token : 0, text.size());
  const std::string_view before = text.substr(0, at);
  const auto line = std::count(before.begin(), before.end(), '\n');
  const size_t line_begin = line ? before.rfind('\n') + 1 : 0;
  std::string place = concat("column ", at - line_begin + 1);
  if (text.find('\n') < text.size() - 1) place = concat("line ", line + 1, " ", place);

  if (error.id != 101) return concat(printable(found), " at ", place);
  // nlohmann expects the closing bracket wherever a comma could stand as well.
  if ((expected == "'}'" || expected == "']'") && found != "end of input") expected = "','";
  if (expected.empty()) expected = "valid JSON";
  return concat("found ", printable(found), ", expected ", expected, " at ", place);
}

Json parse_json(std::string_view text, const std::string& where) {
  check_json_guards(text, where);
  TreeBuilder builder(text, where);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder.root);
}

Json read_json(const std::filesystem::path& path, uint64_t limit) {
  return parse_json(read_file(path, limit), printable(path.string()));
}

void write_json_atomic(const std::filesystem::path& path, const Json& value) {
  // Text from file names may be invalid UTF-8: it is shown as U+FFFD, never a failed save.
  write_file_atomic(path, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

// JsonReader
// ------------------------------------------------------------------------------------------

namespace {

std::string shown(const Json& value) {
  if (value.is_structured() || value.is_string() || value.is_null()) return kind_of(value);
  return printable(value.dump());
}

[[noreturn]] void refuse(const std::string& where, const std::string& key, const std::string& found,
                         const std::string& expected) {
  throw InputError(concat(where, ": '", printable(key), "' is ", found, ", expected ", expected));
}

int64_t checked_integer(const Json& value, const std::string& where, const std::string& key,
                        int64_t low, int64_t high) {
  if (!value.is_number_integer()) refuse(where, key, shown(value), "an integer");
  const bool huge =
      value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (huge || value.get<int64_t>() < low || value.get<int64_t>() > high)
    refuse(where, key, value.dump(), concat(low, "..", high));
  return value.get<int64_t>();
}

const Json::array_t& checked_array(const Json& value, const std::string& where,
                                   const std::string& key) {
  if (!value.is_array()) refuse(where, key, shown(value), "an array");
  return value.get_ref<const Json::array_t&>();
}

}  // namespace

JsonReader::JsonReader(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object())
    throw InputError(concat(where_, ": found ", kind_of(object), ", expected a JSON object"));
}

bool JsonReader::has(const std::string& key) const {
  const auto entry = object_.find(key);
  return entry != object_.end() && !entry->is_null();
}

const Json& JsonReader::at(const std::string& key) const {
  const auto entry = object_.find(key);
  if (entry == object_.end()) throw InputError(concat(where_, ": no key '", printable(key), "'"));
  return *entry;
}

int64_t JsonReader::integer(const std::string& key, int64_t low, int64_t high) const {
  return checked_integer(at(key), where_, key, low, high);
}

int64_t JsonReader::integer_or(const std::string& key, int64_t fallback, int64_t low,
                               int64_t high) const {
  return has(key) ? integer(key, low, high) : fallback;
}

double JsonReader::number(const std::string& key) const {
  const Json& value = at(key);
  if (!value.is_number()) refuse(where_, key, shown(value), "a number");
  return value.get<double>();
}

double JsonReader::number_or(const std::string& key, double fallback) const {
  return has(key) ? number(key) : fallback;
}

bool JsonReader::boolean_or(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  const Json& value = at(key);
  if (!value.is_boolean()) refuse(where_, key, shown(value), "true or false");
  return value.get<bool>();
}

std::string JsonReader::text(const std::string& key) const {
  const Json& value = at(key);
  if (!value.is_string()) refuse(where_, key, shown(value), "a string");
  return value.get<std::string>();
}

std::string JsonReader::text_or(const std::string& key, const std::string& fallback) const {
  return has(key) ? text(key) : fallback;
}

std::vector<int64_t> JsonReader::integers(const std::string& key, int64_t low, int64_t high) const {
  std::vector<int64_t> values;
  for (const Json& value : checked_array(at(key), where_, key))
    values.push_back(
        checked_integer(value, where_, concat(key, "[", values.size(), "]"), low, high));
  return values;
}

std::vector<std::string> JsonReader::texts(const std::string& key) const {
  std::vector<std::string> values;
  for (const Json& value : checked_array(at(key), where_, key)) {
    if (!value.is_string())
      refuse(where_, concat(key, "[", values.size(), "]"), shown(value), "a string");
    values.push_back(value.get<std::string>());
  }
  return values;
}

}  // namespace realfake
