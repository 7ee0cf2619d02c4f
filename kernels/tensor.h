#pragma once
// Tensor: shape, dtype, device and shared storage. Row-major. A tensor is dense except that rows
// (the last dimension) may be further apart than they are long: `row_stride` (a column slice of a
// wider buffer). Images are NHWC. Copying a Tensor copies the handle, not the data.
#include <array>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace realfake {

enum class Device : uint8_t { cpu, cuda, emulated };
constexpr const char* name_of(Device d) {
  return d == Device::cpu ? "cpu" : d == Device::cuda ? "cuda" : "emulated";
}
// cpu and emulated tensors can be read through a host pointer.
constexpr bool is_host(Device d) {
  return d != Device::cuda;
}

class Shape {
 public:
  static constexpr int max_rank = 8;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  explicit Shape(const std::vector<int64_t>& dims);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i < 0 ? rank_ + i : i]; }
  void set(int i, int64_t v) { dims_[i < 0 ? rank_ + i : i] = v; }
  int64_t numel() const;  // ContractError on overflow
  bool operator==(const Shape& o) const;
  bool operator!=(const Shape& o) const { return !(*this == o); }
  std::string str() const;  // "[2,3]"
  std::vector<int64_t> vec() const { return {dims_.begin(), dims_.begin() + rank_}; }

 private:
  std::array<int64_t, max_rank> dims_{};
  int rank_ = 0;
};

// So that a message takes the shape itself and the text is made only when the message is.
std::ostream& operator<<(std::ostream& out, const Shape& shape);

// Memory of one tensor; returns itself to its pool when the last handle goes.
struct Storage;

class Tensor {
 public:
  Tensor() = default;
  Tensor(std::shared_ptr<Storage> storage, Shape shape, DType dtype, int64_t offset = 0,
         int64_t row_stride = -1);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const;
  // Rows are all but the last dimension; a rank-0 tensor is one row of one element.
  int64_t columns() const { return rank() ? shape_[-1] : 1; }
  int64_t rows() const { return columns() ? numel() / columns() : 0; }
  int64_t row_stride() const { return row_stride_; }
  bool dense() const { return row_stride_ == columns() || rows() <= 1; }

  void* raw() const;  // address on the tensor's device
  template <class T>
  T* data() const {
    require(dtype_of<T>() == dtype_, "[tensor] data<", name_of(dtype_of<T>()), ">() of a ",
            name_of(dtype_), " tensor");
    return static_cast<T*>(raw());
  }

  Tensor reshape(const Shape& shape) const;        // dense, or last dimension unchanged
  Tensor slice(int64_t begin, int64_t end) const;  // [begin, end) of the leading dimension
  Tensor columns(int64_t begin,
                 int64_t end) const;  // [begin, end) of the last dimension: strided rows
  Tensor flat() const { return reshape({numel()}); }

 private:
  std::shared_ptr<Storage> storage_;
  Shape shape_;
  DType dtype_ = DType::f32;
  int64_t offset_ = 0;  // elements
  int64_t row_stride_ = 1;
};

}  // namespace realfake
