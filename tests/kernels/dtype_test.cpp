// Conversions of the 16-bit storage types, against the definition of round to nearest even.
#include "kernels/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace realfake {

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Format {
  uint16_t (*from)(float);
  float (*to)(uint16_t);
  int mantissa, bias;
  uint16_t inf;
};
const Format kF16{f32_to_f16, f16_to_f32, 10, 15, 0x7C00};
const Format kBf16{f32_to_bf16, bf16_to_f32, 7, 127, 0x7F80};

class Half : public ::testing::TestWithParam<Format> {};

// The value a 16-bit pattern stands for, from its definition.
double meaning(const Format& f, uint16_t bits) {
  const int exponent = (bits & 0x7FFF) >> f.mantissa;
  const double fraction = bits & ((1 << f.mantissa) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - f.bias - f.mantissa);
  return sign * std::ldexp(fraction + (1 << f.mantissa), exponent - f.bias - f.mantissa);
}

TEST_P(Half, EveryPatternHasItsMeaningAndComesBack) {
  const Format f = GetParam();
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float v = f.to(bits);
    if ((bits & 0x7FFF) > f.inf) {
      ASSERT_TRUE(std::isnan(v)) << i;
      ASSERT_GT(f.from(v) & 0x7FFF, f.inf) << i;
      continue;
    }
    if ((bits & 0x7FFF) == f.inf)
      ASSERT_EQ(v, bits & 0x8000 ? -kInf : kInf);
    else
      ASSERT_EQ(static_cast<double>(v), meaning(f, bits)) << i;
    ASSERT_EQ(f.from(v), bits) << i;
  }
}

TEST_P(Half, TiesGoToEvenAndNeighboursToTheNearest) {
  const Format f = GetParam();
  for (uint32_t i = 0; i + 1 < f.inf; ++i) {
    const auto low = static_cast<uint16_t>(i), high = static_cast<uint16_t>(i + 1);
    const double middle = (meaning(f, low) + meaning(f, high)) / 2;
    const auto tie = static_cast<float>(middle);
    if (static_cast<double>(tie) != middle) continue;  // bf16 subnormals: below float's own grid
    ASSERT_EQ(f.from(tie), i % 2 ? high : low) << i;
    ASSERT_EQ(f.from(-tie), (i % 2 ? high : low) | 0x8000) << i;
    ASSERT_EQ(f.from(std::nextafter(tie, kInf)), high) << i;
    ASSERT_EQ(f.from(std::nextafter(tie, -kInf)), low) << i;
  }
}

TEST_P(Half, OverflowGoesToInfinity) {
  const Format f = GetParam();
  const auto largest = static_cast<uint16_t>(f.inf - 1);
  const double next = 2 * meaning(f, largest) - meaning(f, static_cast<uint16_t>(largest - 1));
  const double middle = (meaning(f, largest) + next) / 2;
  EXPECT_EQ(f.from(static_cast<float>(middle)), f.inf);  // the tie rounds to the even: up
  EXPECT_EQ(f.from(std::nextafter(static_cast<float>(middle), 0.0f)), largest);
  EXPECT_EQ(f.from(std::numeric_limits<float>::max()), f.inf);
  EXPECT_EQ(f.from(-std::numeric_limits<float>::max()), f.inf | 0x8000);
  EXPECT_EQ(f.from(kInf), f.inf);
  EXPECT_EQ(f.from(-kInf), f.inf | 0x8000);
}

TEST_P(Half, UnderflowKeepsTheSignAndNanStaysNan) {
  const Format f = GetParam();
  EXPECT_EQ(f.from(0.0f), 0);
  EXPECT_EQ(f.from(-0.0f), 0x8000);
  EXPECT_EQ(f.from(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(f.from(-std::numeric_limits<float>::denorm_min()), 0x8000);
  // A NaN whose payload lies wholly in the bits cut off must not become infinity.
  for (const uint32_t bits : {0x7F800001u, 0xFF800001u, 0x7FC00000u, 0x7FFFFFFFu, 0x7F80FFFFu}) {
    const uint16_t half = f.from(std::bit_cast<float>(bits));
    EXPECT_GT(half & 0x7FFF, f.inf) << std::hex << bits;
  }
}

TEST_P(Half, RandomFloatsRoundToTheNearest) {
  const Format f = GetParam();
  std::mt19937_64 random(7);
  for (int k = 0; k < 200000; ++k) {
    const float v = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isfinite(v)) continue;
    const uint16_t bits = f.from(v);
    if ((bits & 0x7FFF) == f.inf) continue;
    const double here = meaning(f, bits), error = std::abs(here - static_cast<double>(v));
    const int magnitude = bits & 0x7FFF;
    if (magnitude + 1 < f.inf) {
      const double up = meaning(f, static_cast<uint16_t>((bits & 0x8000) | (magnitude + 1)));
      ASSERT_LE(error, std::abs(up - static_cast<double>(v)));
    }
    if (magnitude > 0) {
      const double down = meaning(f, static_cast<uint16_t>((bits & 0x8000) | (magnitude - 1)));
      ASSERT_LE(error, std::abs(down - static_cast<double>(v)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Half, ::testing::Values(kF16, kBf16),
                         [](const ::testing::TestParamInfo<Format>& info) {
                           return info.param.mantissa == 10 ? "f16" : "bf16";
                         });

TEST(DType, SizesAndNames) {
  EXPECT_EQ(size_of(DType::f64), 8u);
  EXPECT_EQ(size_of(DType::bf16), 2u);
  EXPECT_EQ(size_of(DType::u8), 1u);
  EXPECT_STREQ(name_of(DType::bf16), "bf16");
  EXPECT_STREQ(name_of(DType::u8), "u8");
  EXPECT_TRUE(is_floating(DType::f16));
  EXPECT_FALSE(is_floating(DType::i32));
  EXPECT_THROW(dispatch_real(DType::i32, "op", [](auto) {}), ContractError);
}

}  // namespace

}  // namespace realfake
