#include "infer/prefix_cache.h"

#include <optional>

#include <gtest/gtest.h>

#include "infer/model_engine.h"
#include "kv/cache_registry.h"
#include "methods/register_methods.h"
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

// Pages of another's prefix change no answer, whatever the policy wants to know of the rows.
TEST(PrefixOfATextWithAPolicy, GivesTheBitsOfAColdCache) {
  const model::ModelSpec spec = model::tiny_spec();
  const auto tokens = model::random_tokens(161, spec.vocab_size, 5);
  const std::span<const int32_t> prompt(tokens.data(), 129);  // a row behind a whole page
  methods::register_methods();
  for (const kv::PolicyEntry& entry : kv::policy_entries()) {
    ModelEngine engine({model::random_model(spec)}, {.cache_bytes = 64 << 20, .context = 0});
    const auto answer = [&](const std::string& policy) {
      CacheChoice choice;
      choice.policy = policy;
      const auto text = engine.open(choice, prompt, 32, true);
      const int64_t restored = text->length();
      std::vector<float> logits;
      while (text->length() < static_cast<int64_t>(tokens.size())) {
        const bool in_prompt = text->length() < static_cast<int64_t>(prompt.size());
        const int64_t left = static_cast<int64_t>(prompt.size()) - text->length();
        const int64_t rows = in_prompt ? std::min(left, text->rows_before_cut()) : 1;
        const StepPart part{.text = text.get(),
                            .tokens = std::span(tokens).subspan(static_cast<size_t>(text->length()),
                                                                static_cast<size_t>(rows)),
                            .wanted = 1};
        const float* row = engine.step({&part, 1})[0];
        logits.insert(logits.end(), row, row + spec.vocab_size);
      }
      engine.publish(*text, tokens);
      return std::pair(restored, logits);
    };
    const std::string policy = entry.name == "full"      ? "full"
                               : entry.name == "window"  ? "window:sinks=2,window=62"
                               : entry.name == "sirllm"  ? "sirllm:tokens=64"
                               : entry.name == "pyramid" ? "pyramid:keep=0.8"
                                                         : entry.name + ":keep=0.5";
    const auto cold = answer(policy);
    EXPECT_EQ(cold.first, 0);
    EXPECT_GT(answer("full").second.size(), 0U);  // publishes
    const auto warm = answer(policy);
    // A prompt that comes in several steps has as many rows of logits as steps.
    const size_t rows = std::min(cold.second.size(), warm.second.size());
    EXPECT_EQ(std::vector(cold.second.end() - static_cast<std::ptrdiff_t>(rows), cold.second.end()),
              std::vector(warm.second.end() - static_cast<std::ptrdiff_t>(rows), warm.second.end()))
        << policy;
    const std::string name = entry.name;
    if (name == "full" || name == "snapkv" || name == "pyramidkv") {
      EXPECT_GT(warm.first, 0) << policy;
    }
  }
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
