#include "kernels/random.h"

#include "kernels/ops/checks.h"

namespace realfake {

namespace {
void expect_draws(Exec& ex, const char* op, Out out) {
  expect_dense_real(ex, op, "out", out);
  expect_rank(op, "out", out, 1, Shape::max_rank);
  require(per_sample(out) <= int64_t{1} << 34, "[", op,
          "] expected at most 2^34 elements a sample (the counter is 32 bits), got shape ",
          out.shape());
}
}  // namespace

void random_normal(Exec& ex, Out out, uint64_t seed, Stream stream, uint64_t first) {
  expect_draws(ex, "random_normal", out);
  ex.ops().random_normal(ex, out, seed, stream, first);
}

void random_uniform(Exec& ex, Out out, uint64_t seed, Stream stream, uint64_t first) {
  expect_draws(ex, "random_uniform", out);
  ex.ops().random_uniform(ex, out, seed, stream, first);
}

void random_normal_samples(Exec& ex, Out out, uint64_t seed, Stream stream, In sample) {
  expect_draws(ex, "random_normal_samples", out);
  expect_dense_like(ex, "random_normal_samples", "sample", sample, DType::i64, {out.dim(0)});
  ex.ops().random_normal_samples(ex, out, seed, stream, sample);
}

}  // namespace realfake
