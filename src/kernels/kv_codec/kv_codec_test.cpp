// Code lines against arithmetic, and attention over coded pages and its masses against their
// specifications: codecs with and without a basis of their own.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "core/float16.h"
#include "core/rng.h"
#include "kernels/kv_codec/code_lines.h"
#include "kernels/kv_codec/grouped_codec.h"
#include "kernels/kv_codec/hadamard.h"
#include "kernels/kv_codec/line_codec.h"
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
  for (const int64_t bits : {1, 2, 3, 4, 5, 6, 8}) {
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

TEST(CodeLines, RoundToWithinHalfAStep) {
  for (const int64_t bits : {1, 2, 3, 4, 8}) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const auto numbers = random_numbers(kLineCodes, seed);
      uint8_t codes[kLineCodes];
      const RoundedGroup group = round_group(bits, numbers.data(), kLineCodes, 1, codes);
      const float step = core::float_from_half(group.scale);
      for (size_t n = 0; n < numbers.size(); ++n) {
        const float found = static_cast<float>(codes[n]) * step + core::float_from_half(group.zero);
        // f16 rounds the least number and the step: 2^-11 of each.
        ASSERT_NEAR(found, numbers[n], 0.5F * step + 0.004F) << bits << " bits";
      }
    }
  }
}

TEST(CodeLines, OfEqualOrAbsurdNumbersDecodeToSomethingFinite) {
  uint8_t codes[kLineCodes];
  for (const float number : {0.0F, 3.5F, -1e-9F}) {
    const std::vector<float> numbers(kLineCodes, number);
    const RoundedGroup group = round_group(4, numbers.data(), kLineCodes, 1, codes);
    EXPECT_EQ(group.scale, 0);
    EXPECT_NEAR(core::float_from_half(group.zero), number, 2e-3F);
  }
  std::vector<float> numbers(kLineCodes, NAN);
  round_group(4, numbers.data(), kLineCodes, 1, codes);  // no undefined conversion
}

TEST(CodeLines, ScalesOfBytesRiseBySixteenthsOfAnOctave) {
  EXPECT_EQ(scale_of_byte(128), 1);
  EXPECT_EQ(scale_of_byte(0), 1.0F / 256);
  EXPECT_EQ(scale_of_byte(255), 248);
  std::vector<uint8_t> codes(256);
  std::iota(codes.begin(), codes.end(), uint8_t{0});
  const std::vector<float> units(256, 3);
  const std::vector<float> means(256, -5);
  std::vector<float> scales(256);
  std::vector<float> zeros(256);
  std::vector<float> centred(256);
  const auto* signed_codes = reinterpret_cast<const int8_t*>(codes.data());
  scales_from_bytes(codes.data(), units.data(), 256, scales.data());
  zeros_from_bytes(signed_codes, units.data(), means.data(), 256, zeros.data());
  zeros_from_bytes(signed_codes, units.data(), nullptr, 256, centred.data());
  for (int code = 0; code < 256; ++code) {
    const auto n = static_cast<size_t>(code);
    EXPECT_EQ(scales[n], 3 * std::ldexp(1 + static_cast<float>(code % 16) / 16, code / 16 - 8));
    const int number = code < 128 ? code : code - 256;
    EXPECT_EQ(zeros[n], static_cast<float>(3 * number - 5));
    EXPECT_EQ(centred[n], static_cast<float>(3 * number));
  }
}

// Lines of every width, scaled by line or by place, written number by number.
class MixedCodec : public LineCodec {
 public:
  MixedCodec(int64_t kv_heads, int64_t head_dim, bool by_line)
      : LineCodec(head_dim), kv_heads_(kv_heads), by_line_(by_line) {}

  int64_t page_bytes() const override { return 2 * kv_heads_ * kPartBytes; }
  const std::byte* address(const std::byte* page, int64_t kv_head, PagePart which) const override {
    return page + (2 * kv_head + (which == PagePart::kKey ? 0 : 1)) * kPartBytes;
  }
  void encode(const float* /*key*/,
              const float* /*value*/,
              int64_t number,
              std::byte* /*side*/,
              std::byte* page) const override {
    core::Rng rng(static_cast<uint64_t>(number) + 77);
    for (int64_t i = 0; i < page_bytes(); ++i) {
      page[i] = static_cast<std::byte>(rng.next_uint64());
    }
  }
  // The specification: a code at a time.
  float number(const CodedPart& part, PagePart which, int64_t line, int64_t place) const {
    const std::byte* lines = part.lines;
    int64_t left = line;
    for (const CodedPart::Run& run : part.runs) {
      if (left < run.count) {
        uint8_t codes[kLineCodes];
        unpack_line(run.bits, lines + left * line_bytes(run.bits), codes);
        const int64_t panel = which == PagePart::kKey ? 0 : line / kLineCodes;
        const int64_t scale = by_line_ ? line : panel * kLineCodes + place;
        return static_cast<float>(codes[place]) * part.scale[scale] + part.zero[scale];
      }
      lines += run.count * line_bytes(run.bits);
      left -= run.count;
    }
    return NAN;
  }
  void find_lines(const std::byte* page,
                  const std::byte* /*side*/,
                  int64_t kv_head,
                  PagePart which,
                  CodedPart& part) const override {
    part.lines = address(page, kv_head, which);
    part.by_line = by_line_;
    const int64_t lines =
        which == PagePart::kKey ? head_dim() : kLineCodes * value_panels(head_dim());
    // All widths between the two.
    constexpr int64_t kWidths[2][6] = {{1, 2, 3, 4, 5, 6}, {2, 3, 4, 5, 6, 8}};
    part.num_runs = 6;
    int64_t left = lines;
    for (size_t i = 0; i < 6; ++i) {
      const int64_t count = i == 5 ? left : std::min<int64_t>(left, 1 + lines / 7);
      part.runs[i] = {kWidths[which == PagePart::kKey ? 0 : 1][i], count};
      left -= count;
    }
    const auto* bytes = reinterpret_cast<const uint8_t*>(part.lines);
    for (int64_t i = 0; i < std::max(lines, kLineCodes); ++i) {
      part.scale[i] = 0.001F + static_cast<float>(bytes[i]) / 40000;
      part.zero[i] = static_cast<float>(bytes[i + 1]) / 500 - 0.3F;
    }
  }

 private:
  static constexpr int64_t kPartBytes = 8 * 4 * 160;

  int64_t kv_heads_;
  bool by_line_;
};

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
            std::make_shared<MixedCodec>(shape.kv_heads, shape.head_dim, true),
            std::make_shared<MixedCodec>(shape.kv_heads, shape.head_dim, false),
            std::make_shared<MirrorCodec>(shape.kv_heads, shape.head_dim)} {}
};

class CodedAttentionTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_isa(GetParam()); }
  void TearDown() override { force_isa(supported_isas().front()); }
};

TEST_P(CodedAttentionTest, DecodingIsCodeTimesScalePlusZero) {
  for (const int64_t head_dim : {16, 48, 64, 128}) {
    for (const bool by_line : {false, true}) {
      const MixedCodec codec(2, head_dim, by_line);
      std::vector<std::byte> page(static_cast<size_t>(codec.page_bytes()));
      codec.encode(nullptr, nullptr, 5, nullptr, page.data());
      for (const int64_t head : {0, 1}) {
        std::vector<float> keys(static_cast<size_t>(head_dim * kPageTokens));
        std::vector<float> values(keys.size());
        codec.decode_keys(page.data(), 5, nullptr, head, keys.data());
        codec.decode_values(page.data(), 5, nullptr, head, values.data());
        CodedPart key_part;
        CodedPart value_part;
        codec.find_lines(page.data(), nullptr, head, PagePart::kKey, key_part);
        codec.find_lines(page.data(), nullptr, head, PagePart::kValue, value_part);
        for (int64_t token = 0; token < kPageTokens; ++token) {
          for (int64_t dim = 0; dim < head_dim; ++dim) {
            ASSERT_NEAR(keys[static_cast<size_t>(dim * kPageTokens + token)],
                        codec.number(key_part, PagePart::kKey, dim, token),
                        1e-6);
            ASSERT_NEAR(values[static_cast<size_t>(token * head_dim + dim)],
                        codec.number(value_part,
                                     PagePart::kValue,
                                     dim / kLineCodes * kLineCodes + token,
                                     dim % kLineCodes),
                        1e-6);
          }
        }
      }
    }
  }
}

TEST_P(CodedAttentionTest, AgreesWithTheReference) {
  for (const auto& shape :
       {make_shape(9, 3, 64), make_shape(4, 2, 16), make_shape(2, 2, 48), make_shape(8, 2, 80)}) {
    for (const auto& codec : Codecs(shape).all) {
      for (const auto& [tokens, rows] : {std::pair<int64_t, int64_t>{20, 5}, {300, 1}, {520, 4}}) {
        const CodedCache cache(shape, *codec, tokens);
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
                          .mass = {mass.data(), tokens}};
    attention_mass(attention, request);
    request.mass.first = expected.data();
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
    request.mass.first = pieces.data();
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

// Rows [first, end) of a text whose pages are all coded but their own.
std::vector<float> attend(const AttentionShape& shape,
                          const PageCodec& codec,
                          const CodedCache& cache,
                          const std::vector<float>& query,
                          const std::vector<int32_t>& first_visible,
                          int64_t first,
                          int64_t end) {
  const int64_t width = shape.heads * shape.head_dim;
  std::vector<float> output(static_cast<size_t>((end - first) * width));
  AttentionSequence sequence{.query = query.data() + first * width,
                             .output = output.data(),
                             .rows = end - first,
                             .first_rank = first,
                             .pages = cache.coded.data(),
                             .own_pages = cache.raw.data()};
  sequence.side = cache.side.data();
  sequence.first_visible = first_visible.empty() ? nullptr : first_visible.data() + first;
  paged_attention({.shape = shape,
                   .page_type = PageType::kCoded,
                   .own_page_type = PageType::kF16,
                   .key_rotation = {},
                   .codec = &codec},
                  {&sequence, 1});
  return output;
}

TEST_P(CodedAttentionTest, BitsOfARowDependOnNothingElse) {
  const int64_t tokens = 300;
  for (const auto& shape : {make_shape(6, 2, 64), make_shape(5, 1, 48), make_shape(2, 2, 32)}) {
    for (const auto& codec : Codecs(shape).all) {
      const CodedCache cache(shape, *codec, tokens);
      const int64_t width = shape.heads * shape.head_dim;
      const auto query = random_numbers(tokens * width, 4);
      std::vector<int32_t> window;
      for (int32_t row = 0; row < tokens; ++row) {
        window.push_back(std::max(0, row - 45));
      }
      for (const auto& first_visible : {std::vector<int32_t>(), window}) {
        const auto whole = attend(shape, *codec, cache, query, first_visible, 0, tokens);
        for (const int64_t chunk : {1, 2, 7, 33}) {
          for (int64_t first = 0; first < tokens; first += chunk) {
            const int64_t end = std::min(first + chunk, tokens);
            const auto piece = attend(shape, *codec, cache, query, first_visible, first, end);
            ASSERT_EQ(0, std::memcmp(piece.data(), whole.data() + first * width, piece.size() * 4))
                << "rows " << first << " to " << end;
          }
        }
      }
    }
  }
}

// y_i = sum_j (-1)^popcount(i & j) x_j / sqrt(n), in blocks of the power of two n within width.
TEST_P(CodedAttentionTest, HadamardIsItsClosedForm) {
  for (const auto& [width, size] : {std::pair(16, 16), {64, 64}, {48, 16}, {96, 32}, {256, 256}}) {
    const auto numbers = random_numbers(3 * width, 5);
    auto turned = numbers;
    hadamard(3, width, turned.data());
    for (int64_t place = 0; place < 3 * width; ++place) {
      const auto block = numbers.begin() + place / size * size;
      double expected = 0;
      for (int64_t j = 0; j < size; ++j) {
        const bool odd = std::popcount(static_cast<uint64_t>(place % size & j)) % 2 == 1;
        expected += static_cast<double>(odd ? -block[j] : block[j]);
      }
      ASSERT_NEAR(turned[static_cast<size_t>(place)], expected / std::sqrt(size), 1e-5) << place;
    }
    auto reference = numbers;
    hadamard_reference(3, width, reference.data());
    EXPECT_EQ(turned, reference);
  }
}

TEST(CodedAttention, WideRegistersGiveTheBitsOfAvx2) {
  const auto isas = supported_isas();
  if (isas.front() == "AVX2" || isas.size() < 2) {
    GTEST_SKIP() << "needs AVX-512 beside AVX2";
  }
  for (const auto& shape : {make_shape(9, 3, 64), make_shape(5, 1, 48)}) {
    for (const auto& codec : Codecs(shape).all) {
      const CodedCache cache(shape, *codec, 400);
      const auto query = random_numbers(400 * shape.heads * shape.head_dim, 4);
      for (const int64_t first : {399, 370}) {
        force_isa("AVX2");
        const auto narrow = attend(shape, *codec, cache, query, {}, first, 400);
        force_isa(isas.front());
        EXPECT_EQ(narrow, attend(shape, *codec, cache, query, {}, first, 400));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, CodedAttentionTest, testing::ValuesIn(supported_isas()));

}  // namespace
}  // namespace adze::kernels
