#include "core/tensor_type.h"

#include <gtest/gtest.h>

namespace adze::core {
namespace {

TEST(TensorType, NamesAndNumbersLeadBackToTheType) {
  for (uint32_t id = 0; id < 64; ++id) {
    if (const auto type = tensor_type_from_id(id)) {
      EXPECT_EQ(static_cast<uint32_t>(*type), id);
      EXPECT_EQ(tensor_type_from_name(info(*type).name), type);
      EXPECT_EQ(row_bytes(*type, 512), 512 / info(*type).block_elements * info(*type).block_bytes);
    }
  }
  EXPECT_FALSE(tensor_type_from_id(5).has_value());
  EXPECT_FALSE(tensor_type_from_name("Q4_1").has_value());  // lower case only
}

// Bits a value, computed from the layout of the formats: scale, minimum and packed digits.
TEST(TensorType, BlocksHaveTheBytesOfTheirLayout) {
  EXPECT_EQ(info(TensorType::kQ4_0).block_bytes, 2 + 32 / 2);
  EXPECT_EQ(info(TensorType::kQ4_1).block_bytes, 2 + 2 + 32 / 2);
  EXPECT_EQ(info(TensorType::kQ5_0).block_bytes, 2 + 32 / 8 + 32 / 2);
  EXPECT_EQ(info(TensorType::kQ8_0).block_bytes, 2 + 32);
  EXPECT_EQ(info(TensorType::kQ4_K).block_bytes, 2 + 2 + 12 + 256 / 2);
  EXPECT_EQ(info(TensorType::kQ6_K).block_bytes, 256 / 2 + 256 / 4 + 16 + 2);
}

}  // namespace
}  // namespace adze::core
