#include "model/tokenizer.h"

#include <algorithm>
#include <array>
#include <map>
#include <queue>

#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "kernels/base/text.h"
#include "model/unicode_words.h"

namespace realfake {
namespace {

const std::string start_text = "<|startoftext|>", end_text = "<|endoftext|>", word_end = "</w>";
constexpr int64_t most_tokens = 1 << 22;

// The byte alphabet of GPT-2: printable bytes stand for themselves, the others for U+0100, U+0101,
// ...
struct ByteAlphabet {
  std::array<std::string, 256> symbol;
  std::vector<uint8_t> order;  // of the vocabulary: printable bytes first
  std::unordered_map<uint32_t, uint8_t> byte;
  ByteAlphabet() {
    const auto printable_byte = [](int b) {
      return (b >= '!' && b <= '~') || (b >= 0xa1 && b != 0xad);
    };
    uint32_t next = 256;
    for (const bool printed : {true, false})
      for (int b = 0; b < 256; ++b) {
        if (printable_byte(b) != printed) continue;
        const uint32_t character = printed ? static_cast<uint32_t>(b) : next++;
        append_utf8(symbol[static_cast<size_t>(b)], character);
        byte[character] = static_cast<uint8_t>(b);
        order.push_back(static_cast<uint8_t>(b));
      }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet table;
  return table;
}

uint64_t pair_key(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

std::string shown(const std::filesystem::path& path) {
  return printable(path.string());
}

std::vector<std::string> read_vocab(const std::filesystem::path& path) {
  const Json document = read_json(path);
  const std::string where = shown(path);
  if (!document.is_object())
    throw InputError(concat(where, ": found ", document.type_name(), ", expected a JSON object"));
  const auto count = static_cast<int64_t>(document.size());
  if (count > most_tokens)
    throw InputError(concat(where, ": ", count, " tokens, expected at most ", most_tokens));
  std::vector<std::string> tokens(static_cast<size_t>(count));
  std::vector<bool> used(static_cast<size_t>(count));
  // n different ids in 0..n-1 leave no gap.
  for (const auto& [token, id] : document.items()) {
    const bool fits = id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(count);
    if (!fits)
      throw InputError(concat(where, ": id of '", printable(token), "' is ", printable(id.dump()),
                              ", expected an integer in 0..", count - 1, " (", count,
                              " tokens, no gap)"));
    const auto at = id.get<size_t>();
    if (used[at])
      throw InputError(concat(where, ": id ", at, " used twice ('", printable(tokens[at]), "', '",
                              printable(token), "')"));
    used[at] = true;
    tokens[at] = token;
  }
  return tokens;
}

std::vector<std::pair<std::string, std::string>> read_merges(const std::filesystem::path& path) {
  const std::string text = read_file(path, 64 << 20);
  const std::string where = shown(path);
  if (const size_t valid = valid_utf8_prefix(text); valid != text.size())
    throw InputError(concat(where, ": invalid UTF-8 at byte ", valid));
  std::vector<std::pair<std::string, std::string>> merges;
  int64_t line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line_number == 1 && line.starts_with("#version")) continue;
    if (line.empty() && begin >= text.size()) break;
    std::vector<std::string> parts;
    for (size_t at = 0; at < line.size();) {
      const size_t stop = std::min(line.find(' ', at), line.size());
      if (stop > at) parts.emplace_back(line.substr(at, stop - at));
      at = stop + 1;
    }
    if (parts.size() != 2)
      throw InputError(
          concat(where, ": line ", line_number, ": expected two tokens, found ", parts.size()));
    merges.emplace_back(std::move(parts[0]), std::move(parts[1]));
  }
  return merges;
}

}  // namespace

BpeVocabulary train_bpe(const std::vector<std::string>& lines, int64_t size) {
  require(size >= 514, "[train_bpe] a vocabulary needs at least 514 tokens, asked for ", size);
  BpeVocabulary result;
  for (const std::string& end : {std::string(), word_end})
    for (uint8_t b : alphabet().order) result.tokens.push_back(alphabet().symbol[b] + end);

  // Each different word once, as symbols, with its count. std::map order keeps the result
  // reproducible.
  std::map<std::string, int64_t> counts;
  for (const std::string& line : lines)
    for_each_word(normalize_text(line),
                  [&](std::string_view word) { ++counts[std::string(word)]; });
  std::vector<std::pair<std::vector<std::string>, int64_t>> words;
  for (const auto& [word, count] : counts) {
    std::vector<std::string> symbols;
    for (char c : word) symbols.push_back(alphabet().symbol[static_cast<uint8_t>(c)]);
    symbols.back() += word_end;
    words.emplace_back(std::move(symbols), count);
  }
  while (static_cast<int64_t>(result.tokens.size()) + 2 < size) {
    std::map<std::pair<std::string, std::string>, int64_t> pairs;
    for (const auto& [symbols, count] : words)
      for (size_t i = 1; i < symbols.size(); ++i) pairs[{symbols[i - 1], symbols[i]}] += count;
    if (pairs.empty()) break;
    const auto best =
        std::max_element(pairs.begin(), pairs.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto [left, right] = best->first;
    for (auto& word : words) {
      auto& symbols = word.first;
      std::vector<std::string> merged;
      for (size_t i = 0; i < symbols.size(); ++i) {
        const bool here = i + 1 < symbols.size() && symbols[i] == left && symbols[i + 1] == right;
        merged.push_back(here ? left + right : symbols[i]);
        i += here;
      }
      symbols = std::move(merged);
    }
    // Two different pairs can spell the same token; a token has one id and one merge that makes it
    // first.
    if (std::find(result.tokens.begin(), result.tokens.end(), left + right) == result.tokens.end())
      result.tokens.push_back(left + right);
    result.merges.emplace_back(left, right);
  }
  result.tokens.push_back(start_text);
  result.tokens.push_back(end_text);
  return result;
}

Tokenizer::Tokenizer(BpeVocabulary vocabulary, int64_t max_length, const std::string& pad)
    : vocabulary_(std::move(vocabulary)), max_length_(max_length) {
  require(max_length >= 2, "[tokenizer] max_length ", max_length, " has no room for start and end");
  for (size_t i = 0; i < vocabulary_.tokens.size(); ++i)
    ids_[vocabulary_.tokens[i]] = static_cast<int64_t>(i);
  int64_t rank = 0;
  for (const auto& [left, right] : vocabulary_.merges) {
    const auto key = pair_key(id_of(left, "merges"), id_of(right, "merges"));
    merges_[key] = {rank++, id_of(left + right, "merges")};
  }
  sot_ = id_of(start_text, "vocabulary");
  eot_ = unknown_ = id_of(end_text, "vocabulary");
  pad_ = id_of(pad, "vocabulary");
  set_special(start_text, sot_, false);
  set_special(end_text, eot_, false);
  set_special(pad, pad_, false);
}

int64_t Tokenizer::id_of(const std::string& token, const std::string& where) const {
  const auto at = ids_.find(token);
  if (at == ids_.end())
    throw InputError(concat(where, ": '", printable(token), "' is not in the vocabulary"));
  return at->second;
}

void Tokenizer::set_special(const std::string& text, int64_t id, bool normalized) {
  for (Special& special : specials_)
    if (special.text == text) {
      special.normalized = normalized;
      return;
    }
  specials_.push_back({text, id, normalized});
}

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  BpeVocabulary vocabulary;
  const auto vocab_path = folder / "vocab.json", merges_path = folder / "merges.txt";
  vocabulary.tokens = read_vocab(vocab_path);
  vocabulary.merges = read_merges(merges_path);
  {
    std::unordered_map<std::string_view, int> known;
    for (const auto& token : vocabulary.tokens) known[token] = 1;
    // Line numbers: the constructor would name the token, but not where it stands.
    const bool headed = read_file(merges_path, 64 << 20).starts_with("#version");
    for (size_t i = 0; i < vocabulary.merges.size(); ++i) {
      const auto& [left, right] = vocabulary.merges[i];
      for (const std::string& token : {left, right, left + right})
        if (!known.count(token))
          throw InputError(concat(shown(merges_path), ": line ", i + 1 + headed, ": '",
                                  printable(token), "' is not in vocab.json"));
    }
    for (const std::string& token : {start_text, end_text})
      if (!known.count(token))
        throw InputError(concat(shown(vocab_path), ": no token '", token, "'"));
  }

  // transformers' rule: tokenizer_config.json counts; special_tokens_map.json overrides it unless
  // the config lists `added_tokens_decoder` (a file written by a newer version).
  const auto config_path = folder / "tokenizer_config.json",
             map_path = folder / "special_tokens_map.json";
  const Json config =
      std::filesystem::exists(config_path) ? read_json(config_path, 16 << 20) : Json::object();
  const JsonReader reader(config, shown(config_path));
  const bool newer = reader.has("added_tokens_decoder");
  const Json map =
      !newer && std::filesystem::exists(map_path) ? read_json(map_path, 16 << 20) : Json::object();
  const JsonReader map_reader(map, shown(map_path));
  Tokenizer tokenizer(std::move(vocabulary), 77);

  // Absent or "no limit" (1e30 in files) means CLIP's 77.
  if (reader.has("model_max_length")) {
    const Json& value = reader.at("model_max_length");
    if (!(value.is_number_float() && value.get<double>() >= 1e18))
      tokenizer.max_length_ = reader.integer("model_max_length", 2, 1 << 20);
  }
  const auto special = [&](const char* key, int64_t& id) {
    const bool overridden = map_reader.has(key);
    const JsonReader& from = overridden ? map_reader : reader;
    if (!from.has(key)) return;
    const Json& value = from.at(key);
    std::string text;
    bool normalized = false;
    if (value.is_object()) {
      const JsonReader token(value, concat(from.where(), ": ", key));
      text = token.text("content");
      normalized = token.boolean_or("normalized", false);
    } else {
      text = from.text(key);
    }
    id = tokenizer.id_of(text, concat(from.where(), ": ", key));
    tokenizer.set_special(text, id, normalized);
  };
  special("bos_token", tokenizer.sot_);
  special("eos_token", tokenizer.eot_);
  special("unk_token", tokenizer.unknown_);
  special("pad_token", tokenizer.pad_);
  if (newer) {
    const Json& added = reader.at("added_tokens_decoder");
    const JsonReader check(added, concat(reader.where(), ": added_tokens_decoder"));
    for (const auto& [key, value] : added.items()) {
      const JsonReader token(value, concat(check.where(), ": '", printable(key), "'"));
      const std::string text = token.text("content");
      const int64_t id = tokenizer.id_of(text, token.where());
      if (key != std::to_string(id))
        throw InputError(
            concat(token.where(), ": '", printable(text), "' has id ", id, " in vocab.json"));
      tokenizer.set_special(text, id, token.boolean_or("normalized", false));
    }
  }
  return tokenizer;
}

void Tokenizer::save(const std::filesystem::path& folder) const {
  Json vocab = Json::object();
  auto& entries = static_cast<Json::object_t::Container&>(vocab.get_ref<Json::object_t&>());
  for (size_t i = 0; i < vocabulary_.tokens.size(); ++i)
    entries.emplace_back(vocabulary_.tokens[i], i);
  std::string merges = "#version: 0.2\n";
  for (const auto& [left, right] : vocabulary_.merges) merges += concat(left, " ", right, "\n");
  const auto token = [&](int64_t id) { return vocabulary_.tokens[static_cast<size_t>(id)]; };
  const Json special = {{"bos_token", token(sot_)},
                        {"eos_token", token(eot_)},
                        {"unk_token", token(unknown_)},
                        {"pad_token", token(pad_)}};
  Json config = {{"tokenizer_class", "CLIPTokenizer"},
                 {"model_max_length", max_length_},
                 {"add_prefix_space", false},
                 {"do_lower_case", true},
                 {"errors", "replace"}};
  config.update(special);
  write_file_atomic(folder / "vocab.json", vocab.dump() + "\n");
  write_file_atomic(folder / "merges.txt", merges);
  write_json_atomic(folder / "special_tokens_map.json", special);
  write_json_atomic(folder / "tokenizer_config.json", config);
}

// Encoding
// --------------------------------------------------------------------------------------------

void Tokenizer::add_word(std::string_view word, std::vector<int64_t>& ids) const {
  // A chain of symbols and a heap of the pairs that can merge: lowest rank first, then leftmost.
  struct Symbol {
    int64_t id;
    int next;
    int previous;
  };
  std::vector<Symbol> chain;
  for (size_t i = 0; i < word.size(); ++i) {
    const bool last = i + 1 == word.size();
    const auto at =
        ids_.find(alphabet().symbol[static_cast<uint8_t>(word[i])] + (last ? word_end : ""));
    const int here = static_cast<int>(i);
    chain.push_back({at == ids_.end() ? unknown_ : at->second, last ? -1 : here + 1, here - 1});
  }
  struct Candidate {
    int64_t rank;
    int at;
    int64_t left, right, merged;
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto offer = [&](int at) {
    if (at < 0 || chain[static_cast<size_t>(at)].next < 0) return;
    const Symbol& left = chain[static_cast<size_t>(at)];
    const int64_t right = chain[static_cast<size_t>(left.next)].id;
    if (const auto found = merges_.find(pair_key(left.id, right)); found != merges_.end())
      heap.push({found->second.rank, at, left.id, right, found->second.id});
  };
  for (size_t i = 0; i < chain.size(); ++i) offer(static_cast<int>(i));
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    Symbol& left = chain[static_cast<size_t>(best.at)];
    // Stale: one of the two was merged into something else meanwhile (a swallowed symbol has id
    // -1).
    if (left.id != best.left || left.next < 0 ||
        chain[static_cast<size_t>(left.next)].id != best.right)
      continue;
    Symbol& right = chain[static_cast<size_t>(left.next)];
    left.id = best.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) chain[static_cast<size_t>(left.next)].previous = best.at;
    offer(left.previous);
    offer(best.at);
  }
  for (int at = chain.empty() ? -1 : 0; at >= 0; at = chain[static_cast<size_t>(at)].next)
    ids.push_back(chain[static_cast<size_t>(at)].id);
}

void Tokenizer::add_words(std::string_view text, std::vector<int64_t>& ids) const {
  for_each_word(text, [&](std::string_view word) { add_word(word, ids); });
}

// Cuts the text at special tokens, first those of the raw text, then those of the normalised
// pieces.
void Tokenizer::add_pieces(std::string_view text, bool normalized,
                           std::vector<int64_t>& ids) const {
  const auto flush = [&](std::string_view piece) {
    if (piece.empty()) return;
    if (normalized)
      add_words(piece, ids);
    else
      add_pieces(normalize_text(piece), true, ids);
  };
  std::vector<std::pair<std::string, int64_t>> wanted;
  for (const Special& special : specials_)
    if (special.normalized == normalized)
      wanted.emplace_back(normalized ? normalize_text(special.text) : special.text, special.id);
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const std::pair<std::string, int64_t>* longest = nullptr;
    for (const auto& entry : wanted)
      if (!entry.first.empty() && text.substr(at).starts_with(entry.first) &&
          (!longest || entry.first.size() > longest->first.size()))
        longest = &entry;
    if (!longest) {
      ++at;
      continue;
    }
    flush(text.substr(begin, at - begin));
    ids.push_back(longest->second);
    at += longest->first.size();
    begin = at;
  }
  flush(text.substr(begin));
}

std::vector<int64_t> Tokenizer::tokenize(std::string_view text) const {
  if (const size_t valid = valid_utf8_prefix(text); valid != text.size())
    throw InputError(
        concat("prompt '", printable(text.substr(0, 40)), "': invalid UTF-8 at byte ", valid));
  std::vector<int64_t> ids;
  add_pieces(text, false, ids);
  return ids;
}

Tokenizer::Encoding Tokenizer::encode_full(std::string_view text) const {
  const std::vector<int64_t> words = tokenize(text);
  const auto kept = std::min(words.size(), static_cast<size_t>(max_length_ - 2));
  Encoding result;
  result.ids.reserve(static_cast<size_t>(max_length_));
  result.ids.push_back(sot_);
  result.ids.insert(result.ids.end(), words.begin(),
                    words.begin() + static_cast<std::ptrdiff_t>(kept));
  result.ids.push_back(eot_);
  result.length = static_cast<int64_t>(result.ids.size());
  result.ids.resize(static_cast<size_t>(max_length_), pad_);
  result.cut = decode({words.begin() + static_cast<std::ptrdiff_t>(kept), words.end()});
  return result;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids) const {
  std::string text;
  for (int64_t id : ids) {
    require(id >= 0 && id < size(), "[tokenizer] id ", id, " is not in 0..", size() - 1);
    if (id == sot_ || id == eot_) continue;
    std::string_view token = vocabulary_.tokens[static_cast<size_t>(id)];
    const bool ends = token.ends_with(word_end);
    if (ends) token.remove_suffix(word_end.size());
    uint32_t character = 0;
    for (size_t at = 0; at < token.size();) {
      at += std::max<size_t>(decode_utf8(token, at, character), 1);
      const auto byte = alphabet().byte.find(character);
      if (byte != alphabet().byte.end()) text.push_back(static_cast<char>(byte->second));
    }
    if (ends) text.push_back(' ');
  }
  while (text.ends_with(' ')) text.pop_back();
  return text;
}

}  // namespace realfake
