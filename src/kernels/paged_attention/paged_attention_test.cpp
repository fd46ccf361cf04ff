#include "kernels/paged_attention/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "core/check.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "kernels/rope/rope.h"
#include "kernels/simd.h"

namespace adze::kernels {
namespace {

constexpr PageType kPageTypes[] = {
    PageType::kF32, PageType::kF16, PageType::kBF16, PageType::kInt8};

// A sequence of `tokens` random keys and values in pages of one type.
struct Cache {
  AttentionShape shape;
  PageType type;
  std::vector<std::vector<std::byte>> storage;
  std::vector<const std::byte*> pages;

  Cache(const AttentionShape& s, PageType t, int64_t tokens, uint64_t seed) : shape(s), type(t) {
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
    for (const PageType type : kPageTypes) {
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
  const Cache cache(shape, PageType::kF16, tokens, 3);
  const auto query = random_queries(shape, tokens, 5);
  const PagedAttention attention{shape, PageType::kF16, PageType::kF16, {}};
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

// A text in both forms, its rows' windows, and the calls that cut its rows.
struct OptionsCase {
  PagedAttention attention;
  int64_t tokens;
  int64_t rows;  // the last ones of the text
  bool bidirectional;
  std::vector<int32_t> first_visible;  // empty, [rows] or [kv_heads, rows]
  Cache sealed;
  Cache own;
  std::vector<float> query;

  int64_t head_stride() const {
    return static_cast<int64_t>(first_visible.size()) == rows ? 0 : rows;
  }

  // Rows [row, row + count).
  std::vector<float> run(int64_t row, int64_t count, bool reference = false) const {
    const AttentionShape& shape = attention.shape;
    const int64_t width = shape.heads * shape.head_dim;
    std::vector<float> output(static_cast<size_t>(count * width), NAN);
    // Only what these rows see has an address.
    int64_t lowest = first_visible.empty() ? 0 : tokens;
    for (size_t i = 0; i < first_visible.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i) % rows;
      lowest = at >= row && at < row + count ? std::min<int64_t>(lowest, first_visible[i]) : lowest;
    }
    const int64_t first_rank = bidirectional ? tokens - count : tokens - rows + row;
    auto pages = sealed.pages;
    auto own_pages = own.pages;
    for (int64_t page = 0; page < static_cast<int64_t>(pages.size()); ++page) {
      const auto at = static_cast<size_t>(page);
      if (bidirectional || page < lowest / kPageTokens ||
          page * kPageTokens >= first_rank + count) {
        pages[at] = nullptr;
      }
      if (!bidirectional &&
          (page < first_rank / kPageTokens || page * kPageTokens >= first_rank + count)) {
        own_pages[at] = nullptr;
      }
    }
    AttentionSequence sequence{};
    sequence.query = query.data() + row * width;
    sequence.output = output.data();
    sequence.rows = count;
    sequence.first_rank = first_rank;
    sequence.pages = pages.data();
    sequence.own_pages = own_pages.data();
    sequence.first_visible = first_visible.empty() ? nullptr : first_visible.data() + row;
    sequence.first_visible_head_stride = head_stride();
    sequence.bidirectional = bidirectional;
    if (reference) {
      paged_attention_reference(attention, {&sequence, 1});
    } else {
      paged_attention(attention, {&sequence, 1});
    }
    return output;
  }
};

OptionsCase random_case(core::Rng& rng) {
  const auto below = [&](int64_t end) {
    return static_cast<int64_t>(rng.next_uniform() * static_cast<double>(end));
  };
  const AttentionShape shapes[] = {make_shape(9, 3, 64),
                                   make_shape(4, 2, 256),
                                   make_shape(2, 1, 96),
                                   make_shape(4, 4, 48),
                                   make_shape(8, 1, 80),
                                   make_shape(6, 2, 32),
                                   make_shape(1, 1, 16)};
  AttentionShape shape = shapes[below(7)];
  shape.softcap = below(2) == 0 ? 0.0F : (below(2) == 0 ? 2.0F : 50.0F);
  const int64_t lengths[] = {60, 620, 2100};  // the last: all heads of a block go together
  const int64_t tokens = 1 + below(lengths[below(3)]);
  const int64_t rows = 1 + below(std::min<int64_t>(tokens, 45));
  const auto seed = static_cast<uint64_t>(below(1000));
  const PageType sealed_type = kPageTypes[below(4)];
  const PageType own_type = kPageTypes[below(4)];
  OptionsCase result{{shape, sealed_type, own_type, {}},
                     tokens,
                     rows,
                     below(4) == 0,
                     {},
                     Cache(shape, sealed_type, tokens, seed),
                     Cache(shape, own_type, tokens, seed),
                     random_queries(shape, rows, seed + 1)};
  const int64_t kind = result.bidirectional ? 0 : below(4);
  const int64_t window = 1 + below(below(2) == 0 ? 40 : 400);
  for (int64_t i = 0; kind > 0 && i < (kind == 1 ? 1 : shape.kv_heads) * rows; ++i) {
    const int64_t rank = tokens - rows + i % rows;
    // A window, or anything: what a policy that dropped tokens may leave.
    const int64_t first =
        kind < 3 ? std::max<int64_t>(rank + 1 - window - i / rows, 0) : below(rank + 1);
    result.first_visible.push_back(static_cast<int32_t>(first));
  }
  return result;
}

TEST_P(PagedAttentionTest, OptionsAgreeWithTheReferenceHoweverRowsAreCut) {
  core::Rng rng(31);
  for (int round = 0; round < 60; ++round) {
    const OptionsCase test = random_case(rng);
    core::set_num_threads(2);
    const auto whole = test.run(0, test.rows);
    const auto slow = test.run(0, test.rows, true);
    const auto describe = [&] {
      return testing::Message() << "round " << round << ": " << test.tokens << " tokens, "
                                << test.rows << " rows, head_dim " << test.attention.shape.head_dim
                                << ", softcap " << test.attention.shape.softcap << ", windows "
                                << test.first_visible.size() << ", both ways "
                                << test.bidirectional;
    };
    for (size_t i = 0; i < whole.size(); ++i) {
      ASSERT_NEAR(whole[i], slow[i], 2e-5) << describe() << ", at " << i;
    }
    const auto width = static_cast<int64_t>(whole.size()) / test.rows;
    for (const int threads : {1, 2}) {
      core::set_num_threads(threads);
      for (const int64_t chunk : {int64_t{1}, int64_t{7}, int64_t{32}, test.rows}) {
        for (int64_t row = 0; row < test.rows; row += chunk) {
          const auto part = test.run(row, std::min(chunk, test.rows - row));
          ASSERT_EQ(0, std::memcmp(part.data(), whole.data() + row * width, part.size() * 4))
              << describe() << ", rows from " << row << " by " << chunk << ", threads " << threads;
        }
      }
    }
  }
}

TEST_P(PagedAttentionTest, AWindowOfOneTokenGivesItsValue) {
  const auto shape = make_shape(4, 2, 16);
  const Cache cache(shape, PageType::kF32, 300, 33);
  const auto query = random_queries(shape, 300, 35);
  std::vector<int32_t> own_rank(300);
  for (size_t i = 0; i < own_rank.size(); ++i) {
    own_rank[i] = static_cast<int32_t>(i);
  }
  std::vector<float> output(query.size(), NAN);
  AttentionSequence sequence{};
  sequence.query = query.data();
  sequence.output = output.data();
  sequence.rows = 300;
  sequence.pages = cache.pages.data();
  sequence.own_pages = cache.pages.data();
  sequence.first_visible = own_rank.data();
  paged_attention({shape, PageType::kF32, PageType::kF32, {}}, {&sequence, 1});
  std::vector<float> key(32);
  std::vector<float> value(32);
  for (int64_t token = 0; token < 300; ++token) {
    read_page_token(shape,
                    PageType::kF32,
                    cache.pages[static_cast<size_t>(token / kPageTokens)],
                    token % kPageTokens,
                    key.data(),
                    value.data());
    for (int64_t head = 0; head < 4; ++head) {
      const float* own = value.data() + head / 2 * 16;
      const float* result = output.data() + (token * 4 + head) * 16;
      ASSERT_TRUE(std::equal(own, own + 16, result)) << token;
    }
  }
}

TEST_P(PagedAttentionTest, ATinyCapGivesTheMean) {
  auto shape = make_shape(1, 1, 16);
  shape.softcap = 1e-6F;
  const Cache cache(shape, PageType::kF32, 290, 37);
  const auto query = random_queries(shape, 1, 39);
  const auto output = run({shape, PageType::kF32, PageType::kF32, {}}, cache, query, 0, 1, 289);
  std::vector<double> mean(16);
  std::vector<float> key(16);
  std::vector<float> value(16);
  for (int64_t token = 0; token < 290; ++token) {
    read_page_token(shape,
                    PageType::kF32,
                    cache.pages[static_cast<size_t>(token / kPageTokens)],
                    token % kPageTokens,
                    key.data(),
                    value.data());
    for (size_t i = 0; i < mean.size(); ++i) {
      mean[i] += static_cast<double>(value[i]) / 290;
    }
  }
  for (size_t i = 0; i < mean.size(); ++i) {
    EXPECT_NEAR(output[i], mean[i], 5e-6);
  }
}

TEST_P(PagedAttentionTest, ACapHidesNoNan) {
  auto shape = make_shape(1, 1, 16);
  shape.softcap = 50;
  const Cache cache(shape, PageType::kF32, 40, 37);
  const std::vector<float> query(16, NAN);
  const auto output = run({shape, PageType::kF32, PageType::kF32, {}}, cache, query, 0, 1, 39);
  EXPECT_TRUE(std::isnan(output[0]));
}

TEST_P(PagedAttentionTest, UnrotatedKeysGiveWhatRotatedKeysGive) {
  const auto shape = make_shape(2, 2, 32);
  const int64_t tokens = 100;
  const Cache plain(shape, PageType::kF32, tokens, 9);
  Cache rotated = plain;
  RopeTable table(shape.head_dim, 10000.0);
  table.reserve(tokens);
  std::vector<float> key(static_cast<size_t>(shape.kv_heads * shape.head_dim));
  std::vector<float> value(key.size());
  for (int64_t token = 0; token < tokens; ++token) {
    auto& page = rotated.storage[static_cast<size_t>(token / kPageTokens)];
    read_page_token(
        shape, PageType::kF32, page.data(), token % kPageTokens, key.data(), value.data());
    rope(table, key.data(), &token, 1, shape.kv_heads, key.data());
    write_page_tokens(
        shape, PageType::kF32, key.data(), value.data(), token % kPageTokens, 1, page.data());
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
        shape, PageType::kF32, PageType::kF32, {cosine.data(), sine.data()}};
    const PagedAttention without{shape, PageType::kF32, PageType::kF32, {}};
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
    for (const PageType type : kPageTypes) {
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
  const Cache cache(shape, PageType::kF32, 40, 21);
  std::vector<float> key(32);
  std::vector<float> value(32);
  std::vector<std::byte> copy(cache.storage[1].size(), static_cast<std::byte>(0xFF));
  for (int64_t index = 0; index < 8; ++index) {
    read_page_token(shape, PageType::kF32, cache.pages[1], index, key.data(), value.data());
    write_page_tokens(shape, PageType::kF32, key.data(), value.data(), index, 1, copy.data());
  }
  EXPECT_EQ(copy, cache.storage[1]);
}

TEST(PagedAttention, WideRegistersGiveTheBitsOfAvx2) {
  const auto isas = supported_isas();
  if (isas.front() == "AVX2" || isas.size() < 2) {
    GTEST_SKIP() << "needs AVX-512 beside AVX2";
  }
  const auto shape = make_shape(9, 3, 64);
  const Cache cache(shape, PageType::kF16, 400, 17);
  const PagedAttention attention{shape, PageType::kF16, PageType::kF16, {}};
  for (const int64_t rows : {1, 30}) {
    const auto query = random_queries(shape, rows, 19);
    force_isa("AVX2");
    const auto narrow = run(attention, cache, query, 0, rows, 400 - rows);
    force_isa(isas.front());
    EXPECT_EQ(narrow, run(attention, cache, query, 0, rows, 400 - rows));
  }
  core::Rng rng(41);
  for (int round = 0; round < 20; ++round) {
    const OptionsCase test = random_case(rng);
    force_isa("AVX2");
    const auto narrow = test.run(0, test.rows);
    force_isa(isas.front());
    EXPECT_EQ(narrow, test.run(0, test.rows));
  }
}

TEST(PagedAttention, RefusesWindowsOutsideTheText) {
  const auto shape = make_shape(1, 1, 16);
  const Cache cache(shape, PageType::kF32, 40, 21);
  const auto query = random_queries(shape, 2, 5);
  std::vector<float> output(query.size());
  AttentionSequence sequence{};
  sequence.query = query.data();
  sequence.output = output.data();
  sequence.rows = 2;
  sequence.first_rank = 38;
  sequence.pages = cache.pages.data();
  sequence.own_pages = cache.pages.data();
  const PagedAttention attention{shape, PageType::kF32, PageType::kF32, {}};
  for (const auto& first_visible :
       {std::vector<int32_t>{-1, 0}, std::vector<int32_t>{39, 39}, std::vector<int32_t>{0, 40}}) {
    sequence.first_visible = first_visible.data();
    EXPECT_THROW(paged_attention(attention, {&sequence, 1}), core::CheckFailure);
  }
  const std::vector<int32_t> own_rank = {38, 39};
  sequence.first_visible = own_rank.data();
  EXPECT_NO_THROW(paged_attention(attention, {&sequence, 1}));
  sequence.bidirectional = true;
  EXPECT_THROW(paged_attention(attention, {&sequence, 1}), core::CheckFailure);
}

}  // namespace
}  // namespace adze::kernels
