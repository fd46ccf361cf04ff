#include "methods/decoquant/decoquant.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "kernels/paged_attention/paged_attention.h"

namespace adze::methods::decoquant {
namespace {

// X of the sheet's example [10 §6.1].
const std::vector<double> kExample = {3, 4, 1.2, 1.6, 6, -4.5, -4, 3};

TEST(DecoQuant, DecomposesTheWorkedExample) {
  const Decomposition parts = decompose(kExample, 4, 2);
  EXPECT_NEAR(parts.singular[0], 9.013878, 1e-6);
  EXPECT_NEAR(parts.singular[1], 5.385165, 1e-6);
  const double large[] = {0, 2.154619, 0, .861848, 2.498075, 0, 1.665384, 0};
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(std::abs(parts.large[i]), large[i], 1e-6);
  }
  const double small[] = {2.401850, 1.801387, 1.392358, 1.856478};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(std::abs(parts.small[i]), small[i], 2e-6);  // the sheet rounds
  }
}

// [10 §6.1]: squared errors of the rebuilt example, a step a token (two rows of X).
double example_error(int64_t bits) {
  const Decomposition parts = decompose(kExample, 4, 2);
  double error = 0;
  for (size_t token = 0; token < 2; ++token) {
    std::vector<float> members(parts.large.begin() + static_cast<int64_t>(4 * token),
                               parts.large.begin() + static_cast<int64_t>(4 * token + 4));
    const double step = static_cast<double>(symmetric_step(members, bits));
    for (size_t row = 2 * token; row < 2 * token + 2; ++row) {
      for (size_t column = 0; column < 2; ++column) {
        double sum = 0;
        for (size_t k = 0; k < 2; ++k) {
          sum +=
              step * std::nearbyint(parts.large[2 * row + k] / step) * parts.small[2 * k + column];
        }
        error += (sum - kExample[2 * row + column]) * (sum - kExample[2 * row + column]);
      }
    }
  }
  return error;
}
TEST(DecoQuant, RoundsTheWorkedExample) {
  EXPECT_NEAR(example_error(4), .147959, 1e-5);
  EXPECT_NEAR(example_error(3), .111111, 1e-5);
  EXPECT_NEAR(example_error(2), 10.25, 1e-4);
}

// [10 §6.2]
TEST(DecoQuant, FactorsAreExactAndShareTheRange) {
  core::Rng rng(1);
  for (const auto& [rows, m] : {std::pair<int64_t, int64_t>{40, 16}, {5, 8}, {64, 2}, {1, 4}}) {
    std::vector<double> matrix(static_cast<size_t>(rows * m));
    for (double& x : matrix) {
      x = rng.next_uniform() * 6 - 2;
    }
    const Decomposition parts = decompose(matrix, rows, m);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < m; ++j) {
        double large = 0;
        for (int64_t row = 0; row < rows; ++row) {
          large += parts.large[static_cast<size_t>(row * m + i)] *
                   parts.large[static_cast<size_t>(row * m + j)];
        }
        const double expected = i == j ? parts.singular[static_cast<size_t>(i)] : 0;
        // Directions without extent have no rows.
        EXPECT_NEAR(large, expected, 1e-6 * parts.singular[0] + 1e-6);
      }
    }
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < m; ++column) {
        double sum = 0;
        for (int64_t k = 0; k < m; ++k) {
          sum += parts.large[static_cast<size_t>(row * m + k)] *
                 parts.small[static_cast<size_t>(k * m + column)];
        }
        EXPECT_NEAR(sum, matrix[static_cast<size_t>(row * m + column)], 1e-6);
      }
    }
  }
}

TEST(DecoQuant, BitsGoWhereTheySaveMost) {
  const std::vector<double> importance = {1, 100, 1e-9, 1};
  const auto bits = allocate_bits(importance, 3, 16);
  EXPECT_EQ(std::accumulate(bits.begin(), bits.end(), int64_t{0}), 16);
  EXPECT_EQ(bits[1], 6);
  EXPECT_EQ(bits[2], 3);
  EXPECT_EQ(allocate_bits(std::vector<double>(8, NAN), 3, 32), std::vector<int64_t>(8, 4));
  EXPECT_EQ(allocate_bits(std::vector<double>(8, 0.0), 2, 16), std::vector<int64_t>(8, 2));
}

struct Numbers {
  std::vector<float> key;
  std::vector<float> value;
};

// Channels of very different spread, and a mean far from zero.
Numbers random_numbers(int64_t kv_heads, int64_t tokens, int64_t head_dim, uint64_t seed) {
  core::Rng rng(seed);
  Numbers numbers;
  for (int64_t i = 0; i < kv_heads * tokens * head_dim; ++i) {
    const double spread = i % head_dim % 8 == 3 ? 8 : 0.7;
    numbers.key.push_back(static_cast<float>((rng.next_uniform() - 0.3) * spread));
    numbers.value.push_back(static_cast<float>(rng.next_uniform() - 0.5));
  }
  return numbers;
}

// Keys [head_dim, 32] in the model's basis.
std::vector<float> decoded_keys(const kernels::PageCodec& codec,
                                const std::vector<std::byte>& page,
                                int64_t number,
                                const std::vector<std::byte>& side,
                                int64_t head,
                                int64_t head_dim) {
  std::vector<float> coded(static_cast<size_t>(kernels::kPageTokens * head_dim));
  codec.decode_keys(page.data(), number, side.data(), head, coded.data());
  std::vector<float> keys = coded;
  if (codec.changes_keys()) {
    codec.keys_from_basis(side.data(), head, coded.data(), keys.data());
  }
  return keys;
}

double relative_error(const kernels::PageCodec& codec,
                      const Numbers& numbers,
                      int64_t number,
                      std::vector<std::byte>& side,
                      int64_t kv_heads,
                      int64_t head_dim) {
  std::vector<std::byte> page(static_cast<size_t>(codec.page_bytes()));
  codec.encode(numbers.key.data(), numbers.value.data(), number, side.data(), page.data());
  const auto tile = static_cast<size_t>(kernels::kPageTokens * head_dim);
  double error = 0;
  double energy = 0;
  for (int64_t head = 0; head < kv_heads; ++head) {
    const auto keys = decoded_keys(codec, page, number, side, head, head_dim);
    std::vector<float> coded(tile);
    std::vector<float> values(tile);
    codec.decode_values(page.data(), number, side.data(), head, coded.data());
    values = coded;
    if (codec.changes_values()) {
      codec.values_from_basis(side.data(), head, kernels::kPageTokens, coded.data(), values.data());
    }
    for (size_t i = 0; i < tile; ++i) {
      const size_t source = static_cast<size_t>(head) * tile + i;
      const size_t token = i / static_cast<size_t>(head_dim);
      const size_t dim = i % static_cast<size_t>(head_dim);
      const auto key = static_cast<double>(numbers.key[source]);
      const auto value = static_cast<double>(numbers.value[source]);
      const auto found = static_cast<double>(keys[dim * kernels::kPageTokens + token]);
      error += (found - key) * (found - key) +
               (static_cast<double>(values[i]) - value) * (static_cast<double>(values[i]) - value);
      energy += key * key + value * value;
    }
  }
  return std::sqrt(error / energy);
}

TEST(DecoQuant, ErrorsFallWithBitsInEveryForm) {
  for (const auto& [kv_heads, head_dim] : {std::pair<int64_t, int64_t>{3, 64}, {2, 16}, {1, 48}}) {
    const Numbers first = random_numbers(kv_heads, 256, head_dim, 1);
    const Numbers page = random_numbers(kv_heads, 32, head_dim, 2);
    for (const int form : {0, 1, 2}) {
      double last = 10;
      for (const int64_t bits : {2, 3, 4, 8}) {
        const auto codec = form == 0 ? make_plus_codec(kv_heads, head_dim, bits)
                                     : make_paper_codec(kv_heads, head_dim, bits, form == 2, 16);
        std::vector<std::byte> side(static_cast<size_t>(codec->side_bytes()));
        codec->make_side(first.key.data(), first.value.data(), side.data());
        const double error = relative_error(*codec, page, 3, side, kv_heads, head_dim);
        EXPECT_LT(error, 0.75 * last) << "form " << form << ", bits " << bits;
        last = error;
      }
      EXPECT_LT(last, 0.01);
    }
  }
}

TEST(DecoQuant, SinksAreKeptInHalfPrecision) {
  const int64_t head_dim = 64;
  const auto codec = make_plus_codec(1, head_dim, 2);
  Numbers numbers = random_numbers(1, 256, head_dim, 3);
  for (int64_t i = 0; i < 4 * head_dim; ++i) {
    numbers.key[static_cast<size_t>(i)] *= 50;
  }
  std::vector<std::byte> side(static_cast<size_t>(codec->side_bytes()));
  codec->make_side(numbers.key.data(), numbers.value.data(), side.data());
  std::vector<std::byte> page(static_cast<size_t>(codec->page_bytes()));
  codec->encode(numbers.key.data(), numbers.value.data(), 0, side.data(), page.data());
  const auto keys = decoded_keys(*codec, page, 0, side, 0, head_dim);
  for (int64_t token = 0; token < 4; ++token) {
    for (int64_t dim = 0; dim < head_dim; ++dim) {
      const float key = numbers.key[static_cast<size_t>(token * head_dim + dim)];
      EXPECT_NEAR(keys[static_cast<size_t>(dim * 32 + token)], key, std::abs(key) / 1024);
    }
  }
}

// What attention multiplies is what decoding gives; page 0 has to be decoded, for its sinks.
TEST(DecoQuant, AttentionOnCodesAgreesWithTheReference) {
  for (const auto& [heads, kv_heads, head_dim] :
       {std::tuple<int64_t, int64_t, int64_t>{9, 3, 64}, {2, 2, 16}, {4, 1, 96}}) {
    const kernels::AttentionShape shape{
        heads, kv_heads, head_dim, 1 / std::sqrt(static_cast<float>(head_dim))};
    for (const int64_t bits : {2, 3, 4, 8}) {
      const auto codec = make_plus_codec(kv_heads, head_dim, bits);
      const Numbers first = random_numbers(kv_heads, 256, head_dim, 1);
      std::vector<std::byte> side(static_cast<size_t>(codec->side_bytes()));
      codec->make_side(first.key.data(), first.value.data(), side.data());
      std::vector<std::vector<std::byte>> storage;
      std::vector<const std::byte*> pages;
      for (int64_t page = 0; page < 10; ++page) {
        const Numbers numbers =
            random_numbers(kv_heads, 32, head_dim, static_cast<uint64_t>(page) + 5);
        auto& bytes = storage.emplace_back(static_cast<size_t>(codec->page_bytes()));
        codec->encode(numbers.key.data(), numbers.value.data(), page, side.data(), bytes.data());
        pages.push_back(bytes.data());
      }
      const Numbers queries = random_numbers(heads, 5, head_dim, 99);
      std::vector<float> outputs[2];
      for (const bool reference : {false, true}) {
        auto& output = outputs[reference ? 1 : 0];
        output.resize(queries.value.size());
        kernels::AttentionSequence sequence{.query = queries.value.data(),
                                            .output = output.data(),
                                            .rows = 5,
                                            .first_rank = 315,
                                            .pages = pages.data(),
                                            .own_pages = pages.data()};
        sequence.side = side.data();
        const kernels::PagedAttention attention{.shape = shape,
                                                .page_type = kernels::PageType::kCoded,
                                                .own_page_type = kernels::PageType::kCoded,
                                                .key_rotation = {},
                                                .codec = codec.get()};
        (reference ? kernels::paged_attention_reference : kernels::paged_attention)(attention,
                                                                                    {&sequence, 1});
      }
      for (size_t i = 0; i < outputs[0].size(); ++i) {
        ASSERT_NEAR(outputs[0][i], outputs[1][i], 3e-5) << bits << " bits";
      }
    }
  }
}

// The figures that the README states, a page of SmolLM2's layers.
TEST(DecoQuant, PagesAreAsSmallAsStated) {
  EXPECT_EQ(make_plus_codec(3, 64, 4)->page_bytes(), 6912);
  EXPECT_EQ(make_plus_codec(3, 64, 3)->page_bytes(), 5376);
  EXPECT_EQ(make_plus_codec(3, 64, 2)->page_bytes(), 4224);
  EXPECT_EQ(make_plus_codec(3, 64, 8)->page_bytes(), 13056);
}

TEST(DecoQuant, AbsurdNumbersDoNotBreakIt) {
  const int64_t head_dim = 32;
  for (const float absurd : {0.0F, NAN, INFINITY, -INFINITY, 1e30F}) {
    for (const int64_t bits : {2, 4, 8}) {
      const std::vector<float> numbers(static_cast<size_t>(256 * head_dim), absurd);
      const auto codec = make_plus_codec(1, head_dim, bits);
      std::vector<std::byte> side(static_cast<size_t>(codec->side_bytes()));
      codec->make_side(numbers.data(), numbers.data(), side.data());
      std::vector<std::byte> page(static_cast<size_t>(codec->page_bytes()));
      codec->encode(numbers.data(), numbers.data(), 1, side.data(), page.data());
      std::vector<float> tile(static_cast<size_t>(32 * head_dim));
      codec->decode_keys(page.data(), 1, side.data(), 0, tile.data());
      codec->decode_values(page.data(), 1, side.data(), 0, tile.data());
    }
  }
}

TEST(DecoQuant, RefusesWhatCannotBe) {
  for (const DecoQuantOptions& options : {DecoQuantOptions{.bits = 5},
                                          DecoQuantOptions{.form = "c"},
                                          DecoQuantOptions{.chunk = 12}}) {
    EXPECT_THROW(options.validate(), core::InvalidOption);
  }
}

}  // namespace
}  // namespace adze::methods::decoquant
