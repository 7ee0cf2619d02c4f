#pragma once
// CLIP's byte-level BPE, as transformers' CLIPTokenizer computes it: NFC, runs of white space to
// one space, lower case; words by the pattern
// 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+; each word's UTF-8 bytes as symbols of
// the byte alphabet, the last with `</w>`; merges by rank.
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace realfake {

// What the files vocab.json and merges.txt hold. A token's id is its index.
struct BpeVocabulary {
  std::vector<std::string> tokens;
  std::vector<std::pair<std::string, std::string>> merges;  // by rank
};

// Learns merges by pair count (ties: the pair that sorts first) until the vocabulary has `size`
// tokens or no pair is left: 256 bytes, 256 bytes with `</w>`, the merges, `<|startoftext|>`,
// `<|endoftext|>`.
BpeVocabulary train_bpe(const std::vector<std::string>& lines, int64_t size);

class Tokenizer {
 public:
  struct Encoding {
    std::vector<int64_t> ids;  // max_length() of them: start, text, end, padding
    int64_t length = 0;        // without the padding
    std::string cut;           // text that did not fit, in its normalised form; usually empty
  };

  // Reads vocab.json, merges.txt and, where present, special_tokens_map.json and
  // tokenizer_config.json of a folder.  InputError.
  static Tokenizer load(const std::filesystem::path& folder);
  // `pad` is a token of the vocabulary (SD 1.x pads with `<|endoftext|>`, SD 2.x with `!`).
  Tokenizer(BpeVocabulary vocabulary, int64_t max_length, const std::string& pad = "<|endoftext|>");

  // Writes the four files; transformers loads the folder unchanged.
  void save(const std::filesystem::path& folder) const;

  std::vector<int64_t> encode(std::string_view text) const { return encode_full(text).ids; }
  Encoding encode_full(std::string_view text) const;
  // Ids of the text alone: no start, no end, no limit. InputError on invalid UTF-8.
  std::vector<int64_t> tokenize(std::string_view text) const;
  std::string decode(const std::vector<int64_t>& ids) const;  // without the special tokens

  int64_t sot() const { return sot_; }
  int64_t eot() const { return eot_; }
  int64_t pad() const { return pad_; }
  int64_t max_length() const { return max_length_; }
  int64_t size() const { return static_cast<int64_t>(vocabulary_.tokens.size()); }

 private:
  // A special token that stands in a text is one id, found in the raw or in the normalised text.
  struct Special {
    std::string text;
    int64_t id;
    bool normalized;
  };
  struct Merge {
    int64_t rank, id;
  };

  int64_t id_of(const std::string& token, const std::string& where) const;
  void set_special(const std::string& text, int64_t id, bool normalized);
  void add_pieces(std::string_view text, bool normalized, std::vector<int64_t>& ids) const;
  void add_words(std::string_view text, std::vector<int64_t>& ids) const;
  void add_word(std::string_view word, std::vector<int64_t>& ids) const;

  BpeVocabulary vocabulary_;
  std::unordered_map<std::string, int64_t> ids_;
  std::unordered_map<uint64_t, Merge> merges_;  // key: left id << 32 | right id
  std::vector<Special> specials_;
  int64_t max_length_ = 77;
  int64_t sot_ = 0, eot_ = 0, pad_ = 0, unknown_ = 0;
};

}  // namespace realfake
