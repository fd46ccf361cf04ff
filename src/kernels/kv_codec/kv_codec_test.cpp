// Code lines against arithmetic, and attention over coded pages and its masses against their
// specifications: codecs with and without a basis of their own.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "core/float16.h"
#include "core/rng.h"
#include "kernels/kv_codec/code_lines.h"
#include "kernels/kv_codec/grouped_codec.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/simd.h"

namespace adze::kernels {
namespace {

std::vector<float> random_numbers(int64_t count, uint64_t seed) {
  core::Rng rng(seed);
  std::vector<float> numbers(static_cast<size_t>(count));
  for (float& number : numbers) {
    number = static_cast<float>(rng.next_uniform() * 4 - 2);
  }
  return numbers;
}

TEST(CodeLines, HoldEveryCodeInEveryPlace) {
  for (const int64_t bits : {2, 3, 4, 5, 6, 8}) {
    for (int64_t first = 0; first < (1 << bits); ++first) {
      uint8_t codes[kLineCodes];
      for (int64_t n = 0; n < kLineCodes; ++n) {
        codes[n] = static_cast<uint8_t>((first + n * 7) % (1 << bits));
      }
      std::vector<std::byte> line(static_cast<size_t>(line_bytes(bits)), std::byte{0xFF});
      pack_line(bits, codes, line.data());
      uint8_t found[kLineCodes];
      unpack_line(bits, line.data(), found);
      ASSERT_EQ(0, std::memcmp(codes, found, sizeof codes)) << bits << " bits from " << first;
    }
  }
}

TEST(CodeLines, AreWithinHalfAStepAndExactAtTheExtremes) {
  for (const int64_t bits : {2, 3, 4, 8}) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const auto numbers = random_numbers(kLineCodes, seed);
      uint16_t pair[2];
      std::vector<std::byte> line(static_cast<size_t>(line_bytes(bits)));
      encode_line(bits, numbers.data(), pair, line.data());
      // Lines are decoded in eights: their scales are read together.
      std::vector<std::byte> lines;
      std::vector<uint16_t> scales;
      for (int i = 0; i < 8; ++i) {
        lines.insert(lines.end(), line.begin(), line.end());
        scales.insert(scales.end(), pair, pair + 2);
      }
      std::vector<float> found(8 * kLineCodes);
      decode_lines(bits, lines.data(), scales.data(), 8, found.data());
      const float step = core::float_from_half(pair[0]);
      for (int64_t n = 0; n < 8 * kLineCodes; ++n) {
        // f16 rounds the least number and the step: 2^-11 of each.
        ASSERT_NEAR(found[static_cast<size_t>(n)],
                    numbers[static_cast<size_t>(n % kLineCodes)],
                    0.5F * step + 0.004F)
            << bits << " bits";
      }
    }
  }
}

TEST(CodeLines, OfEqualOrAbsurdNumbersDecodeToSomethingFinite) {
  for (const float number : {0.0F, 3.5F, -1e-9F}) {
    const std::vector<float> numbers(kLineCodes, number);
    uint16_t pair[2];
    std::byte line[line_bytes(4)];
    encode_line(4, numbers.data(), pair, line);
    EXPECT_EQ(pair[0], 0);
    EXPECT_NEAR(core::float_from_half(pair[1]), number, 2e-3F);
  }
  std::vector<float> numbers(kLineCodes, NAN);
  uint16_t pair[2];
  std::byte line[line_bytes(4)];
  encode_line(4, numbers.data(), pair, line);  // no undefined conversion
}

// Keys and values in a basis that mirrors and swaps neighbouring channels: orthogonal, its own
// inverse, and wrong wherever the basis is forgotten. Codes are f32.
class MirrorCodec : public PageCodec {
 public:
  MirrorCodec(int64_t kv_heads, int64_t head_dim) : kv_heads_(kv_heads), head_dim_(head_dim) {}
  int64_t page_bytes() const override { return 2 * kv_heads_ * kPageTokens * head_dim_ * 4; }
  int64_t side_bytes() const override { return 64; }
  const std::byte* address(const std::byte* page, int64_t kv_head, PagePart part) const override {
    return page +
           (kv_head + (part == PagePart::kKey ? 0 : kv_heads_)) * kPageTokens * head_dim_ * 4;
  }
  void encode(const float* key,
              const float* value,
              int64_t /*number*/,
              std::byte* /*side*/,
              std::byte* page) const override {
    auto* target = reinterpret_cast<float*>(page);
    for (const float* source : {key, value}) {
      for (int64_t row = 0; row < kv_heads_ * kPageTokens; ++row) {
        mirror(source + row * head_dim_, target);
        target += head_dim_;
      }
    }
  }
  void decode_keys(const std::byte* page,
                   int64_t /*number*/,
                   const std::byte* /*side*/,
                   int64_t kv_head,
                   float* keys) const override {
    const auto* rows = reinterpret_cast<const float*>(address(page, kv_head, PagePart::kKey));
    for (int64_t i = 0; i < kPageTokens * head_dim_; ++i) {
      keys[i % head_dim_ * kPageTokens + i / head_dim_] = rows[i];
    }
  }
  void decode_values(const std::byte* page,
                     int64_t /*number*/,
                     const std::byte* /*side*/,
                     int64_t kv_head,
                     float* values) const override {
    std::memcpy(values,
                address(page, kv_head, PagePart::kValue),
                static_cast<size_t>(kPageTokens * head_dim_) * 4);
  }
  bool changes_keys() const override { return true; }
  bool changes_values() const override { return true; }
  void query_to_basis(const std::byte* /*side*/,
                      int64_t /*kv_head*/,
                      int64_t rows,
                      const float* query,
                      float* result) const override {
    for (int64_t row = 0; row < rows; ++row) {
      mirror(query + row * head_dim_, result + row * head_dim_);
    }
  }
  void values_from_basis(const std::byte* side,
                         int64_t kv_head,
                         int64_t rows,
                         const float* sums,
                         float* result) const override {
    query_to_basis(side, kv_head, rows, sums, result);
  }
  void keys_from_basis(const std::byte* /*side*/,
                       int64_t /*kv_head*/,
                       const float* coded,
                       float* keys) const override {
    for (int64_t dim = 0; dim < head_dim_; ++dim) {
      for (int64_t token = 0; token < kPageTokens; ++token) {
        keys[dim * kPageTokens + token] = sign(dim) * coded[(dim ^ 1) * kPageTokens + token];
      }
    }
  }

 private:
  static float sign(int64_t dim) { return dim % 3 == 0 || (dim ^ 1) % 3 == 0 ? -1.0F : 1.0F; }
  void mirror(const float* row, float* result) const {
    for (int64_t dim = 0; dim < head_dim_; ++dim) {
      result[dim] = sign(dim) * row[dim ^ 1];
    }
  }

  int64_t kv_heads_;
  int64_t head_dim_;
};

AttentionShape make_shape(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  return {heads, kv_heads, head_dim, 1.0F / std::sqrt(static_cast<float>(head_dim))};
}

// A text whose pages are there raw (f16) and coded.
struct CodedCache {
  std::vector<std::vector<std::byte>> storage;
  std::vector<const std::byte*> raw;
  std::vector<const std::byte*> coded;
  std::vector<std::byte> side;

  CodedCache(const AttentionShape& shape, const PageCodec& codec, int64_t tokens)
      : side(static_cast<size_t>(codec.side_bytes())) {
    const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens;
    const int64_t width = shape.kv_heads * shape.head_dim;
    for (int64_t page = 0; page < pages; ++page) {
      const auto key = random_numbers(kPageTokens * width, static_cast<uint64_t>(2 * page));
      const auto value = random_numbers(kPageTokens * width, static_cast<uint64_t>(2 * page + 1));
      auto& plain =
          storage.emplace_back(static_cast<size_t>(attention_page_bytes(shape, PageType::kF16)));
      write_page_tokens(
          shape, PageType::kF16, key.data(), value.data(), 0, kPageTokens, plain.data());
      raw.push_back(plain.data());
      std::vector<float> by_head[2];
      for (int64_t head = 0; head < shape.kv_heads; ++head) {
        std::vector<float> k(static_cast<size_t>(kPageTokens * shape.head_dim));
        std::vector<float> v(k.size());
        read_page_head(shape, PageType::kF16, raw.back(), head, kPageTokens, k.data(), v.data());
        by_head[0].insert(by_head[0].end(), k.begin(), k.end());
        by_head[1].insert(by_head[1].end(), v.begin(), v.end());
      }
      auto& sealed = storage.emplace_back(static_cast<size_t>(codec.page_bytes()));
      codec.encode(by_head[0].data(), by_head[1].data(), page, side.data(), sealed.data());
      coded.push_back(sealed.data());
    }
  }
};

struct Codecs {
  std::vector<std::shared_ptr<const PageCodec>> all;
  explicit Codecs(const AttentionShape& shape)
      : all{make_kivi_codec(shape.kv_heads, shape.head_dim, 4),
            make_kivi_codec(shape.kv_heads, shape.head_dim, 2),
            make_int4_codec(shape.kv_heads, shape.head_dim),
            std::make_shared<MirrorCodec>(shape.kv_heads, shape.head_dim)} {}
};

class CodedAttentionTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_isa(GetParam()); }
  void TearDown() override { force_isa(supported_isas().front()); }
};

TEST_P(CodedAttentionTest, AgreesWithTheReference) {
  for (const auto& shape : {make_shape(9, 3, 64), make_shape(4, 2, 16), make_shape(2, 2, 48)}) {
    for (const auto& codec : Codecs(shape).all) {
      for (const int64_t tokens : {20, 300, 520}) {
        const CodedCache cache(shape, *codec, tokens);
        for (const int64_t rows : {1, 5, 20}) {
          const auto query = random_numbers(rows * shape.heads * shape.head_dim, 5);
          std::vector<float> results[2];
          std::vector<float> sums[2];
          for (const bool reference : {false, true}) {
            auto& output = results[reference ? 1 : 0];
            auto& lse = sums[reference ? 1 : 0];
            output.resize(query.size());
            lse.resize(static_cast<size_t>(rows * shape.heads));
            AttentionSequence sequence{.query = query.data(),
                                       .output = output.data(),
                                       .rows = rows,
                                       .first_rank = tokens - rows,
                                       .pages = cache.coded.data(),
                                       .own_pages = cache.raw.data()};
            sequence.side = cache.side.data();
            sequence.log_sum_exp = lse.data();
            const PagedAttention attention{.shape = shape,
                                           .page_type = PageType::kCoded,
                                           .own_page_type = PageType::kF16,
                                           .key_rotation = {},
                                           .codec = codec.get()};
            (reference ? paged_attention_reference : paged_attention)(attention, {&sequence, 1});
          }
          for (size_t i = 0; i < query.size(); ++i) {
            ASSERT_NEAR(results[0][i], results[1][i], 3e-5) << tokens << ", " << rows;
          }
          for (size_t i = 0; i < sums[0].size(); ++i) {
            ASSERT_NEAR(sums[0][i], sums[1][i], 1e-4);
          }
        }
      }
    }
  }
}

TEST_P(CodedAttentionTest, MassIsTheAttentionThatTokensReceive) {
  const auto shape = make_shape(6, 2, 32);
  for (const auto& codec : Codecs(shape).all) {
    const int64_t tokens = 150;
    const int64_t rows = 40;
    const CodedCache cache(shape, *codec, tokens);
    const auto query = random_numbers(rows * shape.heads * shape.head_dim, 9);
    std::vector<float> output(query.size());
    std::vector<float> lse(static_cast<size_t>(rows * shape.heads));
    AttentionSequence sequence{.query = query.data(),
                               .output = output.data(),
                               .rows = rows,
                               .first_rank = tokens - rows,
                               .pages = cache.coded.data(),
                               .own_pages = cache.coded.data()};
    sequence.side = cache.side.data();
    sequence.log_sum_exp = lse.data();
    // Own pages coded as well: then every row's attention sums to one.
    const PagedAttention attention{.shape = shape,
                                   .page_type = PageType::kCoded,
                                   .own_page_type = PageType::kCoded,
                                   .key_rotation = {},
                                   .codec = codec.get()};
    paged_attention(attention, {&sequence, 1});
    std::vector<int32_t> end_ranks(static_cast<size_t>(rows));
    std::iota(end_ranks.begin(), end_ranks.end(), static_cast<int32_t>(tokens - rows + 1));
    const std::vector<PageType> types(cache.coded.size(), PageType::kCoded);
    std::vector<float> weights(static_cast<size_t>(rows));
    std::iota(weights.begin(), weights.end(), 1.0F);
    std::vector<float> mass(static_cast<size_t>(shape.kv_heads * tokens));
    std::vector<float> expected(mass.size());
    AttentionMass request{.query = query.data(),
                          .log_sum_exp = lse.data(),
                          .row_weights = weights.data(),
                          .end_ranks = end_ranks.data(),
                          .rows = rows,
                          .pages = cache.coded.data(),
                          .page_types = types.data(),
                          .side = cache.side.data(),
                          .tokens = tokens,
                          .mass = mass.data()};
    attention_mass(attention, request);
    request.mass = expected.data();
    attention_mass_reference(attention, request);
    double total = 0;
    for (size_t i = 0; i < mass.size(); ++i) {
      ASSERT_NEAR(mass[i], expected[i], 2e-4);
      total += static_cast<double>(mass[i]);
    }
    // 1 + 2 + ... + rows for each kv head.
    EXPECT_NEAR(total, static_cast<double>(shape.kv_heads * rows * (rows + 1) / 2), 1e-2);
    // A row after the other: the bits of the sum do not depend on how rows come in.
    std::vector<float> pieces(mass.size());
    request.mass = pieces.data();
    for (int64_t first = 0; first < rows; first += 7) {
      AttentionMass piece = request;
      piece.query += first * shape.heads * shape.head_dim;
      piece.log_sum_exp += first * shape.heads;
      piece.row_weights += first;
      piece.end_ranks += first;
      piece.rows = std::min<int64_t>(7, rows - first);
      attention_mass(attention, piece);
    }
    EXPECT_EQ(pieces, mass);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, CodedAttentionTest, testing::ValuesIn(supported_isas()));

}  // namespace
}  // namespace adze::kernels
