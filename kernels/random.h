#pragma once
// Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011), key = seed, counter = (element
// / 4, sample, stream). The draws of sample i depend on (seed, stream, i) only: never on batch,
// thread count, device or restart.
#include "kernels/ops.h"

namespace realfake {

// What a draw is for; part of the counter, so that two uses never share numbers.
enum class Stream : uint32_t {
  init = 1,
  latent_noise,
  train_noise,
  timestep,
  posterior,
  augment,
  shuffle,
  dropout,
  render,
  caption,
  user,
  variance
};

// out (N,...) dense: row n of the leading dimension is sample first + n. f32; f64 gets the same
// values widened.
void random_normal(Exec&, Out out, uint64_t seed, Stream stream, uint64_t first);
void random_uniform(Exec&, Out out, uint64_t seed, Stream stream, uint64_t first);  // [0, 1)
// As above with sample numbers given: sample[n], i64 (N).
void random_normal_samples(Exec&, Out out, uint64_t seed, Stream stream, In sample);

// Host side, the same numbers.
class Philox {
 public:
  Philox(uint64_t seed, Stream stream, uint64_t sample);
  uint32_t u32();
  float uniform();             // [0, 1): 24 bits
  float normal();              // Box-Muller on pairs, in the order of random_normal
  uint32_t below(uint32_t n);  // unbiased, 0 <= result < n

 private:
  void refill();
  uint64_t seed_, sample_;
  uint32_t stream_, block_ = 0;
  uint32_t out_[4];
  int next_ = 4;
  float pending_[4];
  int pending_next_ = 4;
};

// A permutation of 0..n-1 that depends on (seed, stream, epoch) only.
std::vector<int64_t> permutation(int64_t n, uint64_t seed, Stream stream, uint64_t epoch);

}  // namespace realfake
