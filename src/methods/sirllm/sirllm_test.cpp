#include "methods/sirllm/sirllm.h"

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"

namespace adze::methods::sirllm {
namespace {

using Ranks = std::vector<int32_t>;

// The sheet's example [12 §6.2].
TEST(SirLlm, EvictsAsInTheWorkedExample) {
  const std::vector<float> surprisals = {5, 1, .2F, 3, .5F, 4, .1F, .3F};
  const Capacity capacity{.tokens = 8, .sinks = 2, .recent = 0};
  EXPECT_EQ(ranks_to_keep(surprisals, capacity, 3), (Ranks{0, 1, 3, 5, 7}));
}

TEST(SirLlm, KeepsAllThatFits) {
  const std::vector<float> surprisals(5, 1);
  EXPECT_EQ(ranks_to_keep(surprisals, {.tokens = 8, .sinks = 2, .recent = 0}, 3),
            (Ranks{0, 1, 2, 3, 4}));
}

// [12 §6.3]: without room for surprising tokens it is StreamingLLM.
TEST(SirLlm, WithoutSurpriseKeepsSinksAndTheNewest) {
  core::Rng rng(1);
  std::vector<float> surprisals(40);
  for (float& surprisal : surprisals) {
    surprisal = static_cast<float>(rng.next_uniform());
  }
  const Capacity capacity{.tokens = 40, .sinks = 4, .recent = 36};
  Ranks expected = {0, 1, 2, 3};
  for (int32_t rank = 14; rank < 40; ++rank) {
    expected.push_back(rank);
  }
  EXPECT_EQ(ranks_to_keep(surprisals, capacity, 10), expected);
  // So does a model that nothing surprises: of equal ones the newest stay.
  const std::vector<float> equal(40, 2.5F);
  EXPECT_EQ(ranks_to_keep(equal, {.tokens = 40, .sinks = 4, .recent = 0}, 10), expected);
}

// [12 §6.4]
TEST(SirLlm, KeepsTheBudgetTheSinksAndTheOrder) {
  core::Rng rng(2);
  for (int round = 0; round < 300; ++round) {
    const auto tokens = static_cast<int64_t>(16 + rng.next_uint64() % 64);
    const auto sinks = static_cast<int64_t>(rng.next_uint64() % 8);
    const auto recent =
        static_cast<int64_t>(rng.next_uint64() % static_cast<uint64_t>(tokens - sinks));
    const auto incoming =
        static_cast<int64_t>(1 + rng.next_uint64() % static_cast<uint64_t>(tokens - sinks - 1));
    std::vector<float> surprisals(static_cast<size_t>(tokens));
    for (float& surprisal : surprisals) {
      surprisal = static_cast<float>(rng.next_uniform() * 10);
    }
    const Capacity capacity{tokens, sinks, recent};
    const Ranks kept = ranks_to_keep(surprisals, capacity, incoming);
    ASSERT_EQ(static_cast<int64_t>(kept.size()) + incoming, tokens);
    for (int32_t sink = 0; sink < sinks; ++sink) {
      ASSERT_EQ(kept[static_cast<size_t>(sink)], sink);
    }
    ASSERT_TRUE(std::is_sorted(kept.begin(), kept.end()));
    ASSERT_EQ(std::adjacent_find(kept.begin(), kept.end()), kept.end());
    // A common factor changes nothing.
    for (float& surprisal : surprisals) {
      surprisal *= 0.25F;
    }
    ASSERT_EQ(ranks_to_keep(surprisals, capacity, incoming), kept);
  }
}

// [12 §2.3]: evicts first, then decays all that is cached, whether or not anything was evicted.
TEST(SirLlm, DecaysOncePerTurnAfterEvicting) {
  const kv::KvPolicyPtr policy =
      make_policy({.tokens = 16, .sinks = 2, .recent = 0, .decay = 0.5, .keep = 1});
  const auto state = policy->new_state();
  EXPECT_FALSE(policy->begin_turn(*state, {}, 8, 0));
  const std::vector<float> nats = {9, 1, 8, 2, 7, 3, 6, 4};
  policy->add_surprisals(*state, nats);
  // Fits: nothing goes, everything fades.
  EXPECT_FALSE(policy->begin_turn(*state, {.tokens = 8, .cached = 8, .turn_end = 8}, 8, 0));
  policy->add_surprisals(*state, std::vector<float>(8, 3.2F));
  // The old ones weigh 4.5 .5 4 1 3.5 1.5 3 2 now, the new ones 3.2: of 14 - 6 slots ranks 0, 2, 4
  // and the five newest (of equal ones the newer), the sink 1, and one more of the newest.
  const auto columns =
      policy->begin_turn(*state, {.tokens = 16, .cached = 16, .turn_end = 16}, 6, 0);
  ASSERT_TRUE(columns);
  EXPECT_EQ(columns->ranks, (Ranks{0, 1, 2, 4, 10, 11, 12, 13, 14, 15}));
  core::StateWriter writer;
  state->save(writer);
  core::StateReader reader("memory", writer.buffer());
  const auto left = reader.list<float>();
  ASSERT_EQ(left.size(), 10U);
  EXPECT_FLOAT_EQ(left[0], 9 * 0.25F);
  EXPECT_FLOAT_EQ(left[9], 1.6F);
}

// A cache that a turn and its answer fill exactly is full, not too full; an answer that outgrows
// its room gets more of it.
TEST(SirLlm, AFullCacheStaysFullUntilSomethingFollows) {
  const kv::KvPolicyPtr policy =
      make_policy({.tokens = 24, .sinks = 4, .recent = 0, .decay = 1, .keep = 1});
  const auto full_at = [&](int64_t incoming, int64_t reserved, int64_t tokens) {
    const auto state = policy->new_state();
    policy->begin_turn(*state, {}, incoming, reserved);
    return policy->cuts(*state, {.tokens = tokens, .cached = 24, .turn_end = incoming});
  };
  EXPECT_FALSE(full_at(24, 0, 24));  // nothing follows
  EXPECT_FALSE(full_at(18, 6, 24));
  EXPECT_TRUE(full_at(18, 60, 24));  // of which 6 were reserved
  EXPECT_TRUE(full_at(40, 0, 24));   // the turn itself goes on
  EXPECT_TRUE(full_at(18, 6, 30));
}

// A share is one of the whole prompt, as other policies have it: nothing goes while the prompt
// comes in.
TEST(SirLlm, AShareIsTakenWhenThePromptIsIn) {
  const kv::KvPolicyPtr policy = make_policy({.sinks = 4, .decay = 1, .keep = 0.5});
  const auto state = policy->new_state();
  constexpr int64_t kPrompt = 1000;
  EXPECT_FALSE(policy->begin_turn(*state, {}, kPrompt, 100));
  EXPECT_EQ(policy->rows_before_cut(*state, {.tokens = 0, .cached = 0, .turn_end = kPrompt}),
            kPrompt);
  EXPECT_EQ(policy->rows_before_cut(*state, {.tokens = 700, .cached = 700, .turn_end = kPrompt}),
            300);
  EXPECT_FALSE(policy->cuts(*state, {.tokens = 700, .cached = 700, .turn_end = kPrompt}));
  EXPECT_TRUE(policy->cuts(*state, {.tokens = kPrompt, .cached = kPrompt, .turn_end = kPrompt}));
  // The next turn makes room for itself, within half of all there will be.
  policy->add_surprisals(*state, std::vector<float>(kPrompt, 1));
  const auto columns = policy->begin_turn(
      *state, {.tokens = kPrompt, .cached = kPrompt, .turn_end = kPrompt}, 32, 0);
  ASSERT_TRUE(columns);
  EXPECT_EQ(columns->kept(), (kPrompt + 32) / 2 - 32);
}

TEST(SirLlm, RefusesWhatCannotBe) {
  for (const SirLlmOptions& options : {SirLlmOptions{.tokens = 8},
                                       SirLlmOptions{.tokens = 16, .sinks = 12},
                                       SirLlmOptions{.decay = 1.5},
                                       SirLlmOptions{.keep = 0}}) {
    EXPECT_THROW(make_policy(options), core::InvalidOption);
  }
}

}  // namespace
}  // namespace adze::methods::sirllm
