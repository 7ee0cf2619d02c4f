#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>

#include "kernels/base/error.h"
#include "kernels/base/json.h"
#include "kernels/base/text.h"
#include "kernels/dtype.h"

namespace realfake {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

constexpr size_t max_rank = 8;
constexpr size_t max_name = 4096;

struct TypeRow {
  const char* name;
  unsigned bits;
};
constexpr std::array<TypeRow, 22> types = {{
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
}};

std::string shown(const std::filesystem::path& path) {
  return printable(path.string());
}

// Bytes of a tensor, or nothing when the product overflows or does not fill whole bytes.
std::optional<uint64_t> bytes_of(WeightType dtype, const std::vector<int64_t>& shape,
                                 bool& overflow) {
  uint64_t product = 1;
  overflow = false;
  for (int64_t d : shape)
    overflow |= __builtin_mul_overflow(product, static_cast<uint64_t>(d), &product);
  overflow |= __builtin_mul_overflow(product, static_cast<uint64_t>(bits_of(dtype)), &product);
  overflow |= product > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (overflow || product % 8 != 0) return std::nullopt;
  return product / 8;
}

// Reads the header without building a tree, so that a header of 100 MB costs no more than its
// tensors.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  struct Tensor {
    std::string name;
    WeightInfo info;
  };
  HeaderReader(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

  std::vector<Tensor> tensors;
  std::map<std::string, std::string> metadata;

  bool null() override { return scalar("null", std::nullopt, nullptr); }
  bool boolean(bool v) override { return scalar(v ? "true" : "false", std::nullopt, nullptr); }
  bool number_integer(int64_t v) override {
    return scalar(std::to_string(v), std::nullopt, nullptr);
  }
  bool number_unsigned(uint64_t v) override { return scalar(std::to_string(v), v, nullptr); }
  bool number_float(double, const std::string& s) override {
    return scalar(s, std::nullopt, nullptr);
  }
  bool string(std::string& v) override { return scalar("'" + v + "'", std::nullopt, &v); }
  bool binary(Json::binary_t&) override { return false; }  // not part of JSON text

  bool start_object(size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::top;
    } else if (place_ == Place::top) {
      place_ = in_metadata_ ? Place::metadata : Place::tensor;
      if (!in_metadata_) {
        tensors.push_back({name_, {}});
        seen_ = 0;
      }
    } else {
      wrong_value("an object");
    }
    return true;
  }
  bool end_object() override {
    if (place_ == Place::tensor) {
      constexpr const char* keys[] = {"dtype", "shape", "data_offsets"};
      for (unsigned i = 0; i < 3; ++i)
        if (!(seen_ & 1u << i)) fail_tensor(concat("no '", keys[i], "'"));
    }
    place_ = place_ == Place::top ? Place::outside : Place::top;
    return true;
  }
  bool key(std::string& v) override {
    if (place_ == Place::top) {
      if (v.size() > max_name)
        fail(concat("a tensor name has ", v.size(), " bytes, expected at most ", max_name));
      if (v == "__metadata__" && std::exchange(metadata_seen_, true))
        fail("__metadata__ appears twice");
      in_metadata_ = v == "__metadata__";
      name_ = v;
    } else if (place_ == Place::metadata) {
      if (metadata.count(v)) fail(concat("__metadata__['", printable(v), "'] appears twice"));
    } else {
      const unsigned bit = v == "dtype" ? 1 : v == "shape" ? 2 : v == "data_offsets" ? 4 : 0;
      if (bit == 0) fail_tensor(concat("unknown key '", printable(v), "'"));
      if (seen_ & bit) fail_tensor(concat("'", v, "' appears twice"));
      seen_ |= bit;
    }
    key_ = v;
    return true;
  }
  bool start_array(size_t) override {
    if (place_ != Place::tensor || key_ == "dtype") wrong_value("an array");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    count_ = 0;
    offsets_text_.clear();
    offsets_good_ = true;
    return true;
  }
  bool end_array() override {
    if (place_ == Place::shape && count_ > max_rank)
      fail_tensor(concat("rank ", count_, " exceeds ", max_rank));
    if (place_ == Place::offsets) {
      if (count_ != 2 || !offsets_good_ || offsets_[0] > offsets_[1])
        fail_tensor(concat("bad data_offsets [", printable(offsets_text_), "]"));
      tensors.back().info.begin = offsets_[0];
      tensors.back().info.bytes = offsets_[1] - offsets_[0];
    }
    place_ = Place::tensor;
    return true;
  }
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    if (error.id == 406) {  // 1e400: out of a double's range; the parser goes no further
      if (place_ == Place::offsets)
        fail_tensor(concat("bad data_offsets [", printable(token), "]"));
      scalar(token, std::nullopt, nullptr);
    }
    fail("header: " + json_syntax_message(text_, position, token, error));
  }

 private:
  enum class Place { outside, top, metadata, tensor, shape, offsets };

  [[noreturn]] void fail(const std::string& what) const {
    constexpr size_t most = max_name + 1000;  // a value from the file can be of any length
    throw InputError(where_ + ": " + (what.size() > most ? what.substr(0, most) + "..." : what));
  }
  [[noreturn]] void fail_tensor(const std::string& what) const {
    fail(concat("tensor '", printable(name_), "': ", what));
  }
  [[noreturn]] void wrong_value(const std::string& found) const {
    if (place_ == Place::metadata)
      fail(concat("__metadata__['", printable(key_), "'] is not a string"));
    if (place_ == Place::shape) bad_dimension();
    if (place_ == Place::offsets)
      fail_tensor(concat("data_offsets holds ", found, ", expected two integers"));
    if (place_ == Place::tensor) fail_tensor(concat("'", key_, "' is ", printable(found)));
    if (in_metadata_) fail("__metadata__ is not an object");
    fail_tensor(concat("found ", printable(found), ", expected an object"));
  }
  [[noreturn]] void bad_dimension() const {
    fail_tensor(concat("shape[", count_, "] is not an integer in 0..2^63-1"));
  }

  // Every value that is not a container comes through here.
  bool scalar(const std::string& shown_value, std::optional<uint64_t> number, std::string* text) {
    constexpr uint64_t largest = std::numeric_limits<int64_t>::max();
    if (place_ == Place::metadata) {
      if (!text) wrong_value(shown_value);
      metadata[key_] = *text;
    } else if (place_ == Place::shape) {
      if (!number || *number > largest) bad_dimension();
      // A rank past the limit is counted to the end for its message, not stored.
      if (count_ < max_rank) tensors.back().info.shape.push_back(static_cast<int64_t>(*number));
      ++count_;
    } else if (place_ == Place::offsets) {
      if (count_ < 4) offsets_text_ += (count_ ? "," : "") + shown_value;
      offsets_good_ = offsets_good_ && number && *number <= largest;
      if (count_ < 2) offsets_[count_] = number.value_or(0);
      ++count_;
    } else if (place_ == Place::tensor && key_ == "dtype" && text) {
      const auto row = std::find_if(types.begin(), types.end(),
                                    [&](const TypeRow& t) { return *text == t.name; });
      if (row == types.end()) fail_tensor(concat("unknown dtype '", printable(*text), "'"));
      tensors.back().info.dtype = static_cast<WeightType>(row - types.begin());
    } else {
      wrong_value(shown_value);
    }
    return true;
  }

  std::string_view text_;
  std::string where_;
  Place place_ = Place::outside;
  bool in_metadata_ = false, metadata_seen_ = false, offsets_good_ = true;
  unsigned seen_ = 0;
  std::string name_, key_, offsets_text_;
  size_t count_ = 0;
  uint64_t offsets_[2] = {0, 0};
};

// What people most often have instead of weights. Called only when the start of the file is not a
// header.
void refuse_known_kinds(const std::string& where, std::string_view start) {
  if (start.starts_with("version https://git-lfs"))
    throw InputError(where + ": a Git LFS pointer, not the weights");
  if (start.starts_with("GGUF")) throw InputError(where + ": GGUF is not supported");
  if (start.starts_with("PK\x03\x04"))
    throw InputError(where + ": a PyTorch zip; run `realfake convert`");
  const size_t text = start.find_first_not_of(" \t\r\n");
  if (text == std::string_view::npos) return;
  std::string lower(start.substr(text, 15));
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (lower.starts_with("<!doctype html") || lower.starts_with("<html") ||
      lower.starts_with("<?xml"))
    throw InputError(where + ": an HTML page, not weights");
}

// Reads the header's text after all checks that need no JSON.
std::string read_header(const InputFile& file) {
  const std::string where = shown(file.path());
  const uint64_t size = file.size();
  if (size == 0) throw InputError(where + ": empty file");
  std::string start(static_cast<size_t>(std::min<uint64_t>(size, 512)), '\0');
  file.read(start.data(), start.size(), 0);
  uint64_t length = 0;
  if (size >= 8) std::memcpy(&length, start.data(), 8);
  if (size < 9 || length > SafetensorsFile::header_limit || start[8] != '{')
    refuse_known_kinds(where, start);
  if (size < 8) throw InputError(concat(where, ": ", size, " bytes; a header length needs 8"));
  if (length > SafetensorsFile::header_limit)
    throw InputError(concat(where, ": header length ", length, " exceeds the limit ",
                            SafetensorsFile::header_limit));
  if (length > size - 8)
    throw InputError(concat(where, ": header ends at byte ", length + 8, " but the file has ", size,
                            " (incomplete download?)"));
  if (length == 0) throw InputError(where + ": header is not a JSON object (it is empty)");
  if (start[8] != '{') {
    constexpr char digits[] = "0123456789abcdef";
    const auto byte = static_cast<uint8_t>(start[8]);
    throw InputError(concat(where, ": header is not a JSON object (byte 8 is 0x", digits[byte >> 4],
                            digits[byte & 15], ")"));
  }
  std::string header(static_cast<size_t>(length), '\0');
  file.read(header.data(), header.size(), 8);
  const size_t valid = valid_utf8_prefix(header);
  if (valid != header.size())
    throw InputError(concat(where, ": invalid UTF-8 in header at byte ", 8 + valid));
  check_json_guards(header, where, 8);
  return header;
}

}  // namespace

const char* name_of(WeightType t) {
  return types[static_cast<size_t>(t)].name;
}
unsigned bits_of(WeightType t) {
  return types[static_cast<size_t>(t)].bits;
}

int64_t WeightInfo::numel() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? "," : "") + std::to_string(shape[i]);
  return text + "]";
}

// SafetensorsFile
// -------------------------------------------------------------------------------------

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::string where = shown(path);
  std::string header = read_header(file_);
  const uint64_t data_begin = 8 + header.size();
  HeaderReader reader(header, where);
  Json::sax_parse(header, &reader);
  header = std::string();
  auto& tensors = reader.tensors;
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (size_t i = 1; i < tensors.size(); ++i)
    if (tensors[i].name == tensors[i - 1].name)
      throw InputError(concat(where, ": tensor '", printable(tensors[i].name), "' appears twice"));
  for (const auto& [name, info] : tensors) {
    bool overflow = false;
    const auto bytes = bytes_of(info.dtype, info.shape, overflow);
    const std::string tensor = concat(where, ": tensor '", printable(name), "': ");
    if (overflow) throw InputError(tensor + "shape product overflows");
    if (!bytes)
      throw InputError(concat(tensor, name_of(info.dtype), " ", shape_text(info.shape),
                              " does not fill whole bytes"));
    if (*bytes != info.bytes)
      throw InputError(concat(tensor, name_of(info.dtype), " ", shape_text(info.shape), " needs ",
                              *bytes, " bytes, offsets give ", info.bytes));
  }
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const WeightInfo &x = tensors[a].info, &y = tensors[b].info;
    return x.begin != y.begin ? x.begin < y.begin : x.bytes < y.bytes;
  });
  uint64_t expected = 0;
  for (size_t i : order) {
    WeightInfo& info = tensors[i].info;
    if (info.begin != expected)
      throw InputError(concat(where, ": tensor '", printable(tensors[i].name), "': data starts at ",
                              info.begin, ", expected ", expected));
    expected += info.bytes;  // both under 2^63
    info.begin += data_begin;
  }
  const uint64_t end = data_begin + expected;
  if (end > file_.size())
    throw InputError(concat(where, ": tensor data ends at byte ", end, ", file at ", file_.size(),
                            " (incomplete download?)"));
  if (const uint64_t extra = file_.size() - end; extra != 0)
    throw InputError(
        concat(where, ": ", extra, extra == 1 ? " byte" : " bytes", " after the last tensor"));
  names_.reserve(tensors.size());
  infos_.reserve(tensors.size());
  for (auto& tensor : tensors) {
    names_.push_back(std::move(tensor.name));
    infos_.push_back(std::move(tensor.info));
  }
  metadata_ = std::move(reader.metadata);
}

bool SafetensorsFile::has(const std::string& name) const {
  return std::binary_search(names_.begin(), names_.end(), name);
}

const WeightInfo& SafetensorsFile::info(const std::string& name) const {
  const auto at = std::lower_bound(names_.begin(), names_.end(), name);
  if (at == names_.end() || *at != name)
    throw InputError(concat(shown(path()), ": missing '", printable(name), "'"));
  return infos_[static_cast<size_t>(at - names_.begin())];
}

void SafetensorsFile::read(const std::string& name, void* to) const {
  const WeightInfo& tensor = info(name);
  file_.read(to, static_cast<size_t>(tensor.bytes), tensor.begin);
}

namespace {

// Converts a tensor's bytes piece by piece, so that only one piece is held beside the result.
template <class Stored, class Out, class Convert>
void convert_pieces(const InputFile& file, const WeightInfo& tensor, Out* out, Convert&& convert) {
  constexpr size_t piece = 1 << 17;
  std::vector<Stored> buffer(std::min<size_t>(piece, static_cast<size_t>(tensor.numel())));
  const auto count = static_cast<size_t>(tensor.numel());
  for (size_t at = 0; at < count; at += piece) {
    const size_t n = std::min(piece, count - at);
    file.read(buffer.data(), n * sizeof(Stored), tensor.begin + at * sizeof(Stored));
    for (size_t i = 0; i < n; ++i) out[at + i] = static_cast<Out>(convert(buffer[i]));
  }
}

constexpr auto same = [](auto v) { return v; };

}  // namespace

std::vector<float> SafetensorsFile::read_f32(const std::string& name) const {
  const WeightInfo& tensor = info(name);
  const std::string where = concat(shown(path()), ": tensor '", printable(name), "': ");
  std::vector<float> values;
  const auto allocate = [&] {
    values.resize(static_cast<size_t>(tensor.numel()));
    return values.data();
  };
  switch (tensor.dtype) {
    case WeightType::f32:
      file_.read(allocate(), static_cast<size_t>(tensor.bytes), tensor.begin);
      break;
    case WeightType::f64:
      convert_pieces<double>(file_, tensor, allocate(), same);
      break;
    case WeightType::f16:
      convert_pieces<uint16_t>(file_, tensor, allocate(), f16_to_f32);
      break;
    case WeightType::bf16:
      convert_pieces<uint16_t>(file_, tensor, allocate(), bf16_to_f32);
      break;
    default:
      throw InputError(concat(where, "dtype ", name_of(tensor.dtype), " where a float is needed"));
  }
  if (allow_nonfinite_) return values;
  size_t nan = 0, infinite = 0, first = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    if (nan + infinite == 0) first = i;
    ++(std::isnan(values[i]) ? nan : infinite);
  }
  if (nan + infinite == 0) return values;
  std::string found = nan ? concat(nan, " NaN") : "";
  if (infinite) found += concat(nan ? " and " : "", infinite, " infinite");
  throw InputError(concat(where, found, ", first at index ", first));
}

std::vector<int64_t> SafetensorsFile::read_i64(const std::string& name) const {
  const WeightInfo& tensor = info(name);
  std::vector<int64_t> values;
  const auto allocate = [&] {
    values.resize(static_cast<size_t>(tensor.numel()));
    return values.data();
  };
  const std::string where = concat(shown(path()), ": tensor '", printable(name), "': ");
  switch (tensor.dtype) {
    case WeightType::i64:
      convert_pieces<int64_t>(file_, tensor, allocate(), same);
      break;
    case WeightType::i32:
      convert_pieces<int32_t>(file_, tensor, allocate(), same);
      break;
    case WeightType::i16:
      convert_pieces<int16_t>(file_, tensor, allocate(), same);
      break;
    case WeightType::i8:
      convert_pieces<int8_t>(file_, tensor, allocate(), same);
      break;
    case WeightType::u32:
      convert_pieces<uint32_t>(file_, tensor, allocate(), same);
      break;
    case WeightType::u16:
      convert_pieces<uint16_t>(file_, tensor, allocate(), same);
      break;
    case WeightType::u8:
    case WeightType::boolean:
      convert_pieces<uint8_t>(file_, tensor, allocate(), same);
      break;
    case WeightType::u64:
      convert_pieces<uint64_t>(file_, tensor, allocate(), [&](uint64_t v) {
        if (v > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
          throw InputError(concat(where, "found ", v, ", expected at most 2^63-1"));
        return v;
      });
      break;
    default:
      throw InputError(
          concat(where, "dtype ", name_of(tensor.dtype), " where an integer is needed"));
  }
  return values;
}

// SafetensorsWriter
// -----------------------------------------------------------------------------------

void SafetensorsWriter::add_entry(const std::string& name, WeightType dtype,
                                  const std::vector<int64_t>& shape, const void* data, bool copy) {
  require(
      name != "__metadata__" && name.size() <= max_name && valid_utf8_prefix(name) == name.size(),
      "[safetensors] '", printable(name), "' cannot be a tensor's name");
  require(names_.insert(name).second, "[safetensors] tensor '", name, "' added twice");
  require(shape.size() <= max_rank, "[safetensors] '", name, "' has rank ", shape.size());
  for (int64_t d : shape)
    require(d >= 0, "[safetensors] '", name, "' has shape ", shape_text(shape));
  bool overflow = false;
  const auto bytes = bytes_of(dtype, shape, overflow);
  require(bytes.has_value(), "[safetensors] '", name, "': no size for ", name_of(dtype), " ",
          shape_text(shape));
  const auto* from = static_cast<const char*>(data);
  Entry entry{name, dtype, shape, nullptr, from, *bytes};
  if (copy) {
    entry.owned = std::make_shared<std::vector<char>>(from, from + *bytes);
    entry.data = entry.owned->data();
  }
  entries_.push_back(std::move(entry));
}

void SafetensorsWriter::add(const std::string& name, WeightType dtype,
                            const std::vector<int64_t>& shape, const void* data) {
  add_entry(name, dtype, shape, data, true);
}

void SafetensorsWriter::add_view(const std::string& name, WeightType dtype,
                                 const std::vector<int64_t>& shape, const void* data) {
  add_entry(name, dtype, shape, data, false);
}

void SafetensorsWriter::add_f32(const std::string& name, const std::vector<int64_t>& shape,
                                const float* data) {
  add_entry(name, WeightType::f32, shape, data, true);
}

void SafetensorsWriter::add_i64(const std::string& name, const std::vector<int64_t>& shape,
                                const int64_t* data) {
  add_entry(name, WeightType::i64, shape, data, true);
}

void SafetensorsWriter::add_f16(const std::string& name, const std::vector<int64_t>& shape,
                                const float* data) {
  const int64_t count =
      std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  std::vector<uint16_t> halves(static_cast<size_t>(count));
  std::transform(data, data + count, halves.begin(), f32_to_f16);
  add_entry(name, WeightType::f16, shape, halves.data(), true);
}

void SafetensorsWriter::add_bf16(const std::string& name, const std::vector<int64_t>& shape,
                                 const float* data) {
  const int64_t count =
      std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  std::vector<uint16_t> halves(static_cast<size_t>(count));
  std::transform(data, data + count, halves.begin(), f32_to_bf16);
  add_entry(name, WeightType::bf16, shape, halves.data(), true);
}

void SafetensorsWriter::write(const std::filesystem::path& path) const {
  std::vector<const Entry*> order;
  for (const Entry& entry : entries_) order.push_back(&entry);
  // Widest alignment first, so that with a padded header every tensor is aligned to its own dtype.
  std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
    return a->dtype != b->dtype ? a->dtype > b->dtype : a->name < b->name;
  });
  std::string header = "{";
  if (!metadata_.empty()) header += "\"__metadata__\":" + nlohmann::json(metadata_).dump();
  uint64_t at = 0;
  for (const Entry* entry : order) {
    if (header.size() > 1) header += ',';
    header += concat(nlohmann::json(entry->name).dump(), ":{\"dtype\":\"", name_of(entry->dtype),
                     "\",\"shape\":", shape_text(entry->shape), ",\"data_offsets\":[", at, ",",
                     at + entry->bytes, "]}");
    at += entry->bytes;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  require(header.size() <= SafetensorsFile::header_limit, "[safetensors] header of ", header.size(),
          " bytes");
  AtomicFile file(path);
  const uint64_t length = header.size();
  // Small tensors are gathered into one write.
  std::string pending(reinterpret_cast<const char*>(&length), 8);
  pending += header;
  for (const Entry* entry : order) {
    if (entry->bytes < (1u << 16)) pending.append(entry->data, entry->bytes);
    if (entry->bytes >= (1u << 16) || pending.size() >= (1u << 20)) {
      file.write(pending);
      pending.clear();
    }
    if (entry->bytes >= (1u << 16)) file.write(entry->data, entry->bytes);
  }
  file.write(pending);
  file.commit();
}

}  // namespace realfake
