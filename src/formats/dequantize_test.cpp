#include "formats/dequantize.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/check.h"
#include "formats/gguf.h"

namespace adze::formats {
namespace {

using core::TensorType;

class DequantizeGolden : public testing::TestWithParam<const char*> {};

// Bits, not values: the reference defines what every faster kernel has to reproduce.
TEST_P(DequantizeGolden, EqualsTheReferenceBitForBit) {  // golden/make_golden.py
  const GgufFile file("src/formats/golden/quantization.gguf");
  const StoredTensor* blocks = file.find_tensor(std::string(GetParam()) + ".blocks");
  const StoredTensor* values = file.find_tensor(std::string(GetParam()) + ".values");
  ASSERT_TRUE(blocks != nullptr && values != nullptr);
  ASSERT_EQ(core::info(blocks->type).name, GetParam());
  const int64_t columns = blocks->shape.back();
  std::vector<float> expected(static_cast<size_t>(columns));
  std::memcpy(expected.data(), values->data.data(), values->data.size());
  std::vector<float> output(expected.size());
  // From an odd address: rows of a file need not be aligned.
  std::vector<std::byte> row(1 + blocks->data.size());
  std::memcpy(row.data() + 1, blocks->data.data(), blocks->data.size());
  dequantize_row(blocks->type, row.data() + 1, columns, output.data());
  for (size_t index = 0; index < output.size(); ++index) {
    ASSERT_EQ(std::bit_cast<uint32_t>(output[index]), std::bit_cast<uint32_t>(expected[index]))
        << "value " << index << ": " << output[index] << " instead of " << expected[index];
  }
}

INSTANTIATE_TEST_SUITE_P(EveryType,
                         DequantizeGolden,
                         testing::Values("f32",
                                         "f16",
                                         "bf16",
                                         "q4_0",
                                         "q4_1",
                                         "q5_0",
                                         "q5_1",
                                         "q8_0",
                                         "q2_k",
                                         "q3_k",
                                         "q4_k",
                                         "q5_k",
                                         "q6_k",
                                         "iq4_nl",
                                         "iq4_xs"),
                         [](const auto& type) { return std::string(type.param); });

TEST(Dequantize, ScalesThatAreNotFiniteStayVisible) {
  std::vector<std::byte> block(18, std::byte{0x99});
  block[0] = std::byte{0x00};
  block[1] = std::byte{0x7C};  // infinity
  float values[32];
  dequantize_row(TensorType::kQ4_0, block.data(), 32, values);
  EXPECT_TRUE(std::isinf(values[0]));
  block[1] = std::byte{0x7E};
  dequantize_row(TensorType::kQ4_0, block.data(), 32, values);
  EXPECT_TRUE(std::isnan(values[31]));
}

TEST(Dequantize, RefusesPartsOfBlocks) {
  float values[32];
  EXPECT_THROW(dequantize_row(TensorType::kQ8_0, nullptr, 31, values), core::CheckFailure);
  EXPECT_NO_THROW(dequantize_row(TensorType::kQ8_0, nullptr, 0, values));
}

}  // namespace
}  // namespace adze::formats
