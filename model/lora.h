#pragma once
// LoRA on q, k, v and out of every self- and cross-attention of a UNet (Hu et al. 2021;
// Real-Fake 1.2). Reads the five dialects in use, writes PEFT/diffusers names.
#include <filesystem>
#include <string>
#include <vector>

#include "model/unet.h"

namespace realfake {

class Lora {
 public:
  // Fresh: down ~ N(0, 1/rank^2), up = 0.  alpha = rank (scale 1).
  Lora(Exec& exec, UNet& unet, int64_t rank, uint64_t seed, DType dtype = DType::f32);
  // From a file: attn_procs (A), the same below `unet.` (B), lora.down/up (C), PEFT lora_A/B (D),
  // kohya (E). InputError when a tensor matches no layer, has no partner, or ranks or widths
  // disagree.
  Lora(Exec& exec, UNet& unet, const std::filesystem::path& file, DType dtype = DType::f32);
  ~Lora();  // detaches
  Lora(const Lora&) = delete;
  Lora& operator=(const Lora&) = delete;

  // Named as in the file that was read, or "unet.<layer>.lora_A.weight" when fresh.
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  int64_t rank() const { return rank_; }
  const std::string& dialect() const { return dialect_; }
  size_t layers() const { return branches_.size(); }

  // Every adapted layer then computes w x + scale alpha / rank up (down x).
  void attach(double scale);
  void detach();
  // Adds scale alpha / rank up down to the frozen weights (sampling needs no branch then); unmerge
  // restores the weights bit for bit.
  void merge(double scale);
  void unmerge();

  void save(
      const std::filesystem::path& file) const;  // dialect D; IoError, NumericError when not finite

 private:
  struct Branch {
    std::string layer;
    Linear* linear;
    std::shared_ptr<LoraBranch> weights;
    double alpha_over_rank;
    Tensor original;  // while merged
  };
  void add_branch(const std::string& layer, Linear* linear, Param down, Param up, double alpha);
  Parameters parameters_;
  std::vector<Branch> branches_;
  int64_t rank_ = 0;
  std::string dialect_ = "peft";
};

}  // namespace realfake
