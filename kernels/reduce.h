#pragma once
// Reductions in a fixed order: equal inputs give equal bytes. f32 sums accumulate in f32 per block
// of rows and in f64 across blocks on the cpu; by a fixed tree on cuda.
#include "kernels/ops.h"

namespace realfake {

// out (C) = sum of x (...,C) over all rows.   The gradient of a bias.
void column_sum(Exec&, GradOut out, In x);
// out (1) = sum / sum of squares / max |x| over all elements of x.
void sum_all(Exec&, Out out, In x);
void sum_squares(Exec&, Out out, In x);
void max_abs(Exec&, Out out, In x);
// out i64 (2): how many elements are NaN or infinite, and the flat index of the first (-1 when
// none).
void count_nonfinite(Exec&, Out out, In x);
// out i64 (rows): index of the largest element of each row, the lowest on ties.
void argmax_rows(Exec&, Out out, In x);

}  // namespace realfake
