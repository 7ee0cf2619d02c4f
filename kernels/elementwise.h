#pragma once
// Elementwise arithmetic and data movement. Rows may be strided everywhere here, so a concat is two
// copies into column slices and its backward two reads of them.
#include "kernels/ops.h"

namespace realfake {

// y = value everywhere.
void fill(Exec&, Out y, double value);
// y = x (same shape, same dtype).
void copy(Exec&, Out y, In x);
// y = alpha a + beta b.   y may be a or b.
void add(Exec&, Out y, In a, In b, double alpha = 1, double beta = 1);
// y = alpha x (+ y when accumulate).   y may be x when not accumulating.
void scale(Exec&, Out y, In x, double alpha, bool accumulate = false);
// y = a * b (+ y when accumulate).
void multiply(Exec&, Out y, In a, In b, bool accumulate = false);
// y (N,...,C) = x (N,...,C) + v (N,C): v broadcast over what lies between.  y may be x.  The
// gradient of v is sum_middle.
void add_broadcast(Exec&, Out y, In x, In v);
// dv (N,C) = sum of x (N,...,C) over the middle dimensions.
void sum_middle(Exec&, GradOut dv, In x);
// y = x * s[n], s (N) scales sample n of x (N,...) (+ y when accumulate).   y may be x.
void scale_samples(Exec&, Out y, In x, In s, bool accumulate = false);
// Converts the dtype: any floating to any floating of this device, i32/i64/u8 to floating.
void cast(Exec&, Out y, In x);

// The gradient rule of a plain pass-through: dst by mode from src.
void accumulate_into(Exec&, GradOut dst, In src);

}  // namespace realfake
