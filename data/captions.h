#pragma once
// Words for pictures: class names, prompts, and the caption files people bring.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace realfake {

const std::vector<std::string>& digit_words();  // zero .. nine

// The method's prompt: "photo of CLASS, CAPTION"; "photo of CLASS" when there is no caption.
std::string make_prompt(std::string_view class_name, std::string_view caption = {});
// The caption part of such a prompt; the text itself when it does not start with "photo of CLASS".
std::string caption_of_prompt(std::string_view prompt, std::string_view class_name);

// classes.txt: one name a line, the line number is the label. InputError on an empty, doubled or
// overlong name.
std::vector<std::string> read_classes(const std::filesystem::path& file);
// sha256 of the names, each followed by a newline: equal exactly when the files are.
std::string class_hash(const std::vector<std::string>& classes);
// classes.txt and, beside it, classes.sha256.
void write_classes(const std::filesystem::path& folder, const std::vector<std::string>& classes);
// classes.txt of a folder, checked against classes.sha256 where there is one; empty without
// classes.txt.
std::vector<std::string> classes_of_folder(const std::filesystem::path& folder);
// InputError when two parts of one job number the classes differently.
void require_same_classes(const std::vector<std::string>& expected,
                          const std::string& expected_from, const std::vector<std::string>& found,
                          const std::string& found_from);

constexpr size_t max_caption_line = 65536;

// metadata.jsonl / captions.jsonl: lines {"file_name": PATH, "text": CAPTION}, PATH relative to the
// file's folder. The result is keyed by PATH in plain form. Named pictures must exist; empty
// captions are counted in one warning.
std::map<std::string, std::string> read_captions(
    const std::filesystem::path& file, const std::function<void(const std::string&)>& warn = {});

}  // namespace realfake
