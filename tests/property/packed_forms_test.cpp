// Packing loses nothing: a packed row unpacks to what formats/dequantize gives for the stored one,
// which golden files pin to llama.cpp's values.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/float16.h"
#include "core/rng.h"
#include "core/tensor_type.h"
#include "formats/dequantize.h"
#include "kernels/packed_matmul/packed_matmul.h"
#include "kernels/simd.h"

namespace adze {
namespace {

using core::TensorType;

constexpr int64_t kColumns = 768;

// Random bytes, drawn again where a value is not finite: 0 * infinity would spoil other columns.
std::vector<std::byte> random_row(TensorType type, core::Rng& rng) {
  std::vector<std::byte> row(static_cast<size_t>(core::row_bytes(type, kColumns)));
  std::vector<float> values(static_cast<size_t>(kColumns));
  const auto block = static_cast<size_t>(core::info(type).block_bytes);
  for (size_t offset = 0; offset < row.size(); offset += block) {
    bool finite = false;
    while (!finite) {
      for (size_t i = 0; i < block; ++i) {
        row[offset + i] = static_cast<std::byte>(rng.next_uint64() >> 40);
      }
      const int64_t elements = core::info(type).block_elements;
      formats::dequantize_row(type, row.data() + offset, elements, values.data());
      finite = std::all_of(values.begin(), values.begin() + elements, [](float value) {
        return std::isfinite(value) && std::abs(value) < 1e30F;
      });
    }
  }
  return row;
}

class PackedForms : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { kernels::force_isa(GetParam()); }
  void TearDown() override { kernels::force_isa(kernels::supported_isas().front()); }
};

TEST_P(PackedForms, UnpackToTheDequantizedRow) {
  core::Rng rng(1);
  for (uint32_t id = 0; id < 64; ++id) {
    const auto type = core::tensor_type_from_id(id);
    if (!type) {
      continue;
    }
    ASSERT_TRUE(kernels::has_packed_form(*type)) << core::info(*type).name;
    std::vector<std::vector<std::byte>> stored;
    std::array<const std::byte*, kernels::kPanelRows> rows{};
    for (size_t lane = 0; lane < 15; ++lane) {  // the last lane has no row
      stored.push_back(random_row(*type, rng));
      rows[lane] = stored.back().data();
    }
    std::vector<std::byte> panel(
        static_cast<size_t>(kernels::packed_bytes(*type, kernels::kPanelRows, kColumns)),
        static_cast<std::byte>(0xFF));
    kernels::pack_panel(*type, kColumns, rows, panel.data());
    const kernels::PackedMatrix matrix{*type, 16, kColumns, panel.data()};
    std::vector<float> expected(static_cast<size_t>(kColumns));
    std::vector<float> unpacked(expected.size());
    // The product with the unit rows gives every weight as the fast readers see it.
    std::vector<float> unit(static_cast<size_t>(kColumns) * 16);
    std::vector<float> product(16 * 16);
    for (int64_t lane = 0; lane < 15; ++lane) {
      formats::dequantize_row(
          *type, stored[static_cast<size_t>(lane)].data(), kColumns, expected.data());
      kernels::unpack_row(matrix, lane, unpacked.data());
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(unpacked[i], expected[i])
            << core::info(*type).name << " lane " << lane << " column " << i;
      }
    }
    for (const int64_t count : {int64_t{1}, int64_t{16}}) {  // both paths
      for (int64_t column = 0; column + count <= kColumns; column += count) {
        std::fill(unit.begin(), unit.end(), 0.0F);
        for (int64_t row = 0; row < count; ++row) {
          unit[static_cast<size_t>(row * kColumns + column + row)] = 1;
        }
        const kernels::MatmulOutput output{matrix, product.data(), 16};
        kernels::packed_matmul(unit.data(), count, kColumns, {&output, 1});
        for (int64_t lane = 0; lane < 15; ++lane) {
          formats::dequantize_row(
              *type, stored[static_cast<size_t>(lane)].data(), kColumns, expected.data());
          for (int64_t row = 0; row < count; ++row) {
            ASSERT_EQ(product[static_cast<size_t>(row * 16 + lane)],
                      expected[static_cast<size_t>(column + row)])
                << core::info(*type).name << " lane " << lane << " column " << column + row;
          }
        }
        ASSERT_EQ(product[15], 0.0F);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa,
                         PackedForms,
                         testing::ValuesIn(kernels::supported_isas()),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace adze
