#include "infer/prefix_cache.h"

#include <optional>

#include <gtest/gtest.h>

#include "kv/cache_registry.h"
#include "tests/support/random_model.h"

namespace adze::infer {
namespace {

constexpr int64_t kSlots = 2;

model::ModelSpec shared_spec() {
  model::ModelSpec spec = model::tiny_spec();
  spec.kv_source = {0, 0, 2, 2};  // two slots
  return spec;
}

class PrefixCacheTest : public testing::Test {
 protected:
  kv::Sequence sequence() { return {pool_, store_, policy_, layout_}; }
  // A text of whole pages, as if it had been computed.
  kv::Sequence computed(const std::vector<int32_t>& tokens) {
    kv::Sequence text = sequence();
    for (size_t page = 0; page < tokens.size() / kv::kPageTokens; ++page) {
      std::vector<kv::PageRef> pages;
      for (int64_t slot = 0; slot < kSlots; ++slot) {
        pages.push_back(pool_.allocate(page_bytes()));
      }
      text.append_pages(pages, {});
    }
    return text;
  }
  int64_t restored(const std::string& key, std::span<const int32_t> tokens, int64_t most = 1000) {
    kv::Sequence text = sequence();
    prefixes_.restore(key, tokens, most, text);
    return text.num_tokens();
  }
  void drop(int64_t pages) {
    const int64_t left = prefixes_.pages() - pages;
    prefixes_.drop_unused([&] { return prefixes_.pages() <= left; });
  }
  int64_t page_bytes() const { return store_->sealed_page_bytes(); }

  kv::PagePool pool_{1 << 20};
  kv::KvStorePtr store_ = kv::make_store("f16", model::tiny_spec());
  kv::KvPolicyPtr policy_ = kv::make_policy("full");
  kv::CacheLayoutPtr layout_ = kv::make_cache_layout(shared_spec());
  PrefixCache prefixes_;
};

std::vector<int32_t> with_end(std::vector<int32_t> tokens, size_t keep, uint64_t seed) {
  tokens.resize(keep);
  const auto end = model::random_tokens(96, 40, seed);
  tokens.insert(tokens.end(), end.begin(), end.end());
  return tokens;
}

TEST_F(PrefixCacheTest, GivesBackTheLongestRunOfWholePages) {
  const auto tokens = model::random_tokens(96, 40, 1);
  prefixes_.publish("a", tokens, computed(tokens));
  EXPECT_EQ(prefixes_.pages(), 3);
  EXPECT_EQ(prefixes_.bytes(), 3 * kSlots * page_bytes());
  EXPECT_EQ(restored("a", tokens), 96);
  EXPECT_EQ(restored("a", tokens, 95), 64);
  EXPECT_EQ(restored("a", with_end(tokens, 70, 2)), 64);
  EXPECT_EQ(restored("a", with_end(tokens, 63, 2)), 32);
  EXPECT_EQ(restored("a", with_end(tokens, 0, 2)), 0);
  EXPECT_EQ(restored("a", std::span(tokens).subspan(32)), 0);  // the same tokens elsewhere
}

TEST_F(PrefixCacheTest, KeysShareNothing) {
  const auto tokens = model::random_tokens(96, 40, 1);
  prefixes_.publish("a", tokens, computed(tokens));
  EXPECT_EQ(restored("b", tokens), 0);
  EXPECT_EQ(restored("", tokens), 0);
  EXPECT_EQ(restored(std::string("a\0", 2), tokens), 0);
  prefixes_.publish("b", tokens, computed(tokens));
  EXPECT_EQ(prefixes_.pages(), 6);
}

TEST_F(PrefixCacheTest, APageIsKeptOnce) {
  const auto tokens = model::random_tokens(96, 40, 1);
  const auto other = with_end(tokens, 64, 3);
  prefixes_.publish("a", tokens, computed(tokens));
  prefixes_.publish("a", tokens, computed(tokens));
  EXPECT_EQ(prefixes_.pages(), 3);
  prefixes_.publish("a", other, computed(other));
  EXPECT_EQ(prefixes_.pages(), 6);  // two of them are shared
  EXPECT_EQ(pool_.used_bytes(), prefixes_.bytes());
}

TEST_F(PrefixCacheTest, TheOldestGoesFirstAndNeverBeforeWhatFollowsIt) {
  const auto first = model::random_tokens(96, 40, 1);
  const auto second = model::random_tokens(96, 40, 2);
  prefixes_.publish("a", first, computed(first));
  prefixes_.publish("a", second, computed(second));
  EXPECT_EQ(restored("a", first), 96);  // now the newest
  drop(1);
  EXPECT_EQ(restored("a", second), 64);  // which makes its other pages the newest
  drop(1);
  EXPECT_EQ(restored("a", first), 64);
  drop(100);
  EXPECT_EQ(prefixes_.pages(), 0);
  EXPECT_EQ(prefixes_.bytes(), 0);
  EXPECT_EQ(pool_.used_bytes(), 0);
}

TEST_F(PrefixCacheTest, PagesOfTextsAreNoRoom) {
  const auto tokens = model::random_tokens(96, 40, 1);
  const auto other = model::random_tokens(96, 40, 2);
  prefixes_.publish("a", other, computed(other));
  auto text = std::make_optional(computed(tokens));
  prefixes_.publish("a", tokens, *text);
  EXPECT_EQ(prefixes_.unused_bytes(), 3 * kSlots * page_bytes());
  drop(100);
  EXPECT_EQ(prefixes_.pages(), 3);
  EXPECT_EQ(prefixes_.unused_bytes(), 0);
  EXPECT_EQ(restored("a", tokens), 96);
  text.reset();
  EXPECT_EQ(prefixes_.unused_bytes(), prefixes_.bytes());
  EXPECT_EQ(prefixes_.bytes(), pool_.used_bytes());
}

// A text that has dropped its first pages still holds a later one, which holds its parents.
TEST_F(PrefixCacheTest, WhatALaterPageNeedsStays) {
  const auto tokens = model::random_tokens(96, 40, 1);
  auto text = std::make_optional(computed(tokens));
  prefixes_.publish("a", tokens, *text);
  const kv::PageRef second = text->slot(0).sealed[1];
  text.reset();
  EXPECT_EQ(prefixes_.unused_bytes(), kSlots * page_bytes());  // the third
  drop(100);
  EXPECT_EQ(prefixes_.pages(), 2);
  EXPECT_EQ(prefixes_.unused_bytes(), 0);
}

TEST_F(PrefixCacheTest, OnlyTextsThatDroppedNothingArePublished) {
  const auto tokens = model::random_tokens(96, 40, 1);
  kv::Sequence text = computed(tokens);
  text.slot(1).positions.assign(96, 5);
  prefixes_.publish("a", tokens, text);
  EXPECT_EQ(prefixes_.pages(), 0);
}

}  // namespace
}  // namespace adze::infer
