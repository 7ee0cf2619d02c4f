// Launchers of kernels/image.h.
#include "kernels/cuda/image.cuh"

namespace realfake::RF_BACKEND {

void normalize_u8(Exec& ex, Out y, In x, In mean, In std) {
  require_f32("normalize_u8", y, mean, std);
  launch(normalize_u8_kernel<float>, grid_for(y.numel()), kBlock, 0, ex, rows_of<float>(y),
         rows_of<uint8_t>(x), mean.data<float>(), std.data<float>());
}

void quantize_u8(Exec& ex, Out y, In x) {
  require_f32("quantize_u8", x);
  launch(quantize_u8_kernel<float>, grid_for(x.numel()), kBlock, 0, ex, rows_of<uint8_t>(y),
         rows_of<float>(x));
}

void affine_sample(Exec& ex, Out y, In x, In m, double border) {
  require_f32("affine_sample", y, x, m);
  launch(affine_sample_kernel<float>, grid_for(y.rows()), kBlock, 0, ex, rows_of<float>(y),
         rows_of<float>(x), rows_of<float>(m), x.dim(0), x.dim(1), x.dim(2), y.dim(1), y.dim(2),
         border);
}

void flip_horizontal(Exec& ex, Out y, In x, In flip) {
  require_f32("flip_horizontal", y, x);
  launch(flip_horizontal_kernel<float>, grid_for(y.numel()), kBlock, 0, ex, rows_of<float>(y),
         rows_of<float>(x), flip.data<uint8_t>(), x.dim(1), x.dim(2));
}

void mix_samples(Exec& ex, Out y, In x, In lam, In pair) {
  require_f32("mix_samples", y, x, lam);
  const int64_t samples = x.dim(0), per_sample = elements_per_sample(x);
  launch(mix_samples_kernel<float>, sample_grid(samples, per_sample), kBlock, 0, ex,
         rows_of<float>(y), rows_of<float>(x), lam.data<float>(), pair.data<int64_t>(), samples,
         per_sample);
}

void pairwise_squared(Exec& ex, Out d, In a, In b) {
  require_f32("pairwise_squared", d, a, b);
  const int64_t tiles_x = (b.rows() + kPairTile - 1) / kPairTile;
  const int64_t tiles_y = (a.rows() + kPairTile - 1) / kPairTile;
  require(tiles_x <= INT32_MAX, "[pairwise_squared] ", b.rows(), " rows are too many");
  if (tiles_x == 0 || tiles_y == 0) return;
  launch(pairwise_squared_kernel<float>,
         dim3(static_cast<unsigned>(tiles_x),
              static_cast<unsigned>(tiles_y > 65535 ? 65535 : tiles_y)),
         kPairTile * kPairTile, 0, ex, rows_of<float>(d), rows_of<float>(a), rows_of<float>(b));
}

}  // namespace realfake::RF_BACKEND
