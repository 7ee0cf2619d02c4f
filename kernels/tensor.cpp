#include "kernels/tensor.h"

#include "kernels/pool.h"

namespace realfake {

Shape::Shape(std::initializer_list<int64_t> dims) : Shape(std::vector<int64_t>(dims)) {}

Shape::Shape(const std::vector<int64_t>& dims) : rank_(static_cast<int>(dims.size())) {
  require(dims.size() <= max_rank, "[shape] rank ", dims.size(), " exceeds ", int{max_rank});
  for (int i = 0; i < rank_; ++i) {
    require(dims[static_cast<size_t>(i)] >= 0, "[shape] dimension ", i, " is ",
            dims[static_cast<size_t>(i)]);
    dims_[static_cast<size_t>(i)] = dims[static_cast<size_t>(i)];
  }
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i)
    require(!__builtin_mul_overflow(n, dims_[static_cast<size_t>(i)], &n), "[shape] ", str(),
            " overflows");
  return n;
}

bool Shape::operator==(const Shape& o) const {
  if (rank_ != o.rank_) return false;
  for (int i = 0; i < rank_; ++i)
    if ((*this)[i] != o[i]) return false;
  return true;
}

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) {
    if (i) s += ',';
    s += std::to_string((*this)[i]);
  }
  return s + "]";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << shape.str();
}

Tensor::Tensor(std::shared_ptr<Storage> storage, Shape shape, DType dtype, int64_t offset,
               int64_t row_stride)
    : storage_(std::move(storage)), shape_(shape), dtype_(dtype), offset_(offset) {
  row_stride_ = row_stride < 0 ? columns() : row_stride;
}

Device Tensor::device() const {
  require(defined(), "[tensor] undefined");
  return storage_->pool->device();
}

void* Tensor::raw() const {
  require(defined(), "[tensor] undefined");
  return static_cast<char*>(storage_->data) + offset_ * static_cast<int64_t>(size_of(dtype_));
}

Tensor Tensor::reshape(const Shape& shape) const {
  require(shape.numel() == numel(), "[reshape] ", shape_, " to ", shape);
  const bool keeps_rows = shape.rank() > 0 && rank() > 0 && shape[-1] == shape_[-1];
  require(dense() || keeps_rows, "[reshape] strided ", shape_, " to ", shape);
  return Tensor(storage_, shape, dtype_, offset_, keeps_rows ? row_stride_ : -1);
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  require(rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[0], "[slice] [", begin, ",",
          end, ") of ", shape_);
  Shape s = shape_;
  s.set(0, end - begin);
  int64_t step = 1;  // elements between leading indices
  if (rank() >= 2) {
    step = row_stride_;
    for (int i = 1; i < rank() - 1; ++i) step *= shape_[i];
  }
  return Tensor(storage_, s, dtype_, offset_ + begin * step, rank() >= 2 ? row_stride_ : -1);
}

Tensor Tensor::columns(int64_t begin, int64_t end) const {
  require(rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[-1], "[columns] [", begin, ",",
          end, ") of ", shape_);
  Shape s = shape_;
  s.set(-1, end - begin);
  return Tensor(storage_, s, dtype_, offset_ + begin, row_stride_);
}

}  // namespace realfake
