#include "model/lora.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "model/safetensors.h"

namespace realfake {
namespace {

struct Key {
  std::string layer;  // "down_blocks.0....attn1.to_q", or underscored for kohya
  enum Part { down, up, alpha } part = down;
  const char* dialect = "";
};

bool take_suffix(std::string& s, const std::string& suffix) {
  if (s.size() < suffix.size() || s.compare(s.size() - suffix.size(), suffix.size(), suffix) != 0)
    return false;
  s.resize(s.size() - suffix.size());
  return true;
}
bool take_prefix(std::string& s, const std::string& prefix) {
  if (s.compare(0, prefix.size(), prefix) != 0) return false;
  s.erase(0, prefix.size());
  return true;
}

// InputError naming what is known but not supported, or not known at all.
Key parse_key(const std::string& name, const std::string& file) {
  for (const char* part : {"hada_", "lokr_", "dora_scale", "oft_", "lora_mid", ".diff"})
    if (name.find(part) != std::string::npos)
      throw InputError(concat(file, ": '", name, "': ", part, " adapters are not supported"));
  if (name.rfind("text_encoder", 0) == 0 || name.rfind("lora_te", 0) == 0)
    throw InputError(concat(file, ": '", name, "': LoRA of the text encoder is not supported"));
  std::string s = name;
  Key k;
  if (take_prefix(s, "lora_unet_")) {
    k.dialect = "kohya";
    if (take_suffix(s, ".lora_down.weight"))
      k.part = Key::down;
    else if (take_suffix(s, ".lora_up.weight"))
      k.part = Key::up;
    else if (take_suffix(s, ".alpha"))
      k.part = Key::alpha;
    else
      throw InputError(concat(file, ": '", name, "' is not a LoRA tensor of a known dialect"));
    k.layer = s;
    return k;
  }
  const bool prefixed = take_prefix(s, "unet.");
  const auto ends = [&](const std::string& suffix, Key::Part part, const char* dialect) {
    if (!take_suffix(s, suffix)) return false;
    k.part = part;
    k.dialect = dialect;
    return true;
  };
  if (ends(".lora_A.weight", Key::down, "peft") || ends(".lora_B.weight", Key::up, "peft") ||
      ends(".lora_A.default.weight", Key::down, "peft") ||
      ends(".lora_B.default.weight", Key::up, "peft") ||
      ends(".lora.down.weight", Key::down, "diffusers") ||
      ends(".lora.up.weight", Key::up, "diffusers")) {
    k.layer = s;
    return k;
  }
  if (ends("_lora.down.weight", Key::down, prefixed ? "unet.attn_procs" : "attn_procs") ||
      ends("_lora.up.weight", Key::up, prefixed ? "unet.attn_procs" : "attn_procs")) {
    const size_t at = s.find(".processor.");
    if (at != std::string::npos) {
      const std::string projection = s.substr(at + 11);
      k.layer = s.substr(0, at) + "." + (projection == "to_out" ? "to_out.0" : projection);
      return k;
    }
  }
  throw InputError(concat(file, ": '", name, "' is not a LoRA tensor of a known dialect"));
}

// The name of the other factor in the same dialect.
std::string partner_of(std::string name) {
  for (const auto& [a, b] : {std::pair<std::string, std::string>{"lora_A.", "lora_B."},
                             {"lora_down.", "lora_up."},
                             {"lora.down.", "lora.up."}})
    for (const auto& [from, to] : {std::pair{a, b}, {b, a}})
      if (const size_t at = name.rfind(from); at != std::string::npos)
        return name.replace(at, from.size(), to);
  return name;
}

std::string underscored(std::string s) {
  for (char& c : s)
    if (c == '.') c = '_';
  return s;
}

// alpha of PEFT files lies in the metadata as JSON; absent means alpha = rank.
double peft_alpha(const std::map<std::string, std::string>& metadata, const std::string& layer,
                  double rank, const std::string& file) {
  const auto it = metadata.find("lora_adapter_metadata");
  if (it == metadata.end()) return rank;
  const std::string where = file + ": lora_adapter_metadata";
  const Json j = parse_json(it->second, where);
  const JsonReader r(j, where);
  for (const char* key : {"unet.use_rslora", "unet.use_dora"})
    if (r.boolean_or(key, false)) throw InputError(concat(where, ": '", key, "' is not supported"));
  if (r.has("unet.alpha_pattern")) {
    const JsonReader pattern(r.at("unet.alpha_pattern"), where + ": unet.alpha_pattern");
    if (pattern.has(layer)) return pattern.number(layer);
  }
  return r.number_or("unet.lora_alpha", rank);
}

}  // namespace

void Lora::add_branch(const std::string& layer, Linear* linear, Param down, Param up,
                      double alpha) {
  auto weights = std::make_shared<LoraBranch>();
  weights->down = std::move(down);
  weights->up = std::move(up);
  const auto r = static_cast<double>(weights->down->value.dim(0));
  branches_.push_back({layer, linear, weights, alpha / r, Tensor()});
}

Lora::Lora(Exec& exec, UNet& unet, int64_t rank, uint64_t seed, DType dtype)
    : parameters_(exec), rank_(rank) {
  for (auto& [layer, linear] : unet.attention_linears())
    if (rank < 1 || rank > std::max(linear->in(), linear->out()))
      throw UsageError(concat("--rank is ", rank, ", expected 1..",
                              std::max(linear->in(), linear->out()), " for '", layer, "'"));
  const Builder b(parameters_, nullptr, seed, dtype);
  for (auto& [layer, linear] : unet.attention_linears()) {
    const Param down = b.get("unet." + layer + ".lora_A.weight", {rank, linear->in()},
                             Init::gaussian(1.0 / static_cast<double>(rank)));
    const Param up =
        b.get("unet." + layer + ".lora_B.weight", {linear->out(), rank}, Init::zeros());
    add_branch(layer, linear, down, up, static_cast<double>(rank));
  }
}

Lora::Lora(Exec& exec, UNet& unet, const std::filesystem::path& path, DType dtype)
    : parameters_(exec) {
  const std::string file = path.string();
  SafetensorsFile f(path);
  std::map<std::string, Linear*> layers, by_underscore;
  std::map<std::string, std::string> dotted;
  for (auto& [layer, linear] : unet.attention_linears()) {
    layers[layer] = linear;
    dotted[underscored(layer)] = layer;
  }
  struct Pair {
    std::string down, up, alpha_name;
    double alpha = 0;
    std::string dialect;
  };
  std::map<std::string, Pair> pairs;
  std::vector<std::string> unmatched;
  std::set<std::string> unmatched_modules;
  for (const std::string& name : f.names()) {
    Key k = parse_key(name, file);
    if (std::string(k.dialect) == "kohya" && dotted.contains(k.layer)) k.layer = dotted[k.layer];
    if (!layers.contains(k.layer)) {
      unmatched.push_back(name);
      unmatched_modules.insert(k.layer);
      continue;
    }
    Pair& p = pairs[k.layer];
    p.dialect = k.dialect;
    std::string& slot = k.part == Key::down ? p.down : k.part == Key::up ? p.up : p.alpha_name;
    if (!slot.empty())
      throw InputError(concat(file, ": '", slot, "' and '", name, "' are the same tensor"));
    slot = name;
    if (k.part == Key::alpha) {
      if (f.info(name).numel() != 1)
        throw InputError(
            concat(file, ": '", name, "' has ", f.info(name).numel(), " values, expected 1"));
      f.allow_nonfinite(true);
      p.alpha = f.read_f32(name).at(0);
      f.allow_nonfinite(false);
      if (!std::isfinite(p.alpha))
        throw InputError(
            concat(file, ": '", name, "' is ", std::isnan(p.alpha) ? "NaN" : "infinite"));
    }
  }
  if (pairs.empty())
    throw InputError(
        concat(file, ": none of ", unmatched_modules.size(), " modules match this model"));
  if (!unmatched.empty())
    throw InputError(concat(file, ": '", unmatched.front(), "' and ", unmatched.size() - 1,
                            " more LoRA tensors match no layer of this model"));
  const Builder b(parameters_, nullptr, 0, dtype);
  for (const auto& [layer, p] : pairs) {
    if (p.down.empty() && p.up.empty())
      throw InputError(concat(file, ": '", p.alpha_name, "' has no factors beside it"));
    if (p.down.empty() || p.up.empty()) {
      const std::string& there = p.down.empty() ? p.up : p.down;
      throw InputError(concat(file, ": '", there, "' has no '", partner_of(there), "'"));
    }
    Linear* linear = layers[layer];
    const std::vector<int64_t> ds = f.info(p.down).shape, us = f.info(p.up).shape;
    for (const auto& [name, shape] : {std::pair{p.down, ds}, {p.up, us}})
      if (shape.size() < 2 ||
          std::any_of(shape.begin() + 2, shape.end(), [](int64_t n) { return n != 1; }))
        throw InputError(
            concat(file, ": '", name, "' is ", shape_text(shape), ", expected a matrix"));
    const int64_t r = ds[0];
    if (us[1] != r)
      throw InputError(concat(file, ": '", layer, "': up has rank ", us[1], ", down has rank ", r));
    if (ds[1] != linear->in()) {
      const bool sdxl = ds[1] == 2048 && linear->in() <= 1024;  // widths of the text states
      throw InputError(concat(file, ": '", layer, "': made for width ", ds[1], ", model has ",
                              linear->in(), sdxl ? " (SDXL LoRA on SD 1.x?)" : ""));
    }
    if (us[0] != linear->out())
      throw InputError(concat(file, ": '", layer, "': made for output width ", us[0],
                              ", model has ", linear->out()));
    if (r < 1 || r > std::max(linear->in(), linear->out()))
      throw InputError(concat(file, ": '", layer, "': rank is ", r, ", expected 1..",
                              std::max(linear->in(), linear->out())));
    const Param down = b.get(p.down, {r, linear->in()}, Init::zeros());
    const Param up = b.get(p.up, {linear->out(), r}, Init::zeros());
    parameters_.from_file(*down, f.read_f32(p.down));
    parameters_.from_file(*up, f.read_f32(p.up));
    double alpha = p.alpha != 0 ? p.alpha : static_cast<double>(r);
    if (p.dialect == "peft") alpha = peft_alpha(f.metadata(), layer, static_cast<double>(r), file);
    add_branch(layer, linear, down, up, alpha);
    rank_ = std::max(rank_, r);
    dialect_ = p.dialect;
  }
}

Lora::~Lora() {
  detach();
}

void Lora::attach(double scale) {
  for (Branch& b : branches_) {
    b.weights->scale = scale * b.alpha_over_rank;
    b.linear->set_lora(b.weights);
  }
}

void Lora::detach() {
  for (Branch& b : branches_) b.linear->set_lora(nullptr);
}

void Lora::merge(double scale) {
  detach();
  Exec& ex = parameters_.exec();
  for (Branch& b : branches_) {
    require(!b.original.defined(), "[lora] merged twice");
    const Tensor& w = b.linear->weight()->value;
    b.original = ex.clone(w);
    gemm(ex, w, b.weights->up->value, b.weights->down->value, false, false,
         scale * b.alpha_over_rank, 1);
  }
}

void Lora::unmerge() {
  Exec& ex = parameters_.exec();
  for (Branch& b : branches_) {
    if (!b.original.defined()) continue;
    copy(ex, b.linear->weight()->value, b.original);
    b.original = Tensor();
  }
}

void Lora::save(const std::filesystem::path& path) const {
  SafetensorsWriter w;
  w.set_metadata("format", "pt");
  for (const Branch& b : branches_) {
    const auto put = [&](const char* suffix, const Param& p, double factor) {
      std::vector<float> v = parameters_.to_file(*p);
      if (factor != 1)
        for (float& x : v) x = static_cast<float>(x * factor);
      for (size_t i = 0; i < v.size(); ++i)
        if (!std::isfinite(v[i]))
          throw NumericError(concat("LoRA tensor '", p->name, "': not finite at index ", i));
      w.add_f32("unet." + b.layer + suffix, p->file_shape, v.data());
    };
    put(".lora_A.weight", b.weights->down, 1);
    // A file without alpha is read as alpha = rank everywhere, so another ratio goes into `up`.
    put(".lora_B.weight", b.weights->up, b.alpha_over_rank);
  }
  w.write(path);
}

}  // namespace realfake
