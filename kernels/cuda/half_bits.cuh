#pragma once
// The 16-bit storage types on a device: the conversions of kernels/dtype.cpp again, bit for bit
// (round to nearest even, NaN stays NaN), without the toolkit's types so that the emulator runs the
// same text.
#include <cstring>

#include "kernels/cuda/launch.h"

namespace realfake::RF_BACKEND {

struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

RF_DEVICE uint32_t bits_of_float(float v) {
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  return bits;
}
RF_DEVICE float float_of_bits(uint32_t bits) {
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

// convert(to, from): the value of `from` in the type of `to`; 16-bit types pass through float.
template <class To, class From>
RF_DEVICE void convert(To& to, From from) {
  to = static_cast<To>(from);
}
RF_DEVICE void convert(float& to, BF16 from) {
  to = float_of_bits(static_cast<uint32_t>(from.bits) << 16);
}
RF_DEVICE void convert(float& to, F16 from) {
  const uint32_t sign = static_cast<uint32_t>(from.bits & 0x8000u) << 16;
  const uint32_t exponent = from.bits >> 10 & 0x1fu;
  const uint32_t mantissa = from.bits & 0x3ffu;
  if (exponent == 0x1f) {
    to = float_of_bits(sign | 0x7f800000u | mantissa << 13);
  } else if (exponent != 0) {
    to = float_of_bits(sign | (exponent + 112u) << 23 | mantissa << 13);
  } else {
    const float value = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24, exact
    to = sign ? -value : value;
  }
}
RF_DEVICE void convert(BF16& to, float from) {
  const uint32_t bits = bits_of_float(from);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to.bits = static_cast<uint16_t>(nan ? (bits >> 16 | 0x40u)
                                      : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
RF_DEVICE void convert(F16& to, float from) {
  const uint32_t bits = bits_of_float(from);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t value = 0;  // under half the smallest
  if (magnitude > 0x7f800000u) {
    value = 0x7e00u | (magnitude >> 13 & 0x1ffu);
  } else if (magnitude >= 0x477ff000u) {
    value = 0x7c00u;  // rounds to infinity
  } else if (magnitude >= 0x38800000u) {
    value = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  } else if (magnitude >= 0x33000000u) {
    // Subnormal: the mantissa with its hidden bit, shifted so that one unit is 2^-24.
    const uint32_t shift = 126u - (magnitude >> 23);
    const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const uint32_t rest = mantissa & ((1u << shift) - 1u), half = 1u << (shift - 1u);
    value = mantissa >> shift;
    if (rest > half || (rest == half && (value & 1u))) ++value;
  }
  to.bits = static_cast<uint16_t>(sign | value);
}

}  // namespace realfake::RF_BACKEND
