#pragma once
// Checks of one argument each, for the lighter ops, whose arguments differ in dtype:
// "[op] expected x of shape ..., got ...".
#include "kernels/backend.h"

namespace realfake {

inline void expect_device(Exec& ex, const char* op, const char* name, In t) {
  require(t.defined(), "[", op, "] expected ", name, ", got an undefined tensor");
  require(t.device() == ex.device(), "[", op, "] expected ", name, " on ", name_of(ex.device()),
          ", got ", name_of(t.device()));
}
inline void expect_dtype(const char* op, const char* name, In t, DType dtype) {
  require(t.dtype() == dtype, "[", op, "] expected ", name, " of dtype ", name_of(dtype), ", got ",
          name_of(t.dtype()));
}
inline void expect_shape(const char* op, const char* name, In t, const Shape& shape) {
  require(t.shape() == shape, "[", op, "] expected ", name, " of shape ", shape, ", got ",
          t.shape());
}
inline void expect_dense(const char* op, const char* name, In t) {
  require(t.dense(), "[", op, "] expected dense ", name, ", got rows of ", t.columns(), " every ",
          t.row_stride());
}
inline void expect_rank(const char* op, const char* name, In t, int least, int most) {
  require(t.rank() >= least && t.rank() <= most, "[", op, "] expected ", name, " of rank ", least,
          most == least ? "" : " or more", ", got shape ", t.shape());
}

// T: f32 everywhere, f64 where the reference runs. Strided rows allowed.
inline void expect_real(Exec& ex, const char* op, const char* name, In t) {
  expect_device(ex, op, name, t);
  require(t.dtype() == DType::f32 || (t.dtype() == DType::f64 && ex.device() == Device::cpu), "[",
          op, "] expected ", name, " of dtype f32", ex.device() == Device::cpu ? " or f64" : "",
          ", got ", name_of(t.dtype()));
}
// A tensor that must be like another: given dtype and shape.
inline void expect_like(Exec& ex, const char* op, const char* name, In t, DType dtype,
                        const Shape& shape) {
  expect_device(ex, op, name, t);
  expect_dtype(op, name, t, dtype);
  expect_shape(op, name, t, shape);
}
inline void expect_dense_real(Exec& ex, const char* op, const char* name, In t) {
  expect_real(ex, op, name, t);
  expect_dense(op, name, t);
}
inline void expect_dense_like(Exec& ex, const char* op, const char* name, In t, DType dtype,
                              const Shape& shape) {
  expect_like(ex, op, name, t, dtype, shape);
  expect_dense(op, name, t);
}

// i64 values in [0, limit). Looked at on host devices only: reading them back from a GPU would wait
// for it.
inline void expect_indices(Exec& ex, const char* op, const char* name, In t, int64_t limit) {
  if (!is_host(ex.device())) return;
  const int64_t* values = t.data<int64_t>();
  for (int64_t i = 0; i < t.numel(); ++i)
    require(values[i] >= 0 && values[i] < limit, "[", op, "] expected ", name, " in [0, ", limit,
            "), got ", values[i], " at ", i);
}

// Elements of one sample of x (N,...).
inline int64_t per_sample(In x) {
  return x.dim(0) ? x.numel() / x.dim(0) : 0;
}

}  // namespace realfake
