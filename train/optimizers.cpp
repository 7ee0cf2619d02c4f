#include "train/optimizers.h"

#include <cmath>
#include <numbers>

#include "kernels/elementwise.h"
#include "kernels/reduce.h"

namespace realfake {
namespace {

std::vector<Tensor> gradients(const std::vector<Param>& params) {
  std::vector<Tensor> g;
  for (const Param& p : params) {
    require(p->slot && p->slot->arrived, "[optimizer] no gradient arrived for '", p->name, "'");
    g.push_back(p->slot->grad);
  }
  return g;
}

void clear(const std::vector<Param>& params) {
  for (const Param& p : params) p->slot->arrived = false;
}

// Norm of all gradients; names the first parameter whose gradient is not finite.
double checked_norm(Exec& exec, const std::vector<Param>& params) {
  const std::vector<Tensor> g = gradients(params);
  const double norm = global_norm(exec, g);
  if (std::isfinite(norm)) return norm;
  for (size_t i = 0; i < g.size(); ++i) {
    const Tensor found = exec.empty({2}, DType::i64);
    count_nonfinite(exec, found, g[i].flat());
    const std::vector<int64_t> v = exec.to_vector<int64_t>(found);
    if (v[0] > 0)
      throw NumericError(concat("gradient of '", params[i]->name, "': ", v[0],
                                " values not finite, first at index ", v[1]));
  }
  throw NumericError(concat("gradient norm is ", norm));
}

double clip_factor(double norm, double clip) {
  return clip > 0 && norm > clip ? clip / (norm + 1e-6) : 1;
}

void put(SafetensorsWriter& to, Exec& exec, const std::string& name, const Tensor& t) {
  const std::vector<float> v = exec.to_vector<float>(t);
  to.add_f32(name, t.shape().vec(), v.data());
}

void take(const SafetensorsFile& from, Exec& exec, const std::string& name, const Tensor& t) {
  const WeightInfo& info = from.info(name);
  if (info.shape != t.shape().vec())
    throw InputError(concat(from.path().string(), ": '", name, "' is ", shape_text(info.shape),
                            ", expected ", t.shape().str()));
  copy(exec, t, exec.from_vector(from.read_f32(name), t.shape()));
}

}  // namespace

AdamW::AdamW(Exec& exec, std::vector<Param> params, AdamWParams options, bool decay_vectors)
    : exec_(exec), params_(std::move(params)), options_(options) {
  for (const Param& p : params_) {
    const Tensor& v = p->value;
    tensors_.push_back({v, p->slot->grad, exec.zeros(v.shape(), v.dtype()),
                        exec.zeros(v.shape(), v.dtype()), decay_vectors || v.rank() > 1});
  }
}

double AdamW::step(double lr, double clip) {
  const double norm = checked_norm(exec_, params_);
  options_.lr = lr;
  adamw_step(exec_, tensors_, options_, ++step_, clip_factor(norm, clip));
  clear(params_);
  return norm;
}

void AdamW::save(SafetensorsWriter& to) const {
  for (size_t i = 0; i < params_.size(); ++i) {
    put(to, exec_, "optimizer." + params_[i]->name + ".m", tensors_[i].m);
    put(to, exec_, "optimizer." + params_[i]->name + ".v", tensors_[i].v);
  }
  to.add_i64("optimizer.step", {1}, &step_);
}

void AdamW::load(const SafetensorsFile& from) {
  for (size_t i = 0; i < params_.size(); ++i) {
    take(from, exec_, "optimizer." + params_[i]->name + ".m", tensors_[i].m);
    take(from, exec_, "optimizer." + params_[i]->name + ".v", tensors_[i].v);
  }
  step_ = from.read_i64("optimizer.step").at(0);
}

Sgd::Sgd(Exec& exec, std::vector<Param> params, SgdParams options, bool decay_vectors)
    : exec_(exec), params_(std::move(params)), options_(options) {
  for (const Param& p : params_)
    tensors_.push_back({p->value, p->slot->grad, exec.zeros(p->value.shape(), p->value.dtype()),
                        decay_vectors || p->value.rank() > 1});
}

double Sgd::step(double lr, double clip) {
  const double norm = checked_norm(exec_, params_);
  options_.lr = lr;
  sgd_step(exec_, tensors_, options_, ++step_, clip_factor(norm, clip));
  clear(params_);
  return norm;
}

void Sgd::save(SafetensorsWriter& to) const {
  for (size_t i = 0; i < params_.size(); ++i)
    put(to, exec_, "optimizer." + params_[i]->name + ".buffer", tensors_[i].buffer);
  to.add_i64("optimizer.step", {1}, &step_);
}

void Sgd::load(const SafetensorsFile& from) {
  for (size_t i = 0; i < params_.size(); ++i)
    take(from, exec_, "optimizer." + params_[i]->name + ".buffer", tensors_[i].buffer);
  step_ = from.read_i64("optimizer.step").at(0);
}

double constant_rate(double peak, int64_t step, int64_t warmup) {
  return step < warmup ? peak * static_cast<double>(step + 1) / static_cast<double>(warmup) : peak;
}

double cosine_rate(double peak, int64_t step, int64_t total, int64_t warmup) {
  if (step < warmup) return constant_rate(peak, step, warmup);
  const double done = static_cast<double>(step - warmup) /
                      static_cast<double>(std::max<int64_t>(1, total - warmup));
  return peak * 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, done)));
}

Ema::Ema(Exec& exec, std::vector<Param> params, double decay)
    : exec_(exec), params_(std::move(params)), decay_(decay) {
  for (const Param& p : params_) average_.push_back(exec.clone(p->value));
}

void Ema::update() {
  std::vector<Tensor> values;
  for (const Param& p : params_) values.push_back(p->value);
  ema_update(exec_, average_, values, decay_);
}

void Ema::swap() {
  for (size_t i = 0; i < params_.size(); ++i) {
    const Tensor live = exec_.clone(params_[i]->value);
    copy(exec_, params_[i]->value, average_[i]);
    copy(exec_, average_[i], live);
  }
}

void Ema::save(SafetensorsWriter& to) const {
  for (size_t i = 0; i < params_.size(); ++i)
    put(to, exec_, "ema." + params_[i]->name, average_[i]);
}

void Ema::load(const SafetensorsFile& from) {
  for (size_t i = 0; i < params_.size(); ++i)
    take(from, exec_, "ema." + params_[i]->name, average_[i]);
}

void save_values(SafetensorsWriter& to, Exec& exec, const std::vector<Param>& params) {
  for (const Param& p : params) put(to, exec, "param." + p->name, p->value);
}

void load_values(const SafetensorsFile& from, Exec& exec, const std::vector<Param>& params) {
  for (const Param& p : params) take(from, exec, "param." + p->name, p->value);
}

}  // namespace realfake
