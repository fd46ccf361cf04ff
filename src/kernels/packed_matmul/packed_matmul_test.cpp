#include "kernels/packed_matmul/packed_matmul.h"

#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "core/float16.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/packed_matmul/panel_layout.h"
#include "kernels/simd.h"

namespace adze::kernels {
namespace {

using core::TensorType;

struct Packed {
  PackedMatrix matrix;
  std::vector<std::byte> stored;
  std::vector<std::byte> panels;
};

// Random bytes are valid quants; the 16-bit floats among them are set to moderate values.
void set_half(std::byte* address, double value) {
  const uint16_t half = core::half_from_float(static_cast<float>(value));
  std::memcpy(address, &half, 2);
}

// Of the 16-bit floats in a stored block of 256 columns; no minimum: -1.
int64_t scale_offset(TensorType type) {
  switch (type) {
    case TensorType::kQ2_K:
      return 80;
    case TensorType::kQ3_K:
      return 108;
    case TensorType::kQ6_K:
      return 208;
    default:
      return 0;
  }
}
int64_t minimum_offset(TensorType type) {
  switch (type) {
    case TensorType::kQ2_K:
      return 82;
    case TensorType::kQ4_K:
    case TensorType::kQ5_K:
      return 2;
    default:
      return -1;
  }
}

std::vector<std::byte> random_row(TensorType type, int64_t columns, core::Rng& rng) {
  std::vector<std::byte> row(static_cast<size_t>(core::row_bytes(type, columns)));
  for (std::byte& byte : row) {
    byte = static_cast<std::byte>(rng.next_uint64());
  }
  const auto uniform = [&] { return rng.next_uniform() - 0.5; };
  const int64_t block_bytes = core::info(type).block_bytes;
  for (int64_t offset = 0; offset < static_cast<int64_t>(row.size()); offset += block_bytes) {
    std::byte* block = row.data() + offset;
    if (type == TensorType::kF32) {
      const auto value = static_cast<float>(uniform());
      std::memcpy(block, &value, 4);
    } else if (type == TensorType::kBF16) {
      const uint16_t value = core::bfloat16_from_float(static_cast<float>(uniform()));
      std::memcpy(block, &value, 2);
    } else if (block_bytes >= 84) {  // 256 columns: scale of sub-scales, of which some are large
      const int64_t minimum = minimum_offset(type);
      set_half(block + scale_offset(type), uniform() / 500);
      if (minimum >= 0) {
        set_half(block + minimum, uniform() / 50);
      }
    } else {
      const bool large = type == TensorType::kQ8_0 || type == TensorType::kIQ4_NL;
      set_half(block, large ? uniform() / 16 : uniform());
      if (type == TensorType::kQ4_1 || type == TensorType::kQ5_1) {
        set_half(block + 2, uniform() * 8);
      }
    }
  }
  return row;
}

Packed random_matrix(TensorType type, int64_t outputs, int64_t columns, core::Rng& rng) {
  Packed packed;
  const int64_t bytes = core::row_bytes(type, columns);
  packed.panels.resize(static_cast<size_t>(packed_bytes(type, outputs, columns)));
  for (int64_t o = 0; o < outputs; ++o) {
    const auto row = random_row(type, columns, rng);
    packed.stored.insert(packed.stored.end(), row.begin(), row.end());
  }
  for (int64_t panel = 0; panel * 16 < outputs; ++panel) {
    std::array<const std::byte*, 16> rows{};
    for (int64_t lane = 0; lane < 16 && panel * 16 + lane < outputs; ++lane) {
      rows[static_cast<size_t>(lane)] = packed.stored.data() + (panel * 16 + lane) * bytes;
    }
    pack_panel(type, columns, rows, packed.panels.data() + panel * packed_bytes(type, 16, columns));
  }
  packed.matrix = {type, outputs, columns, packed.panels.data()};
  return packed;
}

std::vector<float> random_floats(int64_t count, core::Rng& rng) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(rng.next_uniform() * 2 - 1);
  }
  return values;
}

// The same weights, to be multiplied by 8-bit integers.
Packed with_int8(Packed packed) {
  packed.matrix.arithmetic = Arithmetic::kInt8;
  return packed;
}

std::vector<float> run(const Packed& packed, const std::vector<float>& x, int64_t rows) {
  std::vector<float> y(static_cast<size_t>(rows * packed.matrix.outputs), NAN);
  const MatmulOutput output{packed.matrix, y.data(), packed.matrix.outputs};
  packed_matmul(x.data(), rows, packed.matrix.columns, {&output, 1});
  return y;
}

constexpr TensorType kTypes[] = {TensorType::kF32,
                                 TensorType::kF16,
                                 TensorType::kBF16,
                                 TensorType::kQ4_0,
                                 TensorType::kQ4_1,
                                 TensorType::kQ5_0,
                                 TensorType::kQ5_1,
                                 TensorType::kQ8_0,
                                 TensorType::kQ2_K,
                                 TensorType::kQ3_K,
                                 TensorType::kQ4_K,
                                 TensorType::kQ5_K,
                                 TensorType::kQ6_K,
                                 TensorType::kIQ4_NL,
                                 TensorType::kIQ4_XS};

std::vector<Arithmetic> arithmetics_of(TensorType type) {
  return has_int8_products(type) ? std::vector{Arithmetic::kF32, Arithmetic::kInt8}
                                 : std::vector{Arithmetic::kF32};
}

class PackedMatmulTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_isa(GetParam()); }
  void TearDown() override {
    force_isa(supported_isas().front());
    core::set_num_threads(2);
  }
};

TEST_P(PackedMatmulTest, AgreesWithTheReference) {
  core::Rng rng(1);
  for (const TensorType type : kTypes) {
    const int64_t unit = core::info(type).block_elements == 256 ? 256 : 32;
    for (const int64_t outputs : {1, 16, 33, 48}) {
      for (const int64_t columns : {unit, 3 * unit, unit == 32 ? int64_t{1120} : int64_t{1280}}) {
        Packed packed = random_matrix(type, outputs, columns, rng);
        for (const Arithmetic arithmetic : arithmetics_of(type)) {
          packed.matrix.arithmetic = arithmetic;
          for (const int64_t rows : {1, 2, 3, 7, 9, 13, 19, 33}) {
            const auto x = random_floats(rows * columns, rng);
            const auto fast = run(packed, x, rows);
            std::vector<float> slow(fast.size());
            const MatmulOutput output{packed.matrix, slow.data(), outputs};
            packed_matmul_reference(x.data(), rows, columns, {&output, 1});
            for (size_t i = 0; i < fast.size(); ++i) {
              // f32 sums of up to 1280 products of magnitude up to 8
              ASSERT_NEAR(fast[i], slow[i], 2e-3)
                  << core::info(type).name << ' ' << outputs << 'x' << columns << " rows " << rows
                  << " at " << i << " arithmetic " << static_cast<int>(arithmetic);
            }
          }
        }
      }
    }
  }
}

TEST_P(PackedMatmulTest, BitsOfARowDependOnNothingElse) {
  core::Rng rng(2);
  for (const TensorType type : kTypes) {
    const int64_t columns = 1280;
    Packed packed = random_matrix(type, 72, columns, rng);
    const auto x = random_floats(30 * columns, rng);
    for (const Arithmetic arithmetic : arithmetics_of(type)) {
      packed.matrix.arithmetic = arithmetic;
      core::set_num_threads(1);
      const auto whole = run(packed, x, 30);
      for (const int threads : {1, 2}) {
        core::set_num_threads(threads);
        for (const int64_t rows : {1, 2, 4, 7, 8, 11, 25}) {
          for (int64_t first = 0; first + rows <= 30; first += 11) {
            const std::vector<float> part(x.begin() + first * columns,
                                          x.begin() + (first + rows) * columns);
            const auto y = run(packed, part, rows);
            ASSERT_EQ(0, std::memcmp(y.data(), whole.data() + first * 72, y.size() * 4))
                << core::info(type).name << " rows " << rows << " from " << first << " threads "
                << threads << " arithmetic " << static_cast<int>(arithmetic);
          }
        }
      }
    }
  }
}

TEST_P(PackedMatmulTest, SeveralWeightsShareOneCall) {
  core::Rng rng(3);
  const Packed first = random_matrix(TensorType::kQ4_1, 48, 64, rng);
  const Packed second = random_matrix(TensorType::kQ8_0, 17, 64, rng);
  for (const int64_t rows : {1, 20}) {
    const auto x = random_floats(rows * 64, rng);
    std::vector<float> y(static_cast<size_t>(rows * 113));
    const MatmulOutput outputs[] = {{first.matrix, y.data(), 113},
                                    {second.matrix, y.data() + 48, 113},
                                    {with_int8(first).matrix, y.data() + 65, 113}};
    packed_matmul(x.data(), rows, 64, outputs);
    const auto expected_first = run(first, x, rows);
    const auto expected_second = run(second, x, rows);
    const auto expected_third = run(with_int8(first), x, rows);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = y.data() + r * 113;
      EXPECT_EQ(0, std::memcmp(row, expected_first.data() + r * 48, 48 * 4));
      EXPECT_EQ(0, std::memcmp(row + 48, expected_second.data() + r * 17, 17 * 4));
      EXPECT_EQ(0, std::memcmp(row + 65, expected_third.data() + r * 48, 48 * 4));
    }
  }
}

TEST_P(PackedMatmulTest, WhatIsNotFiniteShows) {
  core::Rng rng(5);
  for (const TensorType type : {TensorType::kQ4_1, TensorType::kQ6_K, TensorType::kQ8_0}) {
    for (const Arithmetic arithmetic : arithmetics_of(type)) {
      Packed packed = random_matrix(type, 16, 256, rng);
      packed.matrix.arithmetic = arithmetic;
      for (const float value : {NAN, INFINITY, -INFINITY}) {
        for (const int64_t rows : {1, 20}) {
          auto x = random_floats(rows * 256, rng);
          x[100] = value;
          const auto y = run(packed, x, rows);
          for (size_t i = 0; i < y.size(); ++i) {
            ASSERT_EQ(std::isfinite(y[i]), i >= 16) << i;  // of the first row, all
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa,
                         PackedMatmulTest,
                         testing::ValuesIn(supported_isas()),
                         [](const auto& instance) { return instance.param; });

TEST(PackedMatmul, APanelTakesTheBytesOfItsStoredRows) {
  for (const TensorType type : kTypes) {
    EXPECT_TRUE(has_packed_form(type));
    const PanelForm form = panel_form(type);
    if (form.columns != 0) {
      EXPECT_EQ(form.columns, core::info(type).block_elements) << core::info(type).name;
      EXPECT_EQ(block_bytes(form), 16 * core::info(type).block_bytes) << core::info(type).name;
    }
  }
}

TEST(PackedMatmul, RoundsToTheNearestMultipleOfABlocksScale) {
  std::vector<float> x(64, 0.0F);
  x[3] = -254;  // scale 2
  x[4] = 3.5F;  // 1.75 steps
  x[5] = 5.0F;  // 2.5 steps: to the even one
  std::vector<float> rounded(64);
  round_to_int8_reference(x.data(), 64, rounded.data());
  EXPECT_EQ(rounded[3], -254);
  EXPECT_EQ(rounded[4], 4);
  EXPECT_EQ(rounded[5], 4);
  EXPECT_EQ(rounded[40], 0);  // a block of zeros
}

TEST(PackedMatmul, WideRegistersGiveTheBitsOfAvx2) {
  const auto isas = supported_isas();
  if (isas.front() == "AVX2" || isas.size() < 2) {
    GTEST_SKIP() << "needs AVX-512 beside AVX2";
  }
  core::Rng rng(4);
  for (const TensorType type : kTypes) {
    Packed packed = random_matrix(type, 40, 512, rng);
    const auto x = random_floats(20 * 512, rng);
    for (const Arithmetic arithmetic : arithmetics_of(type)) {
      packed.matrix.arithmetic = arithmetic;
      for (const int64_t rows : {1, 3, 20}) {
        force_isa("AVX2");
        const auto narrow = run(packed, x, rows);
        for (const auto& isa : isas) {
          force_isa(isa);
          EXPECT_EQ(narrow, run(packed, x, rows)) << core::info(type).name << ' ' << isa;
        }
      }
    }
  }
  force_isa(isas.front());
}

}  // namespace
}  // namespace adze::kernels
