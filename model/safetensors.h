#pragma once
// Weight files: https://github.com/huggingface/safetensors, read strictly.
//
// Layout: u64 N (little endian), N bytes of JSON `name -> {dtype, shape, data_offsets}`, then the
// data. A file is refused unless its tensors cover the data section exactly: no hole, no overlap,
// no byte after the last one. Errors are InputError `FILE: found X, expected Y`; a file that
// shrinks is an IoError.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/base/file.h"

namespace realfake {

// The dtypes of the format, in its own order (by alignment): files are laid out from last to first.
enum class WeightType : uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64
};
const char* name_of(WeightType t);  // "F32"
unsigned bits_of(WeightType t);

struct WeightInfo {
  WeightType dtype = WeightType::f32;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // of the data, in the file
  uint64_t bytes = 0;
  int64_t numel() const;
};

std::string shape_text(const std::vector<int64_t>& shape);  // "[2,3]"

class SafetensorsFile {
 public:
  static constexpr uint64_t header_limit = 100'000'000;

  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::vector<std::string>& names() const { return names_; }  // sorted
  bool has(const std::string& name) const;
  const WeightInfo& info(const std::string& name) const;  // InputError "missing 'x'"
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  void read(const std::string& name, void* to) const;  // the bytes as they are stored
  // F16, BF16, F32 and F64 as float. NaN and infinity are refused unless `allow_nonfinite`.
  std::vector<float> read_f32(const std::string& name) const;
  std::vector<int64_t> read_i64(const std::string& name) const;  // any integer or boolean dtype
  void allow_nonfinite(bool allow) { allow_nonfinite_ = allow; }

 private:
  InputFile file_;
  std::vector<std::string> names_;
  std::vector<WeightInfo> infos_;  // beside names_
  std::map<std::string, std::string> metadata_;
  bool allow_nonfinite_ = false;
};

// Collects tensors, then writes them in one go. A broken rule (name twice, wrong size) is a
// ContractError.
class SafetensorsWriter {
 public:
  // Copies the data.
  void add(const std::string& name, WeightType dtype, const std::vector<int64_t>& shape,
           const void* data);
  // Keeps the pointer: the data must live until write() returns.
  void add_view(const std::string& name, WeightType dtype, const std::vector<int64_t>& shape,
                const void* data);
  void add_f32(const std::string& name, const std::vector<int64_t>& shape, const float* data);
  void add_f16(const std::string& name, const std::vector<int64_t>& shape, const float* data);
  void add_bf16(const std::string& name, const std::vector<int64_t>& shape, const float* data);
  void add_i64(const std::string& name, const std::vector<int64_t>& shape, const int64_t* data);
  void set_metadata(const std::string& key, const std::string& value) { metadata_[key] = value; }

  // What was added so far, for checksums.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  void visit(const std::function<void(const std::string& name, WeightType dtype,
                                      const std::vector<int64_t>& shape, const void* data,
                                      uint64_t bytes)>& f) const {
    for (const Entry& e : entries_) f(e.name, e.dtype, e.shape, e.data, e.bytes);
  }

  // Appears under its name only when whole and durable.
  void write(const std::filesystem::path& path) const;

 private:
  struct Entry {
    std::string name;
    WeightType dtype;
    std::vector<int64_t> shape;
    std::shared_ptr<std::vector<char>> owned;
    const char* data;
    uint64_t bytes;
  };
  void add_entry(const std::string& name, WeightType dtype, const std::vector<int64_t>& shape,
                 const void* data, bool copy);
  std::vector<Entry> entries_;
  std::set<std::string> names_;
  std::map<std::string, std::string> metadata_{{"format", "pt"}};
};

// The tensors of one network: a single file, a shard index (`*.safetensors.index.json`), or a
// folder that holds either, as diffusers and transformers publish them.
class WeightFiles {
 public:
  explicit WeightFiles(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }  // the file or index that was chosen
  const std::vector<std::string>& names() const { return names_; }  // sorted
  bool has(const std::string& name) const { return where_.count(name) != 0; }
  const WeightInfo& info(const std::string& name) const { return file_of(name).info(name); }
  const std::map<std::string, std::string>& metadata() const { return files_.front()->metadata(); }

  void read(const std::string& name, void* to) { use(name).read(name, to); }
  std::vector<float> read_f32(const std::string& name) { return use(name).read_f32(name); }
  std::vector<int64_t> read_i64(const std::string& name) { return use(name).read_i64(name); }
  // Also holds the shape to what the model expects: "'x' is [320,9,3,3], model expects
  // [320,4,3,3]".
  std::vector<float> read_f32(const std::string& name, const std::vector<int64_t>& expected);
  void allow_nonfinite(bool allow);

  // Every tensor of the model is in the file, or "missing 'x' and 41 more".
  void require_all(const std::vector<std::string>& names) const;
  // Tensors of the file that were never read: a loader reports them.
  std::vector<std::string> unread() const;

 private:
  void open_index(const std::filesystem::path& index);
  const SafetensorsFile& file_of(const std::string& name) const;
  const SafetensorsFile& use(const std::string& name) {
    read_.insert(name);
    return file_of(name);
  }

  std::filesystem::path path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, size_t> where_;
  std::vector<std::string> names_;
  std::set<std::string> read_;
};

}  // namespace realfake
