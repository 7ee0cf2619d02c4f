// `inspect`: what a weight file, a pipeline folder or a dataset folder holds.
#include <algorithm>
#include <iostream>

#include "data/dataset.h"
#include "data/manifest.h"
#include "kernels/base/text.h"
#include "model/pipeline.h"
#include "model/safetensors.h"
#include "tools/commands.h"
#include "tools/inspect.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

bool ends_with(const std::string& s, const std::string& suffix) {
  return s.size() >= suffix.size() &&
         s.compare(s.size() - suffix.size(), suffix.size(), suffix) == 0;
}

bool any_contains(const std::vector<std::string>& names, const std::string& part) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& n) { return n.find(part) != std::string::npos; });
}

bool has_name(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string lora_dialect(const std::vector<std::string>& names) {
  if (any_contains(names, "lora_unet_") || any_contains(names, "lora_te")) return "kohya";
  if (any_contains(names, ".lora_A.")) return "PEFT";
  if (any_contains(names, ".processor.") && any_contains(names, "_lora.down."))
    return names.front().rfind("unet.", 0) == 0 ? "unet.attn_procs" : "attn_procs";
  if (any_contains(names, ".lora.down.") || any_contains(names, ".lora_linear_layer.down."))
    return "diffusers";
  return "";
}

Json weights_report(const fs::path& path) {
  const WeightFiles files(path);
  Json report{
      {"kind", "weights"}, {"file", files.path().string()}, {"is", network_kind(files.names())}};
  report["metadata"] = Json::object();
  for (const auto& [key, value] : files.metadata()) report["metadata"][key] = value;
  Json tensors = Json::array();
  std::map<std::string, int64_t> types;
  int64_t numel = 0;
  uint64_t bytes = 0;
  for (const std::string& name : files.names()) {
    const WeightInfo& info = files.info(name);
    tensors.push_back({{"name", name},
                       {"dtype", name_of(info.dtype)},
                       {"shape", info.shape},
                       {"bytes", info.bytes}});
    numel += info.numel();
    bytes += info.bytes;
    types[name_of(info.dtype)] += 1;
  }
  report["total"] = {{"tensors", files.names().size()}, {"elements", numel}, {"bytes", bytes}};
  report["dtypes"] = types;
  report["tensors"] = std::move(tensors);
  return report;
}

// Builds the network as every command would, and tells what did not fit.
template <class Net>
Json component_report(std::unique_ptr<Component<Net>> (*load)(Exec&, const fs::path&, DType),
                      const fs::path& folder) {
  Json report;
  try {
    Exec exec(Device::cpu);
    const auto c = load(exec, folder, DType::f32);
    report["parameters"] = c->parameters.numel();
    report["tensors"] = c->parameters.all().size();
    report["unused"] = c->unused;
    report["config"] = c->config;
  } catch (const InputError& e) {
    report["error"] = e.what();
  }
  return report;
}

Json pipeline_report(const fs::path& root) {
  Json report{{"kind", "pipeline"}, {"folder", root.string()}, {"components", Json::object()}};
  Json& components = report["components"];
  if (fs::is_directory(root / "unet"))
    components["unet"] = component_report(&load_unet, root / "unet");
  if (fs::is_directory(root / "vae")) components["vae"] = component_report(&load_vae, root / "vae");
  if (fs::is_directory(root / "text_encoder"))
    components["text_encoder"] = component_report(&load_text, root / "text_encoder");
  if (fs::is_directory(root / "image_encoder"))
    components["image_encoder"] = component_report(&load_vision, root / "image_encoder");
  const auto small = [&](const char* name, const auto& describe) {
    if (!fs::is_directory(root / name)) return;
    try {
      components[name] = describe();
    } catch (const InputError& e) {
      components[name] = {{"error", e.what()}};
    }
  };
  small("tokenizer", [&] {
    const Tokenizer t = Tokenizer::load(root / "tokenizer");
    return Json{{"vocabulary", t.size()}, {"max_length", t.max_length()}};
  });
  small("scheduler", [&] {
    const NoiseSchedule s = load_schedule(root);
    return Json{{"timesteps", s.steps()},
                {"prediction", s.prediction == Prediction::velocity ? "v_prediction" : "epsilon"},
                {"spacing", s.spacing}};
  });
  return report;
}

Json images_report(const ImageSet& set) {
  Json report{{"images", set.size()},
              {"height", set.height},
              {"width", set.width},
              {"channels", set.channels},
              {"captions", !set.captions.empty()}};
  std::vector<int64_t> counts(set.classes.size());
  for (const int64_t label : set.labels) {
    if (static_cast<size_t>(label) >= counts.size()) counts.resize(static_cast<size_t>(label) + 1);
    ++counts[static_cast<size_t>(label)];
  }
  report["classes"] = Json::array();
  for (size_t i = 0; i < counts.size(); ++i)
    report["classes"].push_back(
        {{"label", i},
         {"name", i < set.classes.size() ? set.classes[i] : std::to_string(i)},
         {"images", counts[i]}});
  return report;
}

std::vector<std::string> idx_splits(const fs::path& folder) {
  const std::string suffix = "-images-idx3-ubyte";
  std::vector<std::string> splits;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (ends_with(name, suffix)) splits.push_back(name.substr(0, name.size() - suffix.size()));
  }
  std::sort(splits.begin(), splits.end());
  return splits;
}

Json dataset_report(const fs::path& folder) {
  Json report{{"kind", "dataset"}, {"folder", folder.string()}, {"splits", Json::object()}};
  std::vector<std::string> splits = idx_splits(folder);
  const bool manifest = has_manifest(folder);
  if (manifest || splits.empty()) {
    report["splits"][manifest ? "manifest" : "all"] = images_report(load_dataset(folder));
    return report;
  }
  for (const std::string& split : splits) {
    LoadOptions options;
    options.split = split;
    report["splits"][split] = images_report(load_dataset(folder, options));
  }
  return report;
}

bool holds_weights(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (ends_with(name, ".safetensors") || ends_with(name, ".safetensors.index.json")) return true;
  }
  return false;
}

Json report_of(const fs::path& path) {
  if (!fs::exists(path))
    throw InputError(
        concat(printable(path.string()), ": found nothing, expected a file or a folder"));
  if (!fs::is_directory(path)) return weights_report(path);
  for (const char* part : {"model_index.json", "unet", "vae", "text_encoder"})
    if (fs::exists(path / part)) return pipeline_report(path);
  return holds_weights(path) ? weights_report(path) : dataset_report(path);
}

// Text
// ---------------------------------------------------------------------------------------------

std::string bytes_text(uint64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB"};
  auto v = static_cast<double>(bytes);
  int unit = 0;
  for (; v >= 1024 && unit < 3; ++unit) v /= 1024;
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, unit ? "%.1f %s" : "%.0f %s", v, units[unit]);
  return buffer;
}

std::string cell(const std::string& text, size_t width) {
  std::string out = printable(text);
  if (out.size() < width) out.resize(width, ' ');
  return out;
}

std::string shown(const Json& value, const char* key) {
  return printable(value[key].get<std::string>());
}

// Training scripts put whole settings into the metadata; --json has them in full.
std::string shortened(const std::string& text) {
  const std::string line = printable(text);
  return line.size() <= 160 ? line
                            : line.substr(0, valid_utf8_prefix(line.substr(0, 160))) + " ...";
}

void print_weights(const Json& r) {
  std::cout << shown(r, "file") << ": " << shown(r, "is") << "\n";
  for (const auto& [key, value] : r["metadata"].items())
    std::cout << "  " << printable(key) << " = " << shortened(value.get<std::string>()) << "\n";
  size_t width = 0;
  for (const Json& t : r["tensors"]) width = std::max(width, t["name"].get<std::string>().size());
  for (const Json& t : r["tensors"])
    std::cout << "  " << cell(t["name"].get<std::string>(), std::min<size_t>(width, 100)) << "  "
              << cell(t["dtype"].get<std::string>(), 4) << "  " << cell(t["shape"].dump(), 16)
              << "  " << bytes_text(t["bytes"].get<uint64_t>()) << "\n";
  const Json& total = r["total"];
  std::cout << total["tensors"] << " tensors, " << total["elements"] << " elements, "
            << bytes_text(total["bytes"].get<uint64_t>()) << "\n";
}

void print_pipeline(const Json& r) {
  std::cout << shown(r, "folder") << ": pipeline\n";
  for (const auto& [name, c] : r["components"].items()) {
    std::cout << cell(name, 14);
    if (c.contains("error")) {
      std::cout << "error: " << shown(c, "error") << "\n";
      continue;
    }
    std::string line;
    for (const auto& [key, value] : c.items()) {
      if (key == "config" || key == "unused") continue;
      line += (line.empty() ? "" : ", ") + key + " " +
              printable(value.is_string() ? value.get<std::string>() : value.dump());
    }
    std::cout << line << "\n";
    if (c.contains("config"))
      for (const auto& [key, value] : c["config"].items())
        if (!value.is_null() && key.rfind("_", 0) != 0)
          std::cout << "    " << printable(key) << " = "
                    << printable(value.dump(-1, ' ', false, Json::error_handler_t::replace))
                    << "\n";
    if (c.contains("unused"))
      for (const Json& unused : c["unused"])
        std::cout << "    not used: " << printable(unused.get<std::string>()) << "\n";
  }
}

void print_dataset(const Json& r) {
  std::cout << shown(r, "folder") << ": dataset\n";
  for (const auto& [name, split] : r["splits"].items()) {
    std::cout << printable(name) << ": " << split["images"] << " images, " << split["height"] << "x"
              << split["width"] << "x" << split["channels"]
              << (split["captions"].get<bool>() ? ", with captions" : "") << "\n";
    for (const Json& c : split["classes"])
      std::cout << "  " << cell(c["label"].dump(), 4) << cell(c["name"].get<std::string>(), 24)
                << c["images"] << "\n";
  }
}

struct Inspect {
  fs::path path;
  bool json = false;

  int run() const {
    const Json report = report_of(path);
    const std::string kind = report["kind"].get<std::string>();
    if (json)
      std::cout << report.dump(2, ' ', true, Json::error_handler_t::replace) << "\n";
    else if (kind == "weights")
      print_weights(report);
    else if (kind == "pipeline")
      print_pipeline(report);
    else
      print_dataset(report);
    if (kind == "pipeline")
      for (const auto& [name, c] : report["components"].items())
        if (c.contains("error")) throw InputError(c["error"].get<std::string>());
    return 0;
  }
};

}  // namespace

std::string network_kind(const std::vector<std::string>& names) {
  if (names.empty()) return "no tensors";
  const std::string dialect = lora_dialect(names);
  if (!dialect.empty()) return "LoRA (" + dialect + ")";
  if (any_contains(names, "model.diffusion_model."))
    return "Stable Diffusion, single file (CompVis)";
  if (has_name(names, "time_embedding.linear_1.weight")) return "UNet (diffusers)";
  if (has_name(names, "encoder.conv_in.weight") && has_name(names, "decoder.conv_in.weight"))
    return "VAE (diffusers)";
  const bool text = any_contains(names, "embeddings.token_embedding.weight");
  const bool image = any_contains(names, "embeddings.patch_embedding.weight");
  if (text && image) return "CLIP, text and image encoder (transformers)";
  if (text) return "CLIP text encoder (transformers)";
  if (image) return "CLIP image encoder (transformers)";
  if (has_name(names, "conv1.weight") && has_name(names, "bn1.weight") &&
      has_name(names, "fc.weight"))
    return "ResNet (torchvision)";
  return "tensors of an unknown kind";
}

Command make_inspect_command() {
  const auto self = std::make_shared<Inspect>();
  return {"inspect", "what a weight file, a pipeline or a dataset holds",
          "realfake inspect sd15/unet/diffusion_pytorch_model.safetensors",
          [self](Options& o) {
            o.path("path", &self->path,
                   "safetensors file or index, pipeline folder, dataset folder")
                .required()
                .positional();
            o.flag("json", &self->json, "machine readable");
          },
          [self](const Options&) { return self->run(); }};
}

}  // namespace realfake
