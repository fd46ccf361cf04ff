#include "core/rng.h"

#include <cmath>
#include <set>

#include <gtest/gtest.h>

namespace adze::core {
namespace {

using Words4 = std::array<uint32_t, 4>;
using Words2 = std::array<uint32_t, 2>;

// Known answers of Philox4x32 with 10 rounds, as published with its reference implementation
// (Random123, file kat_vectors).
TEST(Philox, MatchesTheKnownAnswers) {
  EXPECT_EQ(philox4x32(Words4{0, 0, 0, 0}, Words2{0, 0}),
            (Words4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32(Words4{kOnes, kOnes, kOnes, kOnes}, Words2{kOnes, kOnes}),
            (Words4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32(Words4{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
                       Words2{0xa4093822, 0x299f31d0}),
            (Words4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, DrawsDependOnSeedStreamAndCounterOnly) {
  Rng random(5, 6);
  const uint64_t first = random.next_uint64();
  const uint64_t second = random.next_uint64();
  EXPECT_EQ(Rng(5, 6).at(1), second);
  EXPECT_EQ(Rng(5, 6).at(0), first);
  EXPECT_NE(Rng(5, 7).at(0), first);
  EXPECT_NE(Rng(6, 6).at(0), first);
  EXPECT_NE(first, second);
}

// The high halves of seed, stream and counter count too.
TEST(Rng, UsesAll64Bits) {
  const uint64_t high = uint64_t{1} << 32;
  std::set<uint64_t> draws = {
      Rng(0, 0).at(0), Rng(high, 0).at(0), Rng(0, high).at(0), Rng(0, 0).at(high)};
  EXPECT_EQ(draws.size(), 4U);
}

TEST(Rng, UniformStaysInRangeAndIsFlat) {
  Rng random(1);
  constexpr int kCells = 20;
  constexpr int kDraws = 100'000;
  std::array<int, kCells> counts{};
  for (int draw = 0; draw < kDraws; ++draw) {
    const double value = random.next_uniform();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    ++counts[static_cast<size_t>(value * kCells)];
  }
  double statistic = 0;
  for (const int count : counts) {
    const double difference = count - kDraws / kCells;
    statistic += difference * difference / (kDraws / kCells);
  }
  EXPECT_LT(statistic, 43.8);  // chi-square, 19 degrees of freedom, 0.1 %
}

}  // namespace
}  // namespace adze::core
