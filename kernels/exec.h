#pragma once
// Exec: where work runs. One device, one stream, one pool; given first to every op. Not shared
// between threads; two Execs may work at the same time.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace realfake {

struct OpTable;
class Pool;

class Exec {
 public:
  explicit Exec(Device device, int index = 0);  // GpuError when the device cannot be used
  ~Exec();
  Exec(const Exec&) = delete;
  Exec& operator=(const Exec&) = delete;

  Device device() const { return device_; }
  const OpTable& ops() const { return *ops_; }
  // Other implementations for this Exec alone, such as ones that count and pass on. `table` must
  // outlive their use.
  void set_ops(const OpTable& table) { ops_ = &table; }
  void* stream() const { return stream_; }  // cudaStream_t; null elsewhere
  Pool& pool() const { return *pool_; }

  Tensor empty(const Shape& shape, DType dtype = DType::f32);
  Tensor zeros(const Shape& shape, DType dtype = DType::f32);
  Tensor full(const Shape& shape, double value, DType dtype = DType::f32);
  Tensor clone(const Tensor& x);  // dense copy on this device

  // Host <-> device. Each waits for the copy.
  Tensor from_host(const void* data, const Shape& shape, DType dtype);
  template <class T>
  Tensor from_vector(const std::vector<T>& v, const Shape& shape) {
    require(static_cast<int64_t>(v.size()) == shape.numel(), "[from_vector] ", v.size(),
            " values for shape ", shape);
    return from_host(v.data(), shape, dtype_of<T>());
  }
  void to_host(void* to, const Tensor& from);  // packs strided rows
  template <class T>
  std::vector<T> to_vector(const Tensor& x) {
    require(x.dtype() == dtype_of<T>(), "[to_vector] tensor is ", name_of(x.dtype()));
    std::vector<T> v(static_cast<size_t>(x.numel()));
    to_host(v.data(), x);
    return v;
  }
  double scalar(const Tensor& x);  // one floating element

  void synchronize();
  size_t peak_bytes() const;  // high-water mark of the pool

 private:
  Device device_;
  const OpTable* ops_ = nullptr;
  void* stream_ = nullptr;
  std::shared_ptr<Pool> pool_;
};

Device parse_device(const std::string& text);  // UsageError
bool cuda_available();                         // built with CUDA and a device answers

}  // namespace realfake
