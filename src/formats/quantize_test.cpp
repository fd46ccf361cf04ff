#include "formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/check.h"
#include "core/error.h"
#include "core/rng.h"
#include "formats/dequantize.h"
#include "formats/gguf.h"

namespace adze::formats {
namespace {

using core::TensorType;

std::vector<std::byte> quantize(TensorType type, const std::vector<float>& values) {
  const auto columns = static_cast<int64_t>(values.size());
  std::vector<std::byte> row(static_cast<size_t>(core::row_bytes(type, columns)));
  quantize_row(type, values.data(), columns, row.data());
  return row;
}

std::vector<float> round_trip(TensorType type, const std::vector<float>& values) {
  std::vector<float> output(values.size());
  dequantize_row(
      type, quantize(type, values).data(), static_cast<int64_t>(values.size()), output.data());
  return output;
}

class QuantizeGolden : public testing::TestWithParam<const char*> {};

TEST_P(QuantizeGolden, EqualsTheReferenceByteForByte) {  // golden/make_golden.py
  const GgufFile file("src/formats/golden/quantization.gguf");
  const StoredTensor* source = file.find_tensor("source");
  const StoredTensor* codes = file.find_tensor(std::string(GetParam()) + ".codes");
  ASSERT_TRUE(source != nullptr && codes != nullptr);
  std::vector<float> values(static_cast<size_t>(source->shape.back()));
  std::memcpy(values.data(), source->data.data(), source->data.size());
  const auto row = quantize(codes->type, values);
  ASSERT_EQ(row.size(), codes->data.size());
  for (size_t index = 0; index < row.size(); ++index) {
    ASSERT_EQ(row[index], codes->data[index]) << "byte " << index;
  }
}

INSTANTIATE_TEST_SUITE_P(EveryType,
                         QuantizeGolden,
                         testing::Values("f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0"),
                         [](const auto& type) { return std::string(type.param); });

struct Extent {
  float magnitude;
  float range;
};

Extent extent_of(const float* values, int64_t count) {
  const auto [low, high] = std::minmax_element(values, values + count);
  return {std::max(std::abs(*low), std::abs(*high)), *high - *low};
}

// The bound that quantize.h states, for a block and the group of 16 around the value.
double error_bound(TensorType type, Extent block, Extent group) {
  const double magnitude = block.magnitude;
  const double range = block.range;
  const auto half_error = [](double value) { return std::max(std::abs(value) * 0x1p-11, 0x1p-25); };
  const double arithmetic = 0x1p-20 * (magnitude + range);
  switch (type) {
    case TensorType::kQ8_0:
      return magnitude / 127 / 2 + 127 * half_error(magnitude / 127) + arithmetic;
    case TensorType::kQ4_0:
      return magnitude / 8 + 8 * half_error(magnitude / 8) + arithmetic;
    case TensorType::kQ5_0:
      return magnitude / 16 + 16 * half_error(magnitude / 16) + arithmetic;
    case TensorType::kQ4_1:
      return range / 30 + 15 * half_error(range / 15) + half_error(magnitude) + arithmetic;
    case TensorType::kQ5_1:
      return range / 62 + 31 * half_error(range / 31) + half_error(magnitude) + arithmetic;
    case TensorType::kQ6_K:
      // Rounded away from zero: twice the error of rounding to nearest.
      return group.magnitude / 32 + 32 * (magnitude / 4096 + 2 * half_error(magnitude / 4096)) +
             arithmetic;
    default:
      ADD_FAILURE() << "no bound for " << core::info(type).name;
      return 0;
  }
}

void expect_bound(TensorType type, const std::vector<float>& values) {
  const std::vector<float> output = round_trip(type, values);
  const int64_t block = core::info(type).block_elements;
  for (size_t index = 0; index < values.size(); ++index) {
    const size_t begin = index / static_cast<size_t>(block) * static_cast<size_t>(block);
    const double bound = error_bound(
        type, extent_of(&values[begin], block), extent_of(&values[index / 16 * 16], 16));
    ASSERT_LE(std::abs(static_cast<double>(output[index]) - static_cast<double>(values[index])),
              bound)
        << core::info(type).name << " value " << index << " = " << values[index];
  }
}

// Sums of uniform numbers: near enough to weights.
std::vector<float> random_values(uint64_t seed, size_t count, double scale, double shift) {
  core::Rng rng(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    const double sum = rng.next_uniform() + rng.next_uniform() + rng.next_uniform() - 1.5;
    value = static_cast<float>(scale * (sum + shift));
  }
  return values;
}

constexpr TensorType kBlockTypes[] = {TensorType::kQ4_0,
                                      TensorType::kQ4_1,
                                      TensorType::kQ5_0,
                                      TensorType::kQ5_1,
                                      TensorType::kQ8_0,
                                      TensorType::kQ6_K};

TEST(Quantize, ErrorsStayWithinTheStatedBound) {
  for (const TensorType type : kBlockTypes) {
    for (const double scale : {1e-9, 1e-5, 1e-3, 0.02, 1.0, 1e4}) {
      for (const double shift : {0.0, 1.0, -1.0}) {
        expect_bound(type, random_values(7, 4096, scale, shift));
      }
    }
    std::vector<float> spiked = random_values(8, 1024, 1e-3, 0.0);
    for (size_t index = 5; index < spiked.size(); index += 100) {
      spiked[index] = index % 200 == 5 ? 3.0F : -3.0F;
    }
    expect_bound(type, spiked);
  }
}

TEST(Quantize, SixBitsAreFinerThanFiveAndTheirTypicalErrorIsSmall) {
  const auto values = random_values(9, 65536, 0.05, 0.0);
  const auto squared_error = [&](TensorType type) {
    const auto output = round_trip(type, values);
    double sum = 0;
    for (size_t index = 0; index < values.size(); ++index) {
      sum += std::pow(static_cast<double>(output[index]) - static_cast<double>(values[index]), 2);
    }
    return sum;
  };
  const double energy = std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
  EXPECT_LT(squared_error(TensorType::kQ6_K), 0.5 * squared_error(TensorType::kQ5_0));
  EXPECT_LT(std::sqrt(squared_error(TensorType::kQ6_K) / energy), 0.02);
}

TEST(Quantize, ZerosConstantsAndPlainFloats) {
  for (const TensorType type : kBlockTypes) {
    EXPECT_EQ(round_trip(type, std::vector<float>(256, 0.0F)), std::vector<float>(256, 0.0F));
    // A power of two is a code times a scale in every type, either sign.
    for (const float constant : {0.5F, -0.5F}) {
      for (const float value : round_trip(type, std::vector<float>(256, constant))) {
        EXPECT_NEAR(value, constant, 0x1p-10) << core::info(type).name;
      }
    }
    // So small that the scale vanishes in half precision: zeros, no overflow on the way.
    const std::vector<float> tiny(256, std::numeric_limits<float>::denorm_min());
    EXPECT_NEAR(round_trip(type, tiny)[0], 0.0F, 1e-5F);
  }
  const auto values = random_values(10, 64, 1.0, 0.0);
  EXPECT_EQ(round_trip(TensorType::kF32, values), values);
  const auto halves = round_trip(TensorType::kF16, values);
  EXPECT_EQ(round_trip(TensorType::kF16, halves), halves);
  const auto bfloats = round_trip(TensorType::kBF16, values);
  EXPECT_EQ(round_trip(TensorType::kBF16, bfloats), bfloats);
}

TEST(Quantize, WhatWasQuantizedOnceIsStable) {
  for (const TensorType type : {TensorType::kQ4_0, TensorType::kQ5_0, TensorType::kQ8_0}) {
    const auto once = round_trip(type, random_values(11, 1024, 1.0, 0.0));
    const auto twice = round_trip(type, once);
    for (size_t index = 0; index < once.size(); ++index) {
      ASSERT_NEAR(once[index], twice[index], 0x1p-9) << core::info(type).name;
    }
  }
}

TEST(Quantize, RefusesWhatABlockCannotHold) {
  for (const TensorType type : kBlockTypes) {
    std::vector<float> values(256, 1.0F);
    values[200] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(quantize(type, values), core::Error);
    values[200] = std::numeric_limits<float>::infinity();
    EXPECT_THROW(quantize(type, values), core::Error);
    values[200] = std::numeric_limits<float>::max();
    EXPECT_THROW(quantize(type, values), core::Error);
    values[201] = std::numeric_limits<float>::lowest();  // their difference overflows
    EXPECT_THROW(quantize(type, values), core::Error);
  }
  EXPECT_FALSE(can_quantize(TensorType::kQ4_K));
  EXPECT_TRUE(can_quantize(TensorType::kQ6_K));
  EXPECT_THROW(quantize(TensorType::kQ4_K, std::vector<float>(256)), core::CheckFailure);
  EXPECT_THROW(quantize(TensorType::kQ8_0, std::vector<float>(33)), core::CheckFailure);
}

}  // namespace
}  // namespace adze::formats
