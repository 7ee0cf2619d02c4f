#pragma once
// Vectorised float loops in a binary built for the baseline processor. A hot loop is a function on
// a span, marked RF_CLONES: compiled once per instruction set, chosen when the program is loaded.
// Templates cannot be cloned, so a body shared with double is an RF_INLINE template called from a
// cloned float overload.
#include <bit>
#include <cmath>
#include <cstdint>

// Levels rather than processor names: GCC matches `arch=haswell` against the maker's model, which
// leaves out every AMD processor. Under the sanitizer there are no clones: ifunc resolvers run
// before it is ready.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(REALFAKE_ASAN)
#define RF_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define RF_CLONES
#endif
#define RF_INLINE [[gnu::always_inline]] inline

namespace realfake::cpu {

// e^x within 1 ulp, denormals, +-inf and NaN included. No float conditions: GCC moves float
// arithmetic into their branches, may not move it back out (it could trap) and then cannot
// vectorise the loop.
RF_INLINE float exp_fast(float x) {
  // |x| at most 104, where the result is 0 or inf; bits of magnitudes compare like the magnitudes.
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t magnitude = bits & 0x7FFFFFFFu, top = 0x42D00000u;
  const uint32_t clamped = magnitude < top ? magnitude : top;
  x = std::bit_cast<float>(clamped | (bits & 0x80000000u));
  const uint32_t nan = magnitude > 0x7F800000u ? 0x7FC00000u : 0u;
  const float shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to integer
  const float n = shifted - 12582912.0f;
  const uint32_t k = std::bit_cast<uint32_t>(shifted) - 0x4B400000u;
  // r = x - n ln 2, with ln 2 in two parts; the first has few bits, so n * it is exact.
  const float r = (x - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;
  float p = 1.9790351952451292e-4f;
  p = p * r + 1.3944648664587595e-3f;
  p = p * r + 8.333497008364e-3f;
  p = p * r + 4.1666295092498494e-2f;
  p = p * r + 1.6666665869415703e-1f;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  // 2^k in two factors, so that neither over- nor underflows before the product does.
  const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(k) >> 1);
  const float a = std::bit_cast<float>((half + 127u) << 23);
  const float b = std::bit_cast<float>((k - half + 127u) << 23);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p * a * b) | nan);
}
RF_INLINE double exp_fast(double x) {
  return std::exp(x);
}

// 1 / (1 + e^-x)
template <class T>
RF_INLINE T sigmoid(T x) {
  return T(1) / (T(1) + exp_fast(-x));
}

// Phi(x), the normal distribution function, within 1e-7: e^(z^2) erfc(z) as a polynomial in 1 / (1
// + 0.4 z), z = |x| / sqrt 2, fitted for relative error, so that the tail keeps its digits.
RF_INLINE float normal_cdf(float x) {
  const float z = std::fabs(x) * 0.70710678118654752f;
  const float t = 1.0f / (1.0f + 0.4f * z);
  float p = 0.04662071850093474f;
  p = p * t - 0.16613839472650413f;
  p = p * t + 0.13663672588622583f;
  p = p * t + 0.028708028238889596f;
  p = p * t + 0.11987897484150237f;
  p = p * t + 0.17671696825848698f;
  p = p * t + 0.20602790212759473f;
  p = p * t + 0.2258834829315592f;
  p = p * t + 0.22566568603862566f;
  const float tail = 0.5f * p * t * exp_fast(-z * z);
  // tail for negative x, else 1 - tail, without a condition.
  const float sign = std::bit_cast<float>(0xBF800000u ^ (std::bit_cast<uint32_t>(x) & 0x80000000u));
  return (0.5f - 0.5f * sign) + sign * tail;
}
RF_INLINE double normal_cdf(double x) {
  return 0.5 * std::erfc(-x * 0.70710678118654752440);
}

// The normal density, the derivative of normal_cdf.
template <class T>
RF_INLINE T normal_pdf(T x) {
  return T(0.39894228040143267794) * exp_fast(T(-0.5) * x * x);
}

}  // namespace realfake::cpu
