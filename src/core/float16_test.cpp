#include "core/float16.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

namespace adze::core {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The definition of the format, in double precision.
double half_by_definition(uint16_t half) {
  const double sign = (half & 0x8000) != 0 ? -1.0 : 1.0;
  const int exponent = (half >> 10) & 0x1F;
  const double fraction = (half & 0x3FF) / 1024.0;
  return exponent == 0 ? sign * std::ldexp(fraction, -14)
                       : sign * std::ldexp(1.0 + fraction, exponent - 15);
}

TEST(Float16, EveryFiniteHalfFollowsTheDefinitionAndComesBack) {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    if ((half & 0x7C00) == 0x7C00) {
      continue;
    }
    const float value = float_from_half(half);
    ASSERT_EQ(static_cast<double>(value), half_by_definition(half)) << bits;
    ASSERT_EQ(std::signbit(value), (half & 0x8000) != 0) << bits;
    ASSERT_EQ(half_from_float(value), half) << bits;
  }
}

TEST(Float16, HalfRoundsToNearestAndTiesToEven) {
  for (uint16_t half = 0; half < 0x7BFF; ++half) {
    const float low = float_from_half(half);
    const float high = float_from_half(static_cast<uint16_t>(half + 1));
    const float middle = low + (high - low) / 2;  // exact: f32 has 13 more bits
    const auto even = static_cast<uint16_t>(half + (half & 1));
    ASSERT_EQ(half_from_float(middle), even) << half;
    ASSERT_EQ(half_from_float(-middle), even | 0x8000) << half;
    ASSERT_EQ(half_from_float(std::nextafter(middle, 0.0F)), half) << half;
    ASSERT_EQ(half_from_float(std::nextafter(middle, kInfinity)), half + 1) << half;
  }
}

TEST(Float16, HalfOverflowsToInfinityAndKeepsNan) {
  EXPECT_EQ(half_from_float(65504.0F), 0x7BFF);
  EXPECT_EQ(half_from_float(std::nextafter(65520.0F, 0.0F)), 0x7BFF);
  EXPECT_EQ(half_from_float(65520.0F), 0x7C00);
  EXPECT_EQ(half_from_float(-kInfinity), 0xFC00);
  EXPECT_EQ(half_from_float(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(half_from_float(-0.0F), 0x8000);
  EXPECT_EQ(float_from_half(0x7C00), kInfinity);
  EXPECT_EQ(float_from_half(0xFC00), -kInfinity);
  EXPECT_TRUE(std::isnan(float_from_half(0x7C01)));
  // A payload in the lowest bits must not turn a NaN into an infinity.
  EXPECT_TRUE(std::isnan(float_from_half(half_from_float(std::bit_cast<float>(0x7F800001U)))));
}

TEST(Float16, Bfloat16RoundTripsAndRounds) {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const auto narrow = static_cast<uint16_t>(bits);
    const float value = float_from_bfloat16(narrow);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(float_from_bfloat16(bfloat16_from_float(value)))) << bits;
    } else {
      ASSERT_EQ(bfloat16_from_float(value), narrow) << bits;
    }
  }
  EXPECT_EQ(bfloat16_from_float(std::bit_cast<float>(0x3F808000U)), 0x3F80);  // tie, to even
  EXPECT_EQ(bfloat16_from_float(std::bit_cast<float>(0x3F818000U)), 0x3F82);
  EXPECT_EQ(bfloat16_from_float(std::bit_cast<float>(0x3F808001U)), 0x3F81);
  EXPECT_EQ(bfloat16_from_float(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_TRUE(
      std::isnan(float_from_bfloat16(bfloat16_from_float(std::bit_cast<float>(0x7F800001U)))));
}

}  // namespace
}  // namespace adze::core
