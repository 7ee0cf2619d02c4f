#pragma once
// Argument checks of the public ops: one line per tensor, ContractError "[op] expected NAME ...,
// got ...".
#include <string>

#include "kernels/exec.h"
#include "kernels/ops.h"

namespace realfake {

class Expect {
 public:
  // All tensors of the call have `first`'s dtype, which must be one that the Exec's device computes
  // in.
  Expect(const Exec& ex, const char* op, In first) : ex_(ex), op_(op) {
    require(first.defined(), "[", op, "] expected a tensor, got none");
    dtype_ = first.dtype();
    require(dtype_ == DType::f32 || (dtype_ == DType::f64 && ex.device() == Device::cpu), "[", op,
            "] expected dtype f32", ex.device() == Device::cpu ? " or f64" : "", ", got ",
            name_of(dtype_));
  }

  void tensor(const char* name, In t, const Shape& shape) const {
    tensor(name, t);
    require(t.shape() == shape, "[", op_, "] expected ", name, " ", shape, ", got ", t.shape());
  }
  void tensor(const char* name, In t) const {
    require(t.defined(), "[", op_, "] expected ", name, ", got no tensor");
    require(t.dtype() == dtype_, "[", op_, "] expected ", name, " in ", name_of(dtype_), ", got ",
            name_of(t.dtype()));
    require(t.device() == ex_.device(), "[", op_, "] expected ", name, " on ",
            name_of(ex_.device()), ", got ", name_of(t.device()));
  }
  void dense(const char* name, In t, const Shape& shape) const {
    tensor(name, t, shape);
    require(t.dense(), "[", op_, "] expected ", name, " dense, got row stride ", t.row_stride(),
            " for ", t.columns(), " columns");
  }
  void rank(const char* name, In t, int low, int high = Shape::max_rank) const {
    require(t.rank() >= low && t.rank() <= high, "[", op_, "] expected ", name, " of rank ", low,
            high == low               ? ""
            : high == Shape::max_rank ? " or more"
                                      : " to " + std::to_string(high),
            ", got ", t.shape());
  }
  void grad(const char* name, const GradOut& g, const Shape& shape) const {
    if (g.wanted()) tensor(name, g.tensor, shape);
  }
  void dense_grad(const char* name, const GradOut& g, const Shape& shape) const {
    if (g.wanted()) dense(name, g.tensor, shape);
  }
  template <class... Parts>
  void that(bool ok, const Parts&... message) const {
    require(ok, "[", op_, "] ", message...);
  }

 private:
  const Exec& ex_;
  const char* op_;
  DType dtype_;
};

}  // namespace realfake
