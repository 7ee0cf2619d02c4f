#include "kernels/image.h"

#include "kernels/ops/checks.h"

namespace realfake {

void normalize_u8(Exec& ex, Out y, In x, In mean, In std) {
  expect_dense_real(ex, "normalize_u8", "y", y);
  expect_rank("normalize_u8", "y", y, 4, 4);
  expect_dense_like(ex, "normalize_u8", "x", x, DType::u8, y.shape());
  expect_dense_like(ex, "normalize_u8", "mean", mean, y.dtype(), {y.dim(3)});
  expect_dense_like(ex, "normalize_u8", "std", std, y.dtype(), {y.dim(3)});
  ex.ops().normalize_u8(ex, y, x, mean, std);
}

void quantize_u8(Exec& ex, Out y, In x) {
  expect_dense_real(ex, "quantize_u8", "x", x);
  expect_dense_like(ex, "quantize_u8", "y", y, DType::u8, x.shape());
  ex.ops().quantize_u8(ex, y, x);
}

void affine_sample(Exec& ex, Out y, In x, In m, double border) {
  expect_dense_real(ex, "affine_sample", "x", x);
  expect_rank("affine_sample", "x", x, 4, 4);
  expect_dense_real(ex, "affine_sample", "y", y);
  expect_rank("affine_sample", "y", y, 4, 4);
  expect_dense_like(ex, "affine_sample", "y", y, x.dtype(),
                    {x.dim(0), y.dim(1), y.dim(2), x.dim(3)});
  expect_dense_like(ex, "affine_sample", "m", m, x.dtype(), {x.dim(0), 6});
  ex.ops().affine_sample(ex, y, x, m, border);
}

void flip_horizontal(Exec& ex, Out y, In x, In flip) {
  expect_dense_real(ex, "flip_horizontal", "x", x);
  expect_rank("flip_horizontal", "x", x, 4, 4);
  expect_dense_like(ex, "flip_horizontal", "y", y, x.dtype(), x.shape());
  expect_dense_like(ex, "flip_horizontal", "flip", flip, DType::u8, {x.dim(0)});
  ex.ops().flip_horizontal(ex, y, x, flip);
}

void mix_samples(Exec& ex, Out y, In x, In lam, In pair) {
  expect_dense_real(ex, "mix_samples", "x", x);
  expect_rank("mix_samples", "x", x, 1, Shape::max_rank);
  expect_dense_like(ex, "mix_samples", "y", y, x.dtype(), x.shape());
  expect_dense_like(ex, "mix_samples", "lam", lam, x.dtype(), {x.dim(0)});
  expect_dense_like(ex, "mix_samples", "pair", pair, DType::i64, {x.dim(0)});
  expect_indices(ex, "mix_samples", "pair", pair, x.dim(0));
  ex.ops().mix_samples(ex, y, x, lam, pair);
}

void pairwise_squared(Exec& ex, Out d, In a, In b) {
  expect_dense_real(ex, "pairwise_squared", "a", a);
  expect_rank("pairwise_squared", "a", a, 2, 2);
  expect_dense_real(ex, "pairwise_squared", "b", b);
  expect_rank("pairwise_squared", "b", b, 2, 2);
  expect_dense_like(ex, "pairwise_squared", "b", b, a.dtype(), {b.dim(0), a.dim(1)});
  expect_dense_like(ex, "pairwise_squared", "d", d, a.dtype(), {a.dim(0), b.dim(0)});
  ex.ops().pairwise_squared(ex, d, a, b);
}

}  // namespace realfake
