#pragma once
// The core of Philox 4x32-10 (Salmon et al. 2011), one block of four words; host and device code.
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define RF_HOST_DEVICE __host__ __device__
#elif defined(__GNUC__)
#define RF_HOST_DEVICE __attribute__((always_inline))  // into loops cloned per instruction set
#else
#define RF_HOST_DEVICE
#endif

namespace realfake {

struct PhiloxBlock {
  uint32_t w[4];
};

RF_HOST_DEVICE inline void philox_round(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3,
                                        uint32_t k0, uint32_t k1) {
  const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
  const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
  c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
  c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
  c1 = static_cast<uint32_t>(p1);
  c3 = static_cast<uint32_t>(p0);
}
RF_HOST_DEVICE inline void philox_next_key(uint32_t& k0, uint32_t& k1) {
  k0 += 0x9E3779B9u;
  k1 += 0xBB67AE85u;
}

// Ten rounds on counter (c0..c3) with key (k0, k1).
RF_HOST_DEVICE inline PhiloxBlock philox4x32_10(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3,
                                                uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    philox_round(c0, c1, c2, c3, k0, k1);
    philox_next_key(k0, k1);
  }
  return {{c0, c1, c2, c3}};
}

// The project's numbering: key = seed, counter = (block, sample, stream). Element e of a sample is
// word e % 4 of block e / 4.
RF_HOST_DEVICE inline PhiloxBlock philox_block(uint64_t seed, uint32_t stream, uint64_t sample,
                                               uint32_t block) {
  return philox4x32_10(block, static_cast<uint32_t>(sample), static_cast<uint32_t>(sample >> 32),
                       stream, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// [0, 1) in 24 bits, exact on every device.
RF_HOST_DEVICE inline float philox_uniform(uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

// (0, 1] in 24 bits: the argument of the logarithm in Box-Muller.
RF_HOST_DEVICE inline float philox_uniform_above_zero(uint32_t word) {
  return static_cast<float>((word >> 8) + 1) * 0x1p-24f;
}

// Box-Muller: (sqrt(-2 ln u1) cos 2 pi u2, ... sin 2 pi u2). Series instead of library calls: they
// vectorise on the host, and every device gets the same value but for the contraction of a product
// and a sum.
RF_HOST_DEVICE inline void philox_normal_pair(uint32_t w0, uint32_t w1, float* z0, float* z1) {
  // ln u1 = e ln 2 + ln m with m in [1/sqrt2, sqrt2); ln m = 2 atanh(s), s = (m - 1) / (m + 1).
  const float u1 = philox_uniform_above_zero(w0);
  uint32_t bits;
  memcpy(&bits, &u1, 4);
  const uint32_t shifted = bits - 0x3F3504F3u;  // bits of 1/sqrt2
  const int32_t exponent = static_cast<int32_t>(shifted) >> 23;
  const uint32_t mantissa_bits = (shifted & 0x007FFFFFu) + 0x3F3504F3u;
  float m;
  memcpy(&m, &mantissa_bits, 4);
  const float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  const float atanh_s =
      s + s * s2 * (1.0f / 3 + s2 * (1.0f / 5 + s2 * (1.0f / 7 + s2 * (1.0f / 9))));
  const float ln = static_cast<float>(exponent) * 0.693147180559945f + 2.0f * atanh_s;
  const float r = sqrtf(-2.0f * ln);
  // 2 pi u2 = quarter turns + a rest of at most pi / 4; the split is exact in 24 bits.
  const int32_t turn = static_cast<int32_t>(w1 >> 8);
  const int32_t quarter = (turn + (1 << 21)) >> 22;
  const float a = static_cast<float>(turn - (quarter << 22)) * (0x1p-24f * 6.28318530717959f);
  const float a2 = a * a;
  const float sine =
      a + a * a2 * (-1.0f / 6 + a2 * (1.0f / 120 + a2 * (-1.0f / 5040 + a2 * (1.0f / 362880))));
  const float cosine =
      1.0f + a2 * (-0.5f + a2 * (1.0f / 24 +
                                 a2 * (-1.0f / 720 + a2 * (1.0f / 40320 - a2 * (1.0f / 3628800)))));
  const float c = quarter & 1 ? sine : cosine, d = quarter & 1 ? cosine : sine;
  *z0 = r * ((quarter + 1) & 2 ? -c : c);
  *z1 = r * (quarter & 2 ? -d : d);
}

}  // namespace realfake
