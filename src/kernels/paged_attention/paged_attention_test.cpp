#include "kernels/paged_attention/paged_attention.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/rope/rope.h"
#include "kernels/simd.h"

namespace adze::kernels {
namespace {

using core::TensorType;

// A sequence of `tokens` random keys and values in pages of one type.
struct Cache {
  AttentionShape shape;
  TensorType type;
  std::vector<std::vector<std::byte>> storage;
  std::vector<const std::byte*> pages;

  Cache(const AttentionShape& s, TensorType t, int64_t tokens, uint64_t seed) : shape(s), type(t) {
    core::Rng rng(seed);
    const auto width = static_cast<size_t>(shape.kv_heads * shape.head_dim);
    std::vector<float> key(width);
    std::vector<float> value(width);
    for (int64_t token = 0; token < tokens; ++token) {
      if (token % kPageTokens == 0) {
        // Unwritten places hold NaN: they must never reach a result.
        storage.emplace_back(static_cast<size_t>(attention_page_bytes(shape, type)),
                             static_cast<std::byte>(0xFF));
      }
      for (size_t i = 0; i < width; ++i) {
        key[i] = static_cast<float>(rng.next_uniform() * 4 - 2);
        value[i] = static_cast<float>(rng.next_uniform() * 2 - 1);
      }
      write_page_token_reference(
          shape, type, key.data(), value.data(), token % kPageTokens, storage.back().data());
    }
    for (const auto& page : storage) {
      pages.push_back(page.data());
    }
  }
};

std::vector<float> random_queries(const AttentionShape& shape, int64_t rows, uint64_t seed) {
  core::Rng rng(seed);
  std::vector<float> query(static_cast<size_t>(rows * shape.heads * shape.head_dim));
  for (float& value : query) {
    value = static_cast<float>(rng.next_uniform() * 4 - 2);
  }
  return query;
}

AttentionShape make_shape(int64_t heads, int64_t kv_heads, int64_t head_dim) {
  return {heads, kv_heads, head_dim, 1.0F / std::sqrt(static_cast<float>(head_dim))};
}

std::vector<float> run(const PagedAttention& attention,
                       const Cache& cache,
                       const std::vector<float>& query,
                       int64_t row,
                       int64_t rows,
                       int64_t first_rank,
                       bool reference = false) {
  const int64_t width = cache.shape.heads * cache.shape.head_dim;
  std::vector<float> output(static_cast<size_t>(rows * width), NAN);
  const AttentionSequence sequence{query.data() + row * width,
                                   output.data(),
                                   rows,
                                   first_rank,
                                   cache.pages.data(),
                                   cache.pages.data()};
  if (reference) {
    paged_attention_reference(attention, {&sequence, 1});
  } else {
    paged_attention(attention, {&sequence, 1});
  }
  return output;
}

class PagedAttentionTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { force_isa(GetParam()); }
  void TearDown() override {
    force_isa(supported_isas().front());
    core::set_num_threads(2);
  }
};

TEST_P(PagedAttentionTest, AgreesWithTheReference) {
  for (const auto& shape :
       {make_shape(9, 3, 64), make_shape(4, 4, 48), make_shape(8, 1, 80), make_shape(1, 1, 16)}) {
    for (const TensorType type : {TensorType::kF32, TensorType::kF16}) {
      for (const int64_t tokens : {1, 31, 33, 257, 600}) {
        const Cache cache(shape, type, tokens, 7);
        for (const int64_t rows : {1, 4, 5, 40}) {
          if (rows > tokens) {
            continue;
          }
          const auto query = random_queries(shape, rows, 11);
          const PagedAttention attention{shape, type, type, {}};
          const auto fast = run(attention, cache, query, 0, rows, tokens - rows);
          const auto slow = run(attention, cache, query, 0, rows, tokens - rows, true);
          for (size_t i = 0; i < fast.size(); ++i) {
            ASSERT_NEAR(fast[i], slow[i], 2e-5)
                << tokens << " tokens, " << rows << " rows, at " << i;
          }
        }
      }
    }
  }
}

TEST_P(PagedAttentionTest, BitsOfARowDependOnNothingElse) {
  const auto shape = make_shape(6, 2, 32);
  const int64_t tokens = 300;
  const Cache cache(shape, TensorType::kF16, tokens, 3);
  const auto query = random_queries(shape, tokens, 5);
  const PagedAttention attention{shape, TensorType::kF16, TensorType::kF16, {}};
  const auto whole = run(attention, cache, query, 0, tokens, 0);
  const int64_t width = shape.heads * shape.head_dim;
  for (const int threads : {1, 2}) {
    core::set_num_threads(threads);
    for (const int64_t rows : {1, 3, 7, 64}) {
      for (int64_t first = 0; first + rows <= tokens; first += 29) {
        const auto part = run(attention, cache, query, first, rows, first);
        ASSERT_EQ(0, std::memcmp(part.data(), whole.data() + first * width, part.size() * 4))
            << rows << " rows from " << first << ", threads " << threads;
      }
    }
  }
}

TEST_P(PagedAttentionTest, UnrotatedKeysGiveWhatRotatedKeysGive) {
  const auto shape = make_shape(2, 2, 32);
  const int64_t tokens = 100;
  const Cache plain(shape, TensorType::kF32, tokens, 9);
  Cache rotated = plain;
  RopeTable table(shape.head_dim, 10000.0);
  table.reserve(tokens);
  std::vector<float> key(static_cast<size_t>(shape.kv_heads * shape.head_dim));
  std::vector<float> value(key.size());
  for (int64_t token = 0; token < tokens; ++token) {
    auto& page = rotated.storage[static_cast<size_t>(token / kPageTokens)];
    read_page_token(
        shape, TensorType::kF32, page.data(), token % kPageTokens, key.data(), value.data());
    rope(table, key.data(), &token, 1, shape.kv_heads, key.data());
    write_page_tokens(
        shape, TensorType::kF32, key.data(), value.data(), token % kPageTokens, 1, page.data());
    rotated.pages[static_cast<size_t>(token / kPageTokens)] = page.data();
  }
  const int64_t half = shape.head_dim / 2;
  std::vector<float> cosine(static_cast<size_t>(4 * half * kPageTokens));
  std::vector<float> sine(cosine.size());
  for (int64_t rank = 0; rank < tokens; ++rank) {
    for (int64_t i = 0; i < half; ++i) {
      const auto place =
          static_cast<size_t>((rank / kPageTokens * half + i) * kPageTokens + rank % kPageTokens);
      cosine[place] = table.cosine(rank)[i];
      sine[place] = table.sine(rank)[i];
    }
  }
  for (const int64_t rows : {1, 20}) {
    const auto query = random_queries(shape, rows, 13);
    const PagedAttention with_table{
        shape, TensorType::kF32, TensorType::kF32, {cosine.data(), sine.data()}};
    const PagedAttention without{shape, TensorType::kF32, TensorType::kF32, {}};
    const auto left = run(with_table, plain, query, 0, rows, tokens - rows);
    const auto slow = run(with_table, plain, query, 0, rows, tokens - rows, true);
    const auto right = run(without, rotated, query, 0, rows, tokens - rows);
    for (size_t i = 0; i < left.size(); ++i) {
      ASSERT_NEAR(left[i], right[i], 1e-5);
      ASSERT_NEAR(left[i], slow[i], 2e-5);
    }
  }
}

TEST_P(PagedAttentionTest, TokensAreWrittenAsTheReferenceWritesThem) {
  for (const auto& shape : {make_shape(4, 2, 16), make_shape(3, 3, 48)}) {
    for (const TensorType type : {TensorType::kF32, TensorType::kF16}) {
      const int64_t width = shape.kv_heads * shape.head_dim;
      const auto key = random_queries(make_shape(shape.kv_heads, 1, shape.head_dim), 32, 23);
      const auto value = random_queries(make_shape(shape.kv_heads, 1, shape.head_dim), 32, 29);
      for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 32}, {5, 1}, {3, 18}}) {
        std::vector<std::byte> fast(static_cast<size_t>(attention_page_bytes(shape, type)));
        std::vector<std::byte> slow(fast.size());
        write_page_tokens(shape, type, key.data(), value.data(), first, count, fast.data());
        for (int64_t i = 0; i < count; ++i) {
          write_page_token_reference(shape,
                                     type,
                                     key.data() + i * width,
                                     value.data() + i * width,
                                     first + i,
                                     slow.data());
        }
        ASSERT_EQ(fast, slow) << first << ' ' << count;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa,
                         PagedAttentionTest,
                         testing::ValuesIn(supported_isas()),
                         [](const auto& instance) { return instance.param; });

TEST(PagedAttention, TokensComeBackAsWritten) {
  const auto shape = make_shape(4, 2, 16);
  const Cache cache(shape, TensorType::kF32, 40, 21);
  std::vector<float> key(32);
  std::vector<float> value(32);
  std::vector<std::byte> copy(cache.storage[1].size(), static_cast<std::byte>(0xFF));
  for (int64_t index = 0; index < 8; ++index) {
    read_page_token(shape, TensorType::kF32, cache.pages[1], index, key.data(), value.data());
    write_page_tokens(shape, TensorType::kF32, key.data(), value.data(), index, 1, copy.data());
  }
  EXPECT_EQ(copy, cache.storage[1]);
}

TEST(PagedAttention, WideRegistersGiveTheBitsOfAvx2) {
  const auto isas = supported_isas();
  if (isas.front() == "AVX2" || isas.size() < 2) {
    GTEST_SKIP() << "needs AVX-512 beside AVX2";
  }
  const auto shape = make_shape(9, 3, 64);
  const Cache cache(shape, TensorType::kF16, 400, 17);
  const PagedAttention attention{shape, TensorType::kF16, TensorType::kF16, {}};
  for (const int64_t rows : {1, 30}) {
    const auto query = random_queries(shape, rows, 19);
    force_isa("AVX2");
    const auto narrow = run(attention, cache, query, 0, rows, 400 - rows);
    force_isa(isas.front());
    EXPECT_EQ(narrow, run(attention, cache, query, 0, rows, 400 - rows));
  }
}

}  // namespace
}  // namespace adze::kernels
