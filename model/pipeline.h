#pragma once
// A Stable Diffusion folder in diffusers layout: each component built from its own config and
// filled strictly.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/clip.h"
#include "model/resnet.h"
#include "model/schedule.h"
#include "model/tokenizer.h"
#include "model/unet.h"
#include "model/vae.h"

namespace realfake {

// A network and the parameters it owns. `unused`: tensors of the file that no parameter took.
template <class Net>
struct Component {
  Parameters parameters;
  std::unique_ptr<Net> net;
  std::vector<std::string> unused;
  Json config;
  explicit Component(Exec& exec) : parameters(exec) {}
};

// Each reads FOLDER/config.json and FOLDER/<weights>.safetensors (single file or index). InputError
// by name on a missing or misshapen tensor.
std::unique_ptr<Component<UNet>> load_unet(Exec&, const std::filesystem::path& folder,
                                           DType = DType::f32);
std::unique_ptr<Component<Vae>> load_vae(Exec&, const std::filesystem::path& folder,
                                         DType = DType::f32);
std::unique_ptr<Component<ClipText>> load_text(Exec&, const std::filesystem::path& folder,
                                               DType = DType::f32);
std::unique_ptr<Component<ClipVision>> load_vision(Exec&, const std::filesystem::path& folder,
                                                   DType = DType::f32);
// A ResNet folder may hold model.safetensors alone: the architecture is read off the keys.
std::unique_ptr<Component<ResNet>> load_resnet(Exec&, const std::filesystem::path& path,
                                               DType = DType::f32);

// The same networks freshly drawn from a config.
std::unique_ptr<Component<UNet>> fresh_unet(Exec&, const Json& config, uint64_t seed,
                                            DType = DType::f32);
std::unique_ptr<Component<Vae>> fresh_vae(Exec&, const Json& config, uint64_t seed,
                                          DType = DType::f32);
std::unique_ptr<Component<ClipText>> fresh_text(Exec&, const Json& config, uint64_t seed,
                                                DType = DType::f32);
std::unique_ptr<Component<ClipVision>> fresh_vision(Exec&, const Json& config, uint64_t seed,
                                                    DType = DType::f32);
std::unique_ptr<Component<ResNet>> fresh_resnet(Exec&, const ResNetConfig& config, uint64_t seed,
                                                DType = DType::f32);

// Writes parameters under their names in file layout (F32, or F16 when `half`).  NumericError when
// one is not finite.
void save_parameters(const Parameters& parameters, const std::filesystem::path& file,
                     bool half = false);

// How CLIP wants its pixels (feature_extractor/preprocessor_config.json).
struct ImagePreprocessing {
  std::vector<float> mean{0.48145466f, 0.4578275f, 0.40821073f};
  std::vector<float> std{0.26862954f, 0.26130258f, 0.27577711f};
  static ImagePreprocessing read(const std::filesystem::path& folder);  // defaults when absent
};

NoiseSchedule load_schedule(
    const std::filesystem::path& root);  // ROOT/scheduler/scheduler_config.json

}  // namespace realfake
