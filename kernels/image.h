#pragma once
// Image batches on the device, NHWC.
#include "kernels/ops.h"

namespace realfake {

// y (N,H,W,C) T = (x / 255 - mean_c) / std_c,  x u8; mean, std T (C).
void normalize_u8(Exec&, Out y, In x, In mean, In std);
// y u8 = round(clamp((x + 1) / 2, 0, 1) * 255).
void quantize_u8(Exec&, Out y, In x);

// y (N,P,Q,C): bilinear sample of x (N,H,W,C) at an affine map of normalised coordinates ([-1,1],
// pixel centres, align_corners = false), outside = `border`.  m (N,6) rows (a b c; d e f): u = a x
// + b y + c, v = d x + e y + f. torch affine_grid + grid_sample(bilinear, zeros) when border == 0.
void affine_sample(Exec&, Out y, In x, In m, double border);
// y[n] = x[n] mirrored left to right where flip[n] != 0, u8 (N).
void flip_horizontal(Exec&, Out y, In x, In flip);
// y = lam_n x_n + (1 - lam_n) x_{pair(n)};  lam T (N), pair i64 (N).  mixup of images and of soft
// targets.
void mix_samples(Exec&, Out y, In x, In lam, In pair);
// d (N,M) = squared Euclidean distances between rows of a (N,D) and b (M,D).
void pairwise_squared(Exec&, Out d, In a, In b);

}  // namespace realfake
