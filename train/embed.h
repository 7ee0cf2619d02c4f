#pragma once
// What fine-tuning and generation read of the real set: VAE posterior moments, text states and CLIP
// image embeddings, computed once, so that their loops touch only the UNet.
#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "model/pipeline.h"
#include "train/reporter.h"

namespace realfake {

struct Embedded {
  Tensor moments;       // (N, h, w, 2C) f32 [mean | logvar]
  Tensor text_states;   // (U, T, D) f32: last_hidden_state of each distinct prompt
  Tensor empty_state;   // (1, T, D): of the negative prompt
  Tensor image_embeds;  // (N, P) f32, not normalised; undefined without an image encoder
  std::vector<std::string> prompts;  // (U)
  std::vector<int64_t> prompt_of;    // (N) -> U
  std::vector<int64_t> labels;       // (N)
  std::vector<std::string> classes;
  std::string weights;  // digest of the networks it was made with; see weights_digest
  int64_t size() const { return static_cast<int64_t>(labels.size()); }
};

struct EmbedOptions {
  int64_t batch = 100;
  std::string negative_prompt;
  std::string
      key;  // hash of weights, images and settings: a stored file with another key is not used
};

// pixels u8 of the set are taken at their own size, as the VAE gets them; the CLIP side is resized
// to the encoder's size.
Embedded embed_dataset(Exec& exec, const std::filesystem::path& pipeline, const ImageSet& set,
                       const EmbedOptions& options, Reporter& reporter);

// A safetensors file: moments [N,2C,h,w], text_states, empty_state, image_embeds, prompt_of,
// labels; metadata: key, classes, prompts.
void save_embedded(const Embedded& e, Exec& exec, const std::filesystem::path& file,
                   const std::string& key);
// InputError when the file is damaged or was made with another key (when `key` is not empty).
Embedded load_embedded(Exec& exec, const std::filesystem::path& file, const std::string& key);
// InputError when the pipeline's UNet or VAE cannot take these arrays, or when they were made with
// other networks than the pipeline's.
void require_fits(const Embedded& e, const std::filesystem::path& pipeline,
                  const std::string& name);
// sha256 over the files of all parts of the pipeline that `embed` uses.
std::string weights_digest(const std::filesystem::path& pipeline);
// sha256 (16 digits) over the weight files of one component, and over the arrays themselves.
std::string component_digest(const std::filesystem::path& folder);
std::string data_digest(Exec& exec, const Embedded& e);
// The key: sha256 over the weight files, the images and the options.
std::string embedding_key(const std::filesystem::path& pipeline, const ImageSet& set,
                          const EmbedOptions& options);

// Rows of a table by index: y (N, ...) = table[index[n]].
Tensor take_rows(Exec& exec, const Tensor& table, const std::vector<int64_t>& index);

// (N,T,D) context with its last token replaced by image embeddings (N,D): the paper's visual
// guidance (paper.md 1.2).
void replace_last_token(Exec& exec, const Tensor& context, const Tensor& image_embeds);
// Mean image embedding of each class (K,P), for --guidance_token class-mean.
Tensor class_mean_embeds(Exec& exec, const Embedded& e);

enum class GuidanceToken { off, image, class_mean };
GuidanceToken parse_guidance_token(const std::string& text);  // UsageError
// The embeddings that the token takes for these samples; undefined when off.
Tensor guidance_rows(Exec& exec, const Embedded& e, GuidanceToken token, const Tensor& class_means,
                     const std::vector<int64_t>& samples);

}  // namespace realfake
