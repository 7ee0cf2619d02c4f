// Launchers of kernels/random.h.
#include "kernels/cuda/random.cuh"

namespace realfake::RF_BACKEND {

namespace {
void draw_into(Exec& ex, Out out, const Draw& draw, bool normal) {
  const int64_t samples = out.dim(0), per_sample = elements_per_sample(out);
  launch(random_kernel<float>, sample_grid(samples, (per_sample + 3) / 4), kBlock, 0, ex,
         rows_of<float>(out), draw, normal, samples, per_sample);
}
}  // namespace

void random_normal(Exec& ex, Out out, uint64_t seed, Stream stream, uint64_t first) {
  require_f32("random_normal", out);
  draw_into(ex, out, {seed, first, nullptr, static_cast<uint32_t>(stream)}, true);
}

void random_uniform(Exec& ex, Out out, uint64_t seed, Stream stream, uint64_t first) {
  require_f32("random_uniform", out);
  draw_into(ex, out, {seed, first, nullptr, static_cast<uint32_t>(stream)}, false);
}

void random_normal_samples(Exec& ex, Out out, uint64_t seed, Stream stream, In sample) {
  require_f32("random_normal_samples", out);
  draw_into(ex, out, {seed, 0, sample.data<int64_t>(), static_cast<uint32_t>(stream)}, true);
}

}  // namespace realfake::RF_BACKEND
