#include "train/seal.h"

#include "kernels/base/error.h"
#include "kernels/base/json.h"
#include "kernels/base/sha256.h"

namespace realfake {
namespace {

// Half of a sha256 is plenty against accidents. The shape belongs to it: [2,3] and [3,2] hold the
// same bytes.
std::string digest(WeightType dtype, const std::vector<int64_t>& shape, const void* data,
                   uint64_t bytes) {
  Sha256 h;
  const std::string head = name_of(dtype) + shape_text(shape);
  h.update(head.data(), head.size());
  h.update(data, bytes);
  return h.hex().substr(0, 32);
}

std::string digest(const std::map<std::string, std::string>& metadata) {
  Sha256 h;
  for (const auto& [key, value] : metadata) {
    if (key == "checksum") continue;
    for (const std::string& text : {key, value}) {
      const uint64_t n = text.size();
      h.update(&n, sizeof n);
      h.update(text.data(), n);
    }
  }
  return h.hex();
}

}  // namespace

void seal(SafetensorsWriter& w) {
  Json all = Json::object();
  w.visit([&](const std::string& name, WeightType dtype, const std::vector<int64_t>& shape,
              const void* data, uint64_t bytes) { all[name] = digest(dtype, shape, data, bytes); });
  w.set_metadata("checksums", all.dump());
  w.set_metadata("checksum", digest(w.metadata()));
}

void check_seal(const SafetensorsFile& f) {
  const std::string file = f.path().string();
  const auto& meta = f.metadata();
  if (!meta.contains("checksum") || !meta.contains("checksums"))
    throw InputError(file + ": found no checksums, expected a file that this program wrote");
  if (meta.at("checksum") != digest(meta))
    throw InputError(file + ": checksum mismatch in the header");
  const Json all = parse_json(meta.at("checksums"), file + ": checksums");
  const JsonReader expected(all, file + ": checksums");
  std::vector<char> bytes;
  for (const std::string& name : f.names()) {
    const WeightInfo& info = f.info(name);
    bytes.resize(info.bytes);
    f.read(name, bytes.data());
    if (expected.text_or(name, "") != digest(info.dtype, info.shape, bytes.data(), bytes.size()))
      throw InputError(concat(file, ": checksum mismatch in '", printable(name), "'"));
  }
  for (const auto& [name, value] : all.items())
    if (!f.has(name)) throw InputError(concat(file, ": '", printable(name), "' is missing"));
}

}  // namespace realfake
