#include "model/parameters.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/sha256.h"
#include "kernels/pool.h"
#include "kernels/random.h"

namespace realfake {
namespace {

struct ConvDims {
  int64_t k, c, r, s;
};
ConvDims conv_dims(const std::vector<int64_t>& file) {
  require(file.size() == 4, "[parameters] a convolution weight has rank ", file.size());
  return {file[0], file[1], file[2], file[3]};
}

// (K,C,R,S) <-> (K,R,S,C)
std::vector<float> turn(const std::vector<float>& v, ConvDims d, bool to_file) {
  std::vector<float> out(v.size());
  for (int64_t k = 0; k < d.k; ++k)
    for (int64_t c = 0; c < d.c; ++c)
      for (int64_t rs = 0; rs < d.r * d.s; ++rs) {
        const auto file = static_cast<size_t>((k * d.c + c) * d.r * d.s + rs);
        const auto here = static_cast<size_t>((k * d.r * d.s + rs) * d.c + c);
        if (to_file)
          out[file] = v[here];
        else
          out[here] = v[file];
      }
  return out;
}

Shape shape_here(const std::vector<int64_t>& file, Layout layout) {
  if (layout == Layout::plain) return Shape(file);
  if (layout == Layout::pointwise) return {file[0], file[1]};
  const ConvDims d = conv_dims(file);
  return {d.k, d.r, d.s, d.c};
}

// A fresh parameter depends on (seed, its name) only, not on the order of construction.
uint64_t name_key(const std::string& name) {
  return std::stoull(sha256_hex(name).substr(0, 15), nullptr, 16);
}

std::string list_missing(const std::vector<std::string>& names) {
  std::string text = "missing '" + names.front() + "'";
  if (names.size() > 1) text += concat(" and ", names.size() - 1, " more");
  return text;
}

}  // namespace

Init Init::fan_in(int64_t fan) {
  return {uniform, 1.0 / std::sqrt(static_cast<double>(fan))};
}

Param Parameters::add(Parameter p) {
  require(!index_.contains(p.name), "[parameters] '", p.name, "' twice");
  auto shared = std::make_shared<Parameter>(std::move(p));
  list_.push_back(shared);
  index_[shared->name] = shared;
  return shared;
}

Param Parameters::find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : it->second;
}

int64_t Parameters::numel() const {
  int64_t n = 0;
  for (const Param& p : list_) n += p->value.numel();
  return n;
}

void Parameters::set_trainable(bool on, const std::function<bool(const Parameter&)>& which) {
  for (const Param& p : list_) {
    if (which && !which(*p)) continue;
    if (!on) {
      p->slot = nullptr;
    } else if (!p->slot) {
      p->slot = std::make_shared<GradSlot>();
      p->slot->persistent = true;
      p->slot->grad = exec_->zeros(p->value.shape(), p->value.dtype());
    }
  }
}

std::vector<Param> Parameters::trainable() const {
  std::vector<Param> out;
  for (const Param& p : list_)
    if (p->slot) out.push_back(p);
  return out;
}

void Parameters::clear_gradients() {
  for (const Param& p : list_)
    if (p->slot) p->slot->arrived = false;
}

std::vector<float> Parameters::to_file(const Parameter& p) const {
  std::vector<float> v;
  if (p.value.dtype() == DType::f64) {
    const auto wide = exec_->to_vector<double>(p.value);
    v.assign(wide.begin(), wide.end());
  } else {
    v = exec_->to_vector<float>(p.value);
  }
  return p.layout == Layout::conv ? turn(v, conv_dims(p.file_shape), true) : v;
}

void Parameters::from_file(Parameter& p, const std::vector<float>& values) {
  const std::vector<float> v =
      p.layout == Layout::conv ? turn(values, conv_dims(p.file_shape), false) : values;
  const Shape shape = shape_here(p.file_shape, p.layout);
  Tensor fresh;
  if (p.value.defined() && p.value.dtype() == DType::f64)
    fresh = exec_->from_vector(std::vector<double>(v.begin(), v.end()), shape);
  else
    fresh = exec_->from_vector(v, shape);
  if (p.value.defined())
    exec_->pool().memory().copy(p.value.raw(), fresh.raw(),
                                static_cast<size_t>(fresh.numel()) * size_of(fresh.dtype()),
                                exec_->stream());
  else
    p.value = fresh;
}

Builder::Builder(Parameters& parameters, TensorSource* source, uint64_t seed, DType dtype)
    : parameters_(&parameters),
      source_(source),
      seed_(seed),
      dtype_(dtype),
      missing_(std::make_shared<std::vector<std::string>>()) {}

Builder Builder::operator/(const std::string& part) const {
  Builder b = *this;
  b.prefix_ = full(part);
  return b;
}

bool Builder::has(const std::string& name, const std::vector<int64_t>& shape) const {
  return source_ && source_->find(full(name), shape).has_value();
}

Param Builder::get(const std::string& name, const std::vector<int64_t>& file_shape, Init init,
                   Layout layout) const {
  return get_any({name}, file_shape, init, layout);
}

Param Builder::get_any(const std::vector<std::string>& names,
                       const std::vector<int64_t>& file_shape, Init init, Layout layout) const {
  std::optional<std::vector<float>> values;
  if (source_) {
    for (const std::string& name : names)
      if (!values) values = source_->find(full(name), file_shape);
    if (!values) missing_->push_back(full(names.front()));
  }
  return make(full(names.front()), file_shape, init, layout, std::move(values));
}

Param Builder::make(const std::string& full_name, const std::vector<int64_t>& file_shape, Init init,
                    Layout layout, std::optional<std::vector<float>> values) const {
  Parameter p;
  p.name = full_name;
  p.file_shape = file_shape;
  p.layout = layout;
  Exec& ex = parameters_->exec();
  // Missing in the source: finish() will say so; no memory for sizes that only a config claims.
  if (source_ && !values) return parameters_->add(std::move(p));
  p.value = ex.empty(shape_here(file_shape, layout), dtype_);
  if (!values) {
    Philox random(seed_, Stream::init, name_key(full_name));
    values.emplace(static_cast<size_t>(p.value.numel()));
    for (float& v : *values) {
      if (init.kind == Init::constant) v = static_cast<float>(init.value);
      if (init.kind == Init::uniform)
        v = static_cast<float>((2 * random.uniform() - 1) * init.value);
      if (init.kind == Init::normal) v = static_cast<float>(random.normal() * init.value);
    }
  }
  parameters_->from_file(p, *values);
  return parameters_->add(std::move(p));
}

void Builder::finish() const {
  if (!missing_->empty()) throw InputError(list_missing(*missing_));
}

}  // namespace realfake
