#include "kernels/exec.h"

#include <cstring>

#include "kernels/backend.h"

namespace realfake {
namespace {

const Executor& executor_for(Device device) {
  const Executor* e = device == Device::cpu        ? cpu_executor()
                      : device == Device::emulated ? emulated_executor()
                                                   : cuda_executor();
  if (!e) throw GpuError("--device cuda: this program was built without CUDA");
  if (!e->available())
    throw GpuError(concat("--device ", name_of(device), ": no such device answers"));
  return *e;
}

}  // namespace

Exec::Exec(Device device, int index) : device_(device) {
  const Executor& e = executor_for(device);
  ops_ = e.table;
  stream_ = e.open(index);
  pool_ = std::make_shared<Pool>(device, e.memory, stream_);
}

Exec::~Exec() {
  if (stream_) executor_for(device_).close(stream_);
}

Tensor Exec::empty(const Shape& shape, DType dtype) {
  const auto bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  return Tensor(pool_->allocate(bytes), shape, dtype);
}

Tensor Exec::zeros(const Shape& shape, DType dtype) {
  Tensor t = empty(shape, dtype);
  pool_->memory().fill(t.raw(), 0, static_cast<size_t>(t.numel()) * size_of(dtype), stream_);
  return t;
}

Tensor Exec::full(const Shape& shape, double value, DType dtype) {
  Tensor t = empty(shape, dtype);
  fill(*this, t, value);
  return t;
}

Tensor Exec::clone(const Tensor& x) {
  Tensor t = empty(x.shape(), x.dtype());
  if (x.dense())
    pool_->memory().copy(t.raw(), x.raw(), static_cast<size_t>(x.numel()) * size_of(x.dtype()),
                         stream_);
  else
    copy(*this, t, x);
  return t;
}

Tensor Exec::from_host(const void* data, const Shape& shape, DType dtype) {
  Tensor t = empty(shape, dtype);
  const auto bytes = static_cast<size_t>(t.numel()) * size_of(dtype);
  if (bytes) pool_->memory().copy(t.raw(), data, bytes, stream_);
  return t;
}

void Exec::to_host(void* to, const Tensor& from) {
  require(from.device() == device_, "[to_host] a tensor of ", name_of(from.device()), " on ",
          name_of(device_));
  const Tensor t = from.dense() ? from : clone(from);
  const auto bytes = static_cast<size_t>(t.numel()) * size_of(t.dtype());
  if (bytes) pool_->memory().copy(to, t.raw(), bytes, stream_);
}

double Exec::scalar(const Tensor& x) {
  require(x.numel() == 1, "[scalar] of ", x.shape());
  if (x.dtype() == DType::f64) return to_vector<double>(x)[0];
  return static_cast<double>(to_vector<float>(x)[0]);
}

void Exec::synchronize() {
  executor_for(device_).synchronize(stream_);
}

size_t Exec::peak_bytes() const {
  return pool_->peak_bytes();
}

Device parse_device(const std::string& text) {
  for (Device d : {Device::cpu, Device::cuda, Device::emulated})
    if (text == name_of(d)) return d;
  throw UsageError("--device is '" + text + "', expected cpu, cuda or emulated");
}

bool cuda_available() {
  const Executor* e = cuda_executor();
  return e && e->available();
}

}  // namespace realfake
