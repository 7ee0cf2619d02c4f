#pragma once
// Optimisers over a network's trainable parameters, with their state; learning-rate schedules; EMA.
#include <string>
#include <vector>

#include "kernels/optimizer.h"
#include "model/parameters.h"
#include "model/safetensors.h"

namespace realfake {

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // One update with this learning rate from the gathered gradients, clipped to `clip` (0: not),
  // which are then cleared. Returns the norm before clipping.  NumericError naming the parameter
  // when a gradient is not finite.
  virtual double step(double lr, double clip) = 0;
  virtual void save(SafetensorsWriter& to) const = 0;  // optimizer.<name>.<state>, optimizer.step
  virtual void load(const SafetensorsFile& from) = 0;
};

// Norms and biases (rank 1) take no weight decay when `decay_vectors` is false, as timm does.
class AdamW : public Optimizer {
 public:
  AdamW(Exec& exec, std::vector<Param> params, AdamWParams options, bool decay_vectors = true);
  double step(double lr, double clip) override;
  int64_t steps() const { return step_; }
  void save(SafetensorsWriter& to) const override;
  void load(const SafetensorsFile& from) override;

 private:
  Exec& exec_;
  std::vector<Param> params_;
  std::vector<AdamWTensor> tensors_;
  AdamWParams options_;
  int64_t step_ = 0;
};

class Sgd : public Optimizer {
 public:
  Sgd(Exec& exec, std::vector<Param> params, SgdParams options, bool decay_vectors = false);
  double step(double lr, double clip) override;
  void save(SafetensorsWriter& to) const override;
  void load(const SafetensorsFile& from) override;

 private:
  Exec& exec_;
  std::vector<Param> params_;
  std::vector<SgdTensor> tensors_;
  SgdParams options_;
  int64_t step_ = 0;
};

// Linear warm-up over `warmup` steps, then cosine to 0 at `total` (or constant). `step` counts from
// 0.
double cosine_rate(double peak, int64_t step, int64_t total, int64_t warmup);
double constant_rate(double peak, int64_t step, int64_t warmup);

// An exponential moving average of parameters; `swap` exchanges it with the live values.
class Ema {
 public:
  Ema(Exec& exec, std::vector<Param> params, double decay);
  void update();
  void swap();
  void save(SafetensorsWriter& to) const;  // ema.<name>
  void load(const SafetensorsFile& from);

 private:
  Exec& exec_;
  std::vector<Param> params_;
  std::vector<Tensor> average_;
  double decay_;
};

// Parameter values of a checkpoint: param.<name>, exact.
void save_values(SafetensorsWriter& to, Exec& exec, const std::vector<Param>& params);
void load_values(const SafetensorsFile& from, Exec& exec, const std::vector<Param>& params);

}  // namespace realfake
