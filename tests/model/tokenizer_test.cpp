// The tokenizer against ids recorded from transformers, and the files it must refuse.
#include "model/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "model/safetensors.h"
#include "model/unicode_words.h"
#include "tests/testing/temp_dir.h"

namespace realfake {
namespace {

using testing::TempDir;
namespace fs = std::filesystem;

const fs::path golden = fs::path(REALFAKE_SOURCE_DIR) / "tests/golden/tokenizer";

std::vector<std::string> prompts() {
  return read_whole_lines(golden / "prompts.txt", 1 << 20);
}

void expect_same_ids(const Tokenizer& tokenizer, const fs::path& recorded) {
  const SafetensorsFile file(recorded);
  const auto expected = file.read_i64("input_ids");
  const auto shape = file.info("input_ids").shape;
  const auto lines = prompts();
  ASSERT_LE(shape[0], static_cast<int64_t>(lines.size()));
  ASSERT_GE(shape[0], 40);
  ASSERT_EQ(shape[1], tokenizer.max_length());
  for (int64_t i = 0; i < shape[0]; ++i) {
    const auto row = expected.begin() + i * shape[1];
    EXPECT_EQ(tokenizer.encode(lines[static_cast<size_t>(i)]),
              std::vector<int64_t>(row, row + shape[1]))
        << "prompt " << i << ": " << printable(lines[static_cast<size_t>(i)]);
  }
}

void copy_golden(const TempDir& folder) {
  for (const char* name :
       {"vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"})
    fs::copy_file(golden / name, folder / name);
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "(no InputError)";
}

TEST(Tokenizer, SameIdsAsTransformers) {
  const Tokenizer tokenizer = Tokenizer::load(golden);
  EXPECT_EQ(tokenizer.size(), 700);
  EXPECT_EQ(tokenizer.pad(), tokenizer.eot());
  expect_same_ids(tokenizer, golden / "ids.safetensors");
}

TEST(Tokenizer, SameIdsWithThePaddingOfSd2) {
  const TempDir folder;
  copy_golden(folder);
  Json map = read_json(folder / "special_tokens_map.json");
  map["pad_token"] = "!";
  write_json_atomic(folder / "special_tokens_map.json", map);
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer.pad(), 0);
  expect_same_ids(tokenizer, golden / "ids_pad_sd2.safetensors");
}

TEST(Tokenizer, ConfigOfANewerVersionOverridesTheMap) {
  const TempDir folder;
  copy_golden(folder);
  Json map = read_json(folder / "special_tokens_map.json");
  map["pad_token"] = "!";
  write_json_atomic(folder / "special_tokens_map.json", map);
  Json config = read_json(folder / "tokenizer_config.json");
  config["added_tokens_decoder"] = {{"699", {{"content", "<|endoftext|>"}, {"normalized", false}}}};
  write_json_atomic(folder / "tokenizer_config.json", config);
  EXPECT_EQ(Tokenizer::load(folder.path()).pad(), 699);
}

TEST(Tokenizer, LongTextKeepsTheEndTokenAndNamesWhatWasCut) {
  const Tokenizer tokenizer = Tokenizer::load(golden);
  std::string text;
  for (int i = 0; i < 75; ++i) text += "1 ";
  const auto whole = tokenizer.encode_full(text);
  EXPECT_EQ(whole.length, 77);
  EXPECT_EQ(whole.cut, "");
  const auto longer = tokenizer.encode_full(text + "Photo OF, zero");
  EXPECT_EQ(longer.ids, whole.ids);
  EXPECT_EQ(longer.ids.back(), tokenizer.eot());
  EXPECT_EQ(longer.cut, "photo of , zero");
}

TEST(Tokenizer, TrainingGivesTheRecordedVocabularyAndSavesIt) {
  const Tokenizer trained(train_bpe(prompts(), 700), 77);
  const TempDir folder;
  trained.save(folder.path());
  EXPECT_EQ(read_file(folder / "merges.txt", 1 << 20), read_file(golden / "merges.txt", 1 << 20));
  EXPECT_EQ(read_json(folder / "vocab.json"), read_json(golden / "vocab.json"));
  const Tokenizer again = Tokenizer::load(folder.path());
  EXPECT_EQ(again.max_length(), 77);
  for (const auto& line : prompts()) EXPECT_EQ(again.encode(line), trained.encode(line));
}

TEST(Tokenizer, TrainingStopsWhenNothingIsLeftToMerge) {
  const auto vocabulary = train_bpe({"ab ab", "cab"}, 10'000);
  EXPECT_EQ(vocabulary.merges.size(), 2u);
  EXPECT_EQ(vocabulary.tokens.size(), 512u + 2 + 2);
  const Tokenizer tokenizer(vocabulary, 8);
  EXPECT_EQ(tokenizer.tokenize("ab cab").size(), 2u);
}

TEST(Tokenizer, ALongWordTakesNoQuadraticTime) {
  const Tokenizer tokenizer = Tokenizer::load(golden);
  EXPECT_GT(tokenizer.tokenize(std::string(1 << 20, 'p')).size(), 0u);
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const Tokenizer tokenizer = Tokenizer::load(golden);
  EXPECT_NE(message_of([&] { tokenizer.encode("ab\xff"); }).find("invalid UTF-8 at byte 2"),
            std::string::npos);
}

struct BadFile {
  const char* name;
  const char* file;
  std::function<std::string(std::string)> change;
  const char* core;
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

// Cuts or replaces whole lines of merges.txt; line numbers begin at 1.
std::string with_line(const std::string& text, int line, const std::string& content) {
  size_t begin = 0;
  for (int i = 1; i < line; ++i) begin = text.find('\n', begin) + 1;
  return text.substr(0, begin) + content + text.substr(text.find('\n', begin));
}

TEST(Tokenizer, RefusesBadFilesByName) {
  const BadFile cases[] = {
      {"vocab-dup-id", "vocab.json", [](auto t) { return replaced(t, "\"#\": 2,", "\"#\": 1,"); },
       "vocab.json: id 1 used twice ('\"', '#')"},
      {"vocab-gap", "vocab.json", [](auto t) { return replaced(t, "\"!\": 0, ", ""); },
       "id of '<|endoftext|>' is 699, expected an integer in 0..698"},
      {"vocab-id-2e31", "vocab.json",
       [](auto t) { return replaced(t, "\"#\": 2,", "\"#\": 2147483648,"); },
       "id of '#' is 2147483648, expected an integer in 0..699"},
      {"vocab-neg", "vocab.json", [](auto t) { return replaced(t, "\"#\": 2,", "\"#\": -1,"); },
       "id of '#' is -1, expected an integer in 0..699"},
      {"vocab-float", "vocab.json", [](auto t) { return replaced(t, "\"#\": 2,", "\"#\": 2.5,"); },
       "id of '#' is 2.5"},
      {"vocab-not-object", "vocab.json", [](auto) { return "[1, 2]"; },
       "found array, expected a JSON object"},
      {"vocab-no-end", "vocab.json", [](auto t) { return replaced(t, "<|endoftext|>", "<|fin|>"); },
       "no token '<|endoftext|>'"},
      {"vocab-dup-token", "vocab.json",
       [](auto t) { return replaced(t, "\"#\": 2,", "\"!\": 2,"); }, "key '!' appears twice"},
      {"merges-1-token", "merges.txt", [](auto t) { return with_line(t, 120, "abc"); },
       "merges.txt: line 120: expected two tokens, found 1"},
      {"merges-3-tokens", "merges.txt", [](auto t) { return with_line(t, 7, "a b c"); },
       "line 7: expected two tokens, found 3"},
      {"merges-empty-line", "merges.txt", [](auto t) { return with_line(t, 7, ""); },
       "line 7: expected two tokens, found 0"},
      {"merges-unknown", "merges.txt", [](auto t) { return with_line(t, 120, "zzz qqq"); },
       "line 120: 'zzz' is not in vocab.json"},
      {"merges-bad-utf8", "merges.txt", [](auto t) { return with_line(t, 1, "a \xff"); },
       "invalid UTF-8 at byte 2"},
      {"config-length", "tokenizer_config.json", [](auto t) { return replaced(t, "77", "-1"); },
       "'model_max_length' is -1, expected 2..1048576"},
      {"map-pad-unknown", "special_tokens_map.json",
       [](auto) { return R"({"pad_token": "<pad>"})"; },
       "pad_token: '<pad>' is not in the vocabulary"},
  };
  for (const BadFile& bad : cases) {
    const TempDir folder;
    copy_golden(folder);
    EXPECT_NO_THROW(Tokenizer::load(folder.path()));  // the valid twin
    write_file_atomic(folder / bad.file, bad.change(read_file(folder / bad.file, 1 << 20)));
    const std::string message = message_of([&] { Tokenizer::load(folder.path()); });
    EXPECT_NE(message.find(bad.core), std::string::npos) << bad.name << ": " << message;
  }
}

TEST(Tokenizer, LoadsTheFilesOfOtherTools) {
  const auto merges = read_file(golden / "merges.txt", 1 << 20);
  const auto reference = Tokenizer::load(golden).encode("printed digits, two");
  std::string crlf;
  for (char c : merges) crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
  for (const std::string& variant : {crlf, merges.substr(merges.find('\n') + 1), merges + "\n",
                                     merges.substr(0, merges.size() - 1)}) {
    const TempDir folder;
    copy_golden(folder);
    write_file_atomic(folder / "merges.txt", variant);
    EXPECT_EQ(Tokenizer::load(folder.path()).encode("printed digits, two"), reference);
  }
  // No config at all: CLIP's own settings. "No limit" in a config means 77.
  const TempDir folder;
  copy_golden(folder);
  fs::remove(folder / "special_tokens_map.json");
  write_file_atomic(folder / "tokenizer_config.json",
                    R"({"model_max_length": 1000000000000000019884624838656})");
  EXPECT_EQ(Tokenizer::load(folder.path()).encode("printed digits, two"), reference);
  fs::remove(folder / "tokenizer_config.json");
  EXPECT_EQ(Tokenizer::load(folder.path()).encode("printed digits, two"), reference);
}

TEST(UnicodeWords, NormalisesAndSplits) {
  EXPECT_EQ(normalize_text("  A\t\nB\u00a0e\u0301 \u0130 "), " a b \u00e9 i\u0307 ");
  std::vector<std::string> words;
  for_each_word("it's 12 h\u00e9l!? 'x 'll", [&](std::string_view w) { words.emplace_back(w); });
  EXPECT_EQ(words,
            (std::vector<std::string>{"it", "'s", "1", "2", "h\u00e9l", "!?", "'", "x", "'ll"}));
}

}  // namespace
}  // namespace realfake
