#pragma once
// Named parameters of a network, under the names and shapes of the published files. Files hold
// PyTorch's layouts; convolution weights are turned to (K,R,S,C) when they come in and back when
// they go out.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/tape.h"

namespace realfake {

// conv: file (K,C,R,S), here (K,R,S,C);  pointwise: a 1x1 convolution used as a linear layer, file
// (K,C,1,1), here (K,C).
enum class Layout : uint8_t { plain, conv, pointwise };

struct Parameter {
  std::string name;
  std::vector<int64_t> file_shape;
  Layout layout = Layout::plain;
  Tensor value;
  std::shared_ptr<GradSlot> slot;  // null while frozen
  Var var() const { return Var(value, slot); }
};
using Param = std::shared_ptr<Parameter>;

// How a fresh parameter is drawn when there is no file.
struct Init {
  enum Kind { constant, uniform, normal } kind = constant;
  double value = 0;  // the constant, the bound of the uniform, or the standard deviation
  static Init zeros() { return {constant, 0}; }
  static Init ones() { return {constant, 1}; }
  static Init fan_in(
      int64_t fan);  // torch's default of Linear and Conv2d: U(-1/sqrt(fan), 1/sqrt(fan))
  static Init gaussian(double std) { return {normal, std}; }
};

// The parameters of one component, in the order in which the network asked for them.
class Parameters {
 public:
  explicit Parameters(Exec& exec) : exec_(&exec) {}
  Exec& exec() const { return *exec_; }
  Param add(Parameter p);  // ContractError on a name twice
  const std::vector<Param>& all() const { return list_; }
  Param find(const std::string& name) const;  // null when absent
  int64_t numel() const;
  // Gives every parameter (or those that `which` accepts) a gradient slot, or takes it away.
  void set_trainable(bool on, const std::function<bool(const Parameter&)>& which = {});
  std::vector<Param> trainable() const;
  void clear_gradients();  // next gradients overwrite; buffers are kept

  // Host copies in file layout.
  std::vector<float> to_file(const Parameter& p) const;
  void from_file(Parameter& p, const std::vector<float>& values);

 private:
  Exec* exec_;
  std::vector<Param> list_;
  std::map<std::string, Param> index_;
};

// Where a network's weights come from.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // The values of a tensor in file layout, or nullopt when there is none of that name. InputError
  // when the shape is another.
  virtual std::optional<std::vector<float>> find(const std::string& name,
                                                 const std::vector<int64_t>& shape) = 0;
};

// Handed to a network's constructor: makes parameters by name below a prefix, from a source or
// freshly drawn.
class Builder {
 public:
  // `source` null: draw from (seed, name).  dtype f32, or f64 on cpu for gradient checks.
  Builder(Parameters& parameters, TensorSource* source, uint64_t seed = 0,
          DType dtype = DType::f32);

  Builder operator/(const std::string& part) const;  // below "<prefix>.<part>"
  Builder operator/(int64_t index) const { return *this / std::to_string(index); }
  const std::string& prefix() const { return prefix_; }
  Parameters& parameters() const { return *parameters_; }
  DType dtype() const { return dtype_; }
  bool from_source() const { return source_ != nullptr; }
  // Does the source hold "<prefix>.<name>"? Always false without one.
  bool has(const std::string& name, const std::vector<int64_t>& shape) const;

  Param get(const std::string& name, const std::vector<int64_t>& file_shape, Init init,
            Layout layout = Layout::plain) const;
  // The first of several published names that the source holds (old VAE files: query, key, value,
  // proj_attn).
  Param get_any(const std::vector<std::string>& names, const std::vector<int64_t>& file_shape,
                Init init, Layout layout = Layout::plain) const;
  // Throws InputError naming what was not there: "missing 'a' and 41 more".
  void finish() const;

 private:
  Param make(const std::string& full_name, const std::vector<int64_t>& file_shape, Init init,
             Layout layout, std::optional<std::vector<float>> values) const;
  std::string full(const std::string& name) const {
    return prefix_.empty() ? name : prefix_ + "." + name;
  }
  Parameters* parameters_;
  TensorSource* source_;
  uint64_t seed_;
  DType dtype_;
  std::string prefix_;
  std::shared_ptr<std::vector<std::string>> missing_;
};

}  // namespace realfake
