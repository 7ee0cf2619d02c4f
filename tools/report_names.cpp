#include "tools/report_names.h"

#include <map>

#include "kernels/base/error.h"

namespace realfake {
namespace {

// The number of "5x", or empty.
std::string factor_of(const std::string& text) {
  if (text.size() < 2 || text.size() > 5 || text.back() != 'x') return "";
  const std::string digits = text.substr(0, text.size() - 1);
  return digits.find_first_not_of("0123456789") == std::string::npos ? digits : "";
}

std::string scaled_label(const std::string& name, const std::string& prefix,
                         const std::string& label) {
  if (name == prefix) return label;
  if (!name.starts_with(prefix + "_")) return "";
  const std::string factor = factor_of(name.substr(prefix.size() + 1));
  if (factor.empty()) return "";
  return concat(label, ", ", factor, " per real picture");
}

}  // namespace

std::string row_label(const std::string& name) {
  static const std::map<std::string, std::string> known = {
      {"real", "Real pictures"},
      {"base", "Base model, from noise"},
      {"base+prior", "Base model, from real latents"},
      {"ablation/lora", "LoRA, from noise"},
      {"ablation/lora+mmd", "LoRA + MMD, from noise"},
      {"ablation/lora+prior", "LoRA, from real latents"},
      {"ablation/lora+mmd+prior", "LoRA + MMD, from real latents"},
      {"ablation/lora+mmd+token", "LoRA + MMD + image token, from real latents"},
      {"fewshot/real", "Real pictures"},
      {"fewshot/realfake", "Real-Fake"},
      {"fewshot/real+realfake", "Real and Real-Fake together"},
      {"fewshot/real+printed", "Real and printed together"},
  };
  const auto entry = known.find(name);
  if (entry != known.end()) return entry->second;
  const std::string label = scaled_label(name, "realfake", "Real-Fake");
  return label.empty() ? scaled_label(name, "real+realfake", "Real and Real-Fake together") : label;
}

std::string group_label(const std::string& group) {
  if (group == "ablation") return "Ablation: what each part adds";
  if (group == "fewshot") return "Few real pictures";
  return group;
}

const char* row_tone(const std::string& full) {
  const std::string name =
      full.substr(full.find('/') == std::string::npos ? 0 : full.find('/') + 1);
  if (name == "real") return "real";
  if (name == "base" || name.starts_with("base+")) return "base";
  if (name.starts_with("realfake") || name.starts_with("real+realfake")) return "fake";
  return "other";
}

}  // namespace realfake
