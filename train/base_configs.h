#pragma once
// The configuration files of the tiny base pipeline, as diffusers and transformers write them.
#include "kernels/base/json.h"
#include "model/tokenizer.h"

namespace realfake::base {

constexpr int64_t kVocabulary = 600;
constexpr int64_t kPromptLength = 16;

Json vae_config();
Json unet_config();
Json text_config(const Tokenizer& tokenizer);
Json vision_config();
Json scheduler_config();
Json preprocessor_config();
Json model_index();

}  // namespace realfake::base
