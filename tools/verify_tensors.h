#pragma once
// Tensors of `verify` files. There they lie in PyTorch's layouts, images [B,C,H,W]; inside,
// (B,H,W,C).
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/exec.h"
#include "model/safetensors.h"

namespace realfake {

class VerifyInput {
 public:
  explicit VerifyInput(const std::filesystem::path& file) : file_(file) {}

  // `shape` holds what the model expects, -1 where any size of at least 1 will do; `letters` is for
  // messages: "[B,4,h,w]".
  std::vector<float> values(const std::string& name, const std::vector<int64_t>& shape,
                            const std::string& letters) const;
  // I64 values within [low, high].
  std::vector<int64_t> integers(const std::string& name, const std::vector<int64_t>& shape,
                                const std::string& letters, int64_t low, int64_t high) const;
  std::vector<int64_t> shape(const std::string& name) const { return file_.info(name).shape; }

  Tensor images(Exec& exec, const std::string& name, int64_t batch, int64_t channels,
                const std::string& letters) const;
  Tensor tensor(Exec& exec, const std::string& name, const std::vector<int64_t>& shape,
                const std::string& letters) const;
  Tensor integer_tensor(Exec& exec, const std::string& name, const std::vector<int64_t>& shape,
                        const std::string& letters, int64_t low, int64_t high) const;

 private:
  void check(const std::string& name, const std::vector<int64_t>& shape,
             const std::string& letters) const;
  SafetensorsFile file_;
};

class VerifyOutput {
 public:
  void images(Exec& exec, const std::string& name, const Tensor& x);  // (B,H,W,C) -> [B,C,H,W]
  void tensor(Exec& exec, const std::string& name, const Tensor& x);
  void values(const std::string& name, const std::vector<int64_t>& shape,
              const std::vector<float>& v);
  void integers(const std::string& name, const std::vector<int64_t>& shape,
                const std::vector<int64_t>& v);
  // Writes the file and says on standard output what is in it.
  void write(const std::filesystem::path& file) const;

 private:
  SafetensorsWriter writer_;
  std::vector<std::string> lines_;
};

// ROOT/NAME when there is such a folder, else ROOT itself: a component may be given directly.
std::filesystem::path component_folder(const std::filesystem::path& root, const std::string& name);

}  // namespace realfake
