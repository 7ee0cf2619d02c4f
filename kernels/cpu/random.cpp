#include "kernels/random.h"

#include <cstring>

#include "kernels/backend.h"
#include "kernels/cpu/spans.h"
#include "kernels/cpu/vector.h"
#include "kernels/philox.h"

namespace realfake::cpu {

namespace {

constexpr int group = 64;  // Philox blocks made together

// Words of `group` blocks from `first`, word i of each side by side: philox_block with the rounds
// outside, so that the blocks fill vectors.
RF_INLINE void philox_group(uint64_t seed, uint32_t stream, uint64_t sample, uint32_t first,
                            uint32_t (&w)[4][group]) {
  for (uint32_t i = 0; i < group; ++i) {
    w[0][i] = first + i;
    w[1][i] = static_cast<uint32_t>(sample);
    w[2][i] = static_cast<uint32_t>(sample >> 32);
    w[3][i] = stream;
  }
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma omp simd
    for (int i = 0; i < group; ++i) philox_round(w[0][i], w[1][i], w[2][i], w[3][i], k0, k1);
    philox_next_key(k0, k1);
  }
}

RF_CLONES void normal_group(uint64_t seed, uint32_t stream, uint64_t sample, uint32_t first,
                            float* out) {
  uint32_t w[4][group];
  float z[4][group];
  philox_group(seed, stream, sample, first, w);
#pragma omp simd
  for (int i = 0; i < group; ++i) {
    philox_normal_pair(w[0][i], w[1][i], &z[0][i], &z[1][i]);
    philox_normal_pair(w[2][i], w[3][i], &z[2][i], &z[3][i]);
  }
  for (int i = 0; i < group; ++i)
    for (int k = 0; k < 4; ++k) out[4 * i + k] = z[k][i];
}

RF_CLONES void uniform_group(uint64_t seed, uint32_t stream, uint64_t sample, uint32_t first,
                             float* out) {
  uint32_t w[4][group];
  philox_group(seed, stream, sample, first, w);
  for (int i = 0; i < group; ++i)
    for (int k = 0; k < 4; ++k) out[4 * i + k] = philox_uniform(w[k][i]);
}

// Fills out (N,...) group by group; number(n) is the sample of row n.
template <class Generate, class Number>
void draw(Out out, uint64_t seed, Stream stream, Generate&& generate, Number&& number) {
  if (out.numel() == 0) return;
  dispatch_real(out.dtype(), "random", [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int64_t length = 4 * group;
    const int64_t per = out.numel() / out.dim(0), groups = (per + length - 1) / length;
    T* data = out.data<T>();
    parallel_for(out.dim(0) * groups, grain_of(length * 16), [&](int64_t begin, int64_t end) {
      float made[length];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / groups, g = i % groups;
        generate(seed, static_cast<uint32_t>(stream), number(n), static_cast<uint32_t>(g * group),
                 made);
        std::copy_n(made, std::min(length, per - g * length), data + n * per + g * length);
      }
    });
  });
}

}  // namespace

void random_normal(Exec&, Out out, uint64_t seed, Stream stream, uint64_t first) {
  draw(out, seed, stream, normal_group,
       [=](int64_t n) { return first + static_cast<uint64_t>(n); });
}

void random_uniform(Exec&, Out out, uint64_t seed, Stream stream, uint64_t first) {
  draw(out, seed, stream, uniform_group,
       [=](int64_t n) { return first + static_cast<uint64_t>(n); });
}

void random_normal_samples(Exec&, Out out, uint64_t seed, Stream stream, In sample) {
  const int64_t* numbers = sample.data<int64_t>();
  draw(out, seed, stream, normal_group,
       [=](int64_t n) { return static_cast<uint64_t>(numbers[n]); });
}

}  // namespace realfake::cpu
