#include "model/pipeline.h"

#include <cmath>

#include "model/safetensors.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

class FileSource : public TensorSource {
 public:
  explicit FileSource(WeightFiles& files) : files_(files) {}
  std::optional<std::vector<float>> find(const std::string& name,
                                         const std::vector<int64_t>& shape) override {
    if (files_.has(name)) return files_.read_f32(name, shape);
    return std::nullopt;
  }

 private:
  WeightFiles& files_;
};

// Buffers of the published files that hold nothing learned.
bool is_ignorable(const std::string& name) {
  for (const char* suffix : {"position_ids", "num_batches_tracked", "logit_scale"})
    if (name.size() >= std::string(suffix).size() &&
        name.compare(name.size() - std::string(suffix).size(), std::string::npos, suffix) == 0)
      return true;
  return false;
}

template <class Net, class Config>
std::unique_ptr<Component<Net>> fill(Exec& exec, const fs::path& weights, const Config& config,
                                     Json json, DType dtype) {
  WeightFiles files(weights);
  FileSource source(files);
  auto c = std::make_unique<Component<Net>>(exec);
  const Builder b(c->parameters, &source, 0, dtype);
  c->net = std::make_unique<Net>(b, config);
  try {
    b.finish();
  } catch (const InputError& e) {
    throw InputError(files.path().string() + ": " + e.what());
  }
  for (const std::string& name : files.unread())
    if (!is_ignorable(name)) c->unused.push_back(name);
  c->config = std::move(json);
  return c;
}

template <class Net, class Config>
std::unique_ptr<Component<Net>> load(Exec& exec, const fs::path& folder,
                                     Config (*read)(const JsonReader&), DType dtype) {
  const fs::path file = folder / "config.json";
  Json json = read_json(file);
  const Config config = read(JsonReader(json, file.string()));
  return fill<Net>(exec, folder, config, std::move(json), dtype);
}

template <class Net, class Config>
std::unique_ptr<Component<Net>> fresh(Exec& exec, const Config& config, Json json, uint64_t seed,
                                      DType dtype) {
  auto c = std::make_unique<Component<Net>>(exec);
  c->net = std::make_unique<Net>(Builder(c->parameters, nullptr, seed, dtype), config);
  c->config = std::move(json);
  return c;
}

}  // namespace

std::unique_ptr<Component<UNet>> load_unet(Exec& e, const fs::path& f, DType t) {
  return load<UNet>(e, f, &UNetConfig::read, t);
}
std::unique_ptr<Component<Vae>> load_vae(Exec& e, const fs::path& f, DType t) {
  return load<Vae>(e, f, &VaeConfig::read, t);
}
std::unique_ptr<Component<ClipText>> load_text(Exec& e, const fs::path& f, DType t) {
  return load<ClipText>(e, f, &ClipConfig::text, t);
}
std::unique_ptr<Component<ClipVision>> load_vision(Exec& e, const fs::path& f, DType t) {
  return load<ClipVision>(e, f, &ClipConfig::vision, t);
}
std::unique_ptr<Component<ResNet>> load_resnet(Exec& e, const fs::path& path, DType t) {
  const WeightFiles files(path);
  std::vector<std::pair<std::string, std::vector<int64_t>>> shapes;
  for (const std::string& name : files.names()) shapes.emplace_back(name, files.info(name).shape);
  return fill<ResNet>(e, path, ResNetConfig::infer(shapes, files.path().string()), Json(), t);
}

std::unique_ptr<Component<UNet>> fresh_unet(Exec& e, const Json& j, uint64_t seed, DType t) {
  return fresh<UNet>(e, UNetConfig::read(JsonReader(j, "unet config")), j, seed, t);
}
std::unique_ptr<Component<Vae>> fresh_vae(Exec& e, const Json& j, uint64_t seed, DType t) {
  return fresh<Vae>(e, VaeConfig::read(JsonReader(j, "vae config")), j, seed, t);
}
std::unique_ptr<Component<ClipText>> fresh_text(Exec& e, const Json& j, uint64_t seed, DType t) {
  return fresh<ClipText>(e, ClipConfig::text(JsonReader(j, "text config")), j, seed, t);
}
std::unique_ptr<Component<ClipVision>> fresh_vision(Exec& e, const Json& j, uint64_t seed,
                                                    DType t) {
  return fresh<ClipVision>(e, ClipConfig::vision(JsonReader(j, "vision config")), j, seed, t);
}
std::unique_ptr<Component<ResNet>> fresh_resnet(Exec& e, const ResNetConfig& c, uint64_t seed,
                                                DType t) {
  return fresh<ResNet>(e, c, Json(), seed, t);
}

void save_parameters(const Parameters& parameters, const fs::path& file, bool half) {
  SafetensorsWriter w;
  for (const Param& p : parameters.all()) {
    const std::vector<float> v = parameters.to_file(*p);
    for (size_t i = 0; i < v.size(); ++i)
      if (!std::isfinite(v[i]))
        throw NumericError(concat("'", p->name, "': not finite at index ", i, "; not saved"));
    if (half)
      w.add_f16(p->name, p->file_shape, v.data());
    else
      w.add_f32(p->name, p->file_shape, v.data());
  }
  w.write(file);
}

ImagePreprocessing ImagePreprocessing::read(const fs::path& folder) {
  ImagePreprocessing p;
  const fs::path file = folder / "preprocessor_config.json";
  if (!fs::exists(file)) return p;
  const Json j = read_json(file);
  const auto triple = [&](const char* key, std::vector<float>& to) {
    if (!j.contains(key)) return;
    if (!j[key].is_array() || j[key].size() != to.size())
      throw InputError(concat(file.string(), ": '", key, "': expected ", to.size(), " numbers"));
    for (size_t i = 0; i < to.size(); ++i) {
      if (!j[key][i].is_number())
        throw InputError(concat(file.string(), ": '", key, "[", i, "]' is not a number"));
      to[i] = j[key][i].get<float>();
    }
  };
  triple("image_mean", p.mean);
  triple("image_std", p.std);
  return p;
}

NoiseSchedule load_schedule(const fs::path& root) {
  const fs::path file = root / "scheduler" / "scheduler_config.json";
  const Json j = read_json(file);
  return NoiseSchedule::read(JsonReader(j, file.string()));
}

}  // namespace realfake
