#include "data/captions.h"

#include <algorithm>

#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/sha256.h"

namespace realfake {
namespace {

constexpr uint64_t max_list_bytes = uint64_t{1} << 30;
constexpr size_t max_class_name = 4096;

// Lines without their line ends; a carriage return before the newline goes too.
std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

std::string prompt_start(std::string_view class_name) {
  return concat("photo of ", class_name);
}

bool starts_as_prompt(std::string_view text, const std::string& start) {
  return text.substr(0, start.size()) == start &&
         (text.size() == start.size() || text[start.size()] == ',');
}

}  // namespace

const std::vector<std::string>& digit_words() {
  static const std::vector<std::string> words = {"zero", "one", "two",   "three", "four",
                                                 "five", "six", "seven", "eight", "nine"};
  return words;
}

std::string make_prompt(std::string_view class_name, std::string_view caption) {
  const std::string start = prompt_start(class_name);
  if (caption.empty()) return start;
  if (starts_as_prompt(caption, start)) return std::string(caption);  // is a whole prompt already
  return concat(start, ", ", caption);
}

std::string caption_of_prompt(std::string_view prompt, std::string_view class_name) {
  const std::string start = prompt_start(class_name);
  if (!starts_as_prompt(prompt, start)) return std::string(prompt);
  prompt.remove_prefix(start.size());
  while (!prompt.empty() && (prompt.front() == ',' || prompt.front() == ' '))
    prompt.remove_prefix(1);
  return std::string(prompt);
}

std::vector<std::string> read_classes(const std::filesystem::path& file) {
  const std::string text = read_file(file, 64 << 20);
  std::vector<std::string> classes;
  std::map<std::string, size_t> first;
  for (const std::string_view line : lines_of(text)) {
    const std::string where = concat(file.string(), ":", classes.size() + 1);
    if (line.empty()) throw InputError(where + ": found an empty line, expected a class name");
    if (line.size() > max_class_name) {
      throw InputError(concat(where, ": class name longer than ", max_class_name, " bytes"));
    }
    if (line.find('\0') != std::string_view::npos) throw InputError(where + ": NUL byte");
    const auto [at, is_new] = first.emplace(std::string(line), classes.size() + 1);
    if (!is_new) {
      throw InputError(concat(where, ": class '", printable(line), "' listed twice (first line ",
                              at->second, ")"));
    }
    classes.emplace_back(line);
  }
  if (classes.empty()) throw InputError(file.string() + ": no class names");
  return classes;
}

std::string class_hash(const std::vector<std::string>& classes) {
  std::string all;
  for (const std::string& name : classes) all += name + '\n';
  return sha256_hex(all);
}

void write_classes(const std::filesystem::path& folder, const std::vector<std::string>& classes) {
  std::string all;
  for (const std::string& name : classes) {
    require(!name.empty() && name.find('\n') == std::string::npos, "[write_classes] bad name");
    all += name + '\n';
  }
  write_file_atomic(folder / "classes.txt", all);
  write_file_atomic(folder / "classes.sha256", class_hash(classes) + '\n');
}

std::vector<std::string> classes_of_folder(const std::filesystem::path& folder) {
  const auto names = folder / "classes.txt", hash = folder / "classes.sha256";
  if (!std::filesystem::exists(names)) return {};
  std::vector<std::string> classes = read_classes(names);
  if (std::filesystem::exists(hash)) {
    const std::string stored = read_file(hash, 4096).substr(0, 64), found = class_hash(classes);
    if (stored != found) {
      throw InputError(concat(names.string(), ": found sha256 ", found, ", expected ",
                              printable(stored), " (classes.sha256): the class list was changed"));
    }
  }
  return classes;
}

void require_same_classes(const std::vector<std::string>& expected,
                          const std::string& expected_from, const std::vector<std::string>& found,
                          const std::string& found_from) {
  if (expected == found) return;
  std::string difference;
  if (expected.size() != found.size()) {
    difference = concat("found ", found.size(), " classes, expected ", expected.size());
  } else {
    const auto at = std::mismatch(expected.begin(), expected.end(), found.begin());
    difference = concat("class ", at.first - expected.begin(), ": found '", printable(*at.second),
                        "', expected '", printable(*at.first), "'");
  }
  throw InputError(concat(found_from, ": classes: ", difference, " as in ", expected_from));
}

std::map<std::string, std::string> read_captions(
    const std::filesystem::path& file, const std::function<void(const std::string&)>& warn) {
  const std::string text = read_file(file, max_list_bytes);
  const std::filesystem::path folder = file.parent_path();
  std::map<std::string, std::string> captions;
  std::map<std::string, size_t> first;
  size_t number = 0, empty = 0;
  for (const std::string_view line : lines_of(text)) {
    const std::string where = concat(file.string(), ":", ++number);
    if (line.size() > max_caption_line) {
      throw InputError(concat(where, ": line longer than ", max_caption_line, " bytes"));
    }
    if (line.empty()) continue;
    if (line.find('\0') != std::string_view::npos) throw InputError(where + ": NUL byte");
    const Json value = parse_json(line, where);
    const JsonReader reader(value, where);
    const std::string name = reader.text("file_name");
    std::string caption;
    for (const char* key : {"text", "caption", "prompt"}) {
      if (reader.has(key)) {
        caption = reader.text(key);
        break;
      }
      if (key == std::string_view("prompt")) throw InputError(where + ": no key 'text'");
    }
    if (name.find('\0') != std::string::npos || caption.find('\0') != std::string::npos) {
      throw InputError(where + ": NUL byte");
    }
    const std::filesystem::path path = std::filesystem::path(name).lexically_normal();
    const std::string shown = printable(name);
    if (name.empty()) throw InputError(where + ": 'file_name' is empty");
    if (path.is_absolute() || *path.begin() == "..") {
      throw InputError(concat(where, ": '", shown, "' leaves the folder"));
    }
    const auto [at, is_new] = first.emplace(path.string(), number);
    if (!is_new) {
      throw InputError(concat(where, ": '", shown, "' listed twice (first line ", at->second, ")"));
    }
    std::error_code none;
    if (!std::filesystem::is_regular_file(folder / path, none)) {
      throw InputError(concat(where, ": image '", shown, "' not found"));
    }
    empty += caption.empty();
    captions.emplace(path.string(), std::move(caption));
  }
  if (empty > 0 && warn) warn(concat(file.string(), ": ", empty, " empty captions"));
  return captions;
}

}  // namespace realfake
