#include "infer/prompt_lookup.h"

#include <algorithm>
#include <vector>

#include <gtest/gtest.h>

#include "core/rng.h"

namespace adze::infer {
namespace {

using Tokens = std::vector<int32_t>;

TEST(PromptLookup, GuessesWhatFollowedLastTime) {
  PromptLookup lookup(Tokens{1, 2, 3, 4, 5, 6, 7, 9, 9});
  EXPECT_EQ(lookup.guess(4), Tokens{});
  lookup.append(2);
  lookup.append(3);
  EXPECT_EQ(lookup.guess(4), Tokens{});  // two tokens are no repetition
  lookup.append(4);
  EXPECT_EQ(lookup.guess(3), (Tokens{5, 6, 7}));
  EXPECT_EQ(lookup.guess(0), Tokens{});
  EXPECT_EQ(lookup.guess(11), (Tokens{5, 6, 7, 9, 9, 2, 3, 4, 5, 6, 7}));  // round again
}

TEST(PromptLookup, PrefersTheLongerAndThenTheLaterMatch) {
  const PromptLookup longer(Tokens{1, 2, 3, 4, 5, 60, 3, 4, 5, 70, 1, 2, 3, 4, 5});
  EXPECT_EQ(longer.guess(1), Tokens{60});
  const PromptLookup later(Tokens{3, 4, 5, 60, 8, 3, 4, 5, 70, 8, 3, 4, 5});
  EXPECT_EQ(later.guess(1), Tokens{70});
}

// The definition, by search.
Tokens search(const Tokens& text, int64_t most) {
  for (const int64_t length : {5, 3}) {
    const auto size = static_cast<int64_t>(text.size());
    for (int64_t end = size - 1; end >= length; --end) {
      if (std::equal(text.end() - length, text.end(), text.begin() + end - length)) {
        Tokens longer = text;
        for (int64_t i = 0; i < most; ++i) {
          longer.push_back(longer[static_cast<size_t>(end + i)]);
        }
        return {longer.begin() + size, longer.end()};
      }
    }
  }
  return {};
}

TEST(PromptLookup, AgreesWithASearch) {
  core::Rng rng(1);
  for (int round = 0; round < 50; ++round) {
    PromptLookup lookup({});
    Tokens text;
    for (int i = 0; i < 120; ++i) {
      text.push_back(static_cast<int32_t>(rng.next_uint64() % 4));
      lookup.append(text.back());
      ASSERT_EQ(lookup.guess(6), search(text, 6)) << round << ' ' << i;
    }
  }
}

}  // namespace
}  // namespace adze::infer
