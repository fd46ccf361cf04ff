#include "infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/options.h"

namespace adze::infer {
namespace {

SamplingOptions unfiltered() {
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  options.min_p = 0;
  return options;
}

SampledToken sample(const SamplingOptions& options,
                    const std::vector<float>& logits,
                    const std::vector<int32_t>& prompt = {},
                    const std::vector<int32_t>& generated = {},
                    uint64_t index = 0) {
  SamplerWorkspace workspace;
  const Sampler sampler(options, static_cast<int64_t>(logits.size()));
  return sampler.sample(logits, {prompt, generated}, index, workspace);
}

// Logits whose differences are coarse enough that ties happen.
std::vector<float> random_logits(size_t count, uint64_t seed, double spread) {
  core::Rng random(seed);
  std::vector<float> logits(count);
  for (float& logit : logits) {
    const double sum = random.next_uniform() + random.next_uniform() + random.next_uniform();
    logit = static_cast<float>(std::round(spread * (sum - 1.5) * 64) / 64);
  }
  return logits;
}

// Probabilities by definition, in double, after a full sort: the specification.
std::vector<double> expected_probabilities(const SamplingOptions& options,
                                           const std::vector<float>& logits) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t left, size_t right) {
    return logits[left] > logits[right];
  });
  const auto weight = [&](size_t token, double temperature) {
    const auto depth = static_cast<double>(logits[token]) - static_cast<double>(logits[order[0]]);
    return std::exp(depth / temperature);
  };
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < order.size()) {
    order.resize(static_cast<size_t>(options.top_k));
  }
  double total = 0;
  for (const size_t token : order) {
    total += weight(token, 1);
  }
  double reached = 0;
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || reached < options.top_p * total)) {
    reached += weight(order[kept++], 1);
  }
  order.resize(kept);
  std::erase_if(order, [&](size_t token) { return weight(token, 1) < options.min_p; });
  std::vector<double> probabilities(logits.size());
  total = 0;
  for (const size_t token : order) {
    total += weight(token, options.temperature);
  }
  for (const size_t token : order) {
    probabilities[token] = weight(token, options.temperature) / total;
  }
  return probabilities;
}

// Pearson's statistic over the tokens that are expected at least five times; also fails on a token
// that must not occur.
void expect_distribution(const SamplingOptions& options,
                         const std::vector<float>& logits,
                         const std::vector<double>& probabilities,
                         uint64_t draws) {
  SamplerWorkspace workspace;
  const Sampler sampler(options, static_cast<int64_t>(logits.size()));
  std::vector<int64_t> counts(logits.size());
  for (uint64_t index = 0; index < draws; ++index) {
    ++counts[static_cast<size_t>(sampler.sample(logits, {}, index, workspace).token)];
  }
  double statistic = 0;
  double cells = 0;
  for (size_t token = 0; token < logits.size(); ++token) {
    const double expected = probabilities[token] * static_cast<double>(draws);
    if (probabilities[token] == 0) {
      ASSERT_EQ(counts[token], 0) << "token " << token;
    } else if (expected >= 5) {
      const double difference = static_cast<double>(counts[token]) - expected;
      statistic += difference * difference / expected;
      ++cells;
    }
  }
  // Mean cells - 1, variance 2 (cells - 1); five deviations: a fixed seed fails once in 1e5 codes.
  EXPECT_LT(statistic, cells - 1 + 5 * std::sqrt(2 * std::max(cells - 1, 1.0)));
}

TEST(Sampler, FollowsSoftmax) {
  const std::vector<float> logits = {0.0F, 1.0F, 2.0F, -1.0F, 0.5F};
  const SamplingOptions options = unfiltered();
  expect_distribution(options, logits, expected_probabilities(options, logits), 50'000);
}

TEST(Sampler, FollowsSoftmaxAtOtherTemperatures) {
  const std::vector<float> logits = random_logits(70, 5, 3);
  for (const double temperature : {0.3, 0.8, 2.0}) {
    SamplingOptions options = unfiltered();
    options.temperature = temperature;
    expect_distribution(options, logits, expected_probabilities(options, logits), 20'000);
  }
}

struct FilterCase {
  int64_t top_k;
  double top_p;
  double min_p;
};
class SamplerFilter : public testing::TestWithParam<FilterCase> {};

// Which tokens can occur is checked on many rows: at a temperature of 100 the draw is almost
// uniform over what the filters left, and each of up to 64 tokens comes up within 1,000 draws.
TEST_P(SamplerFilter, KeepsExactlyTheTokensOfTheDefinition) {
  SamplingOptions options = unfiltered();
  options.top_k = GetParam().top_k;
  options.top_p = GetParam().top_p;
  options.min_p = GetParam().min_p;
  for (const size_t vocab_size : {1, 2, 15, 16, 17, 63, 64, 65, 1000}) {
    for (const double spread : {0.5, 4.0, 30.0}) {
      const auto logits = random_logits(vocab_size, vocab_size, spread);
      const auto probabilities = expected_probabilities(options, logits);
      expect_distribution(options, logits, probabilities, 200);
    }
  }
  options.temperature = 100;
  const auto logits = random_logits(64, 3, 4);
  const auto probabilities = expected_probabilities(options, logits);
  const Sampler sampler(options, 64);
  SamplerWorkspace workspace;
  std::vector<bool> seen(64);
  for (uint64_t index = 0; index < 1000; ++index) {
    seen[static_cast<size_t>(sampler.sample(logits, {}, index, workspace).token)] = true;
  }
  for (size_t token = 0; token < 64; ++token) {
    EXPECT_EQ(seen[token], probabilities[token] > 0) << "token " << token;
  }
}

INSTANTIATE_TEST_SUITE_P(Filters,
                         SamplerFilter,
                         testing::Values(FilterCase{0, 1, 0},
                                         FilterCase{1, 1, 0},
                                         FilterCase{3, 1, 0},
                                         FilterCase{40, 1, 0},
                                         FilterCase{2000, 1, 0},
                                         FilterCase{0, 0.9, 0},
                                         FilterCase{0, 0.5, 0},
                                         FilterCase{0, 0.001, 0},
                                         FilterCase{0, 0.9999, 0},
                                         FilterCase{0, 1, 0.1},
                                         FilterCase{0, 1, 1},
                                         FilterCase{20, 0.8, 0},
                                         FilterCase{20, 0.8, 0.05},
                                         FilterCase{40, 0.95, 0.05}));

TEST(Sampler, TemperatureZeroTakesTheLargestAndTheLowestIdAmongEquals) {
  SamplingOptions options;
  options.temperature = 0;
  EXPECT_EQ(sample(options, {1.0F, 3.0F, 3.0F, 2.0F}).token, 1);
  std::vector<float> logits(1000, -5.0F);
  logits[130] = logits[129] = logits[900] = 4.0F;
  EXPECT_EQ(sample(options, logits).token, 129);
  EXPECT_EQ(sample(options, std::vector<float>(77, 0.0F)).token, 0);
}

TEST(Sampler, TopKBreaksTiesByLowestId) {
  SamplingOptions options = unfiltered();
  options.top_k = 2;
  for (uint64_t index = 0; index < 100; ++index) {
    EXPECT_LT(sample(options, std::vector<float>(300, 1.0F), {}, {}, index).token, 2);
  }
}

TEST(Sampler, VerySmallTemperatureIsLikeZero) {
  SamplingOptions options = unfiltered();
  options.temperature = 1e-300;
  EXPECT_EQ(sample(options, {1.0F, 3.0F, 2.0F}).token, 1);
}

TEST(Sampler, DependsOnSeedAndIndexOnly) {
  SamplingOptions options = unfiltered();
  options.seed = 42;
  const auto logits = random_logits(500, 1, 2);
  const Sampler sampler(options, 500);
  SamplerWorkspace used;
  std::vector<int32_t> forwards;
  for (uint64_t index = 0; index < 50; ++index) {
    forwards.push_back(sampler.sample(logits, {}, index, used).token);
  }
  for (uint64_t index = 50; index-- > 0;) {
    SamplerWorkspace fresh;
    EXPECT_EQ(sampler.sample(logits, {}, index, fresh).token, forwards[index]);
  }
  options.seed = 43;
  int64_t equal = 0;
  for (uint64_t index = 0; index < 50; ++index) {
    equal += sample(options, logits, {}, {}, index).token == forwards[index] ? 1 : 0;
  }
  EXPECT_LT(equal, 10);
}

TEST(Sampler, RepetitionPenaltyLooksAtPromptAndAnswerWithinItsWindow) {
  SamplingOptions options;
  options.temperature = 0;
  options.repetition_penalty = 2;
  options.penalty_window = 2;
  EXPECT_EQ(sample(options, {3.0F, 2.0F, 1.0F}, {0}).token, 1);          // 1.5 2 1
  EXPECT_EQ(sample(options, {3.0F, 2.0F, 1.9F}, {0, 0}, {1}).token, 2);  // 1.5 1 1.9
  EXPECT_EQ(sample(options, {3.0F, 2.0F, 1.0F}, {0}, {1, 2}).token, 0);  // 0 is out of the window
  EXPECT_EQ(sample(options, {-1.0F, -1.5F, -9.0F}, {0}).token, 1);       // -2 -1.5
  EXPECT_EQ(sample(options, {3.0F, 1.4F, 1.0F}, {0}, {0}).token, 0);     // once, however often
  options.penalty_window = 0;
  EXPECT_EQ(sample(options, {3.0F, 2.0F, 1.9F}, {0}, {1, 1, 1}).token, 2);
}

TEST(Sampler, FrequencyAndPresencePenaltiesCountTheAnswerOnly) {
  SamplingOptions options;
  options.temperature = 0;
  options.frequency_penalty = 0.5;
  EXPECT_EQ(sample(options, {2.0F, 1.2F}, {0, 0, 0}).token, 0);
  EXPECT_EQ(sample(options, {2.0F, 1.2F}, {}, {0}).token, 0);     // 1.5
  EXPECT_EQ(sample(options, {2.0F, 1.2F}, {}, {0, 0}).token, 1);  // 1.0
  options.frequency_penalty = 0;
  options.presence_penalty = 1;
  EXPECT_EQ(sample(options, {2.0F, 0.9F}, {}, {0, 0, 0}).token, 0);  // 1.0, once
  EXPECT_EQ(sample(options, {2.0F, 1.1F}, {}, {0}).token, 1);
  options.presence_penalty = -2;  // encourages
  EXPECT_EQ(sample(options, {2.0F, 1.1F}, {}, {1}).token, 1);
}

TEST(Sampler, PenaltiesLeaveNothingBehindInTheWorkspace) {
  SamplingOptions options;
  options.temperature = 0;
  options.frequency_penalty = 2;
  options.repetition_penalty = 5;
  const Sampler sampler(options, 3);
  SamplerWorkspace workspace;
  const std::vector<int32_t> generated = {0, 0, 1};
  const std::vector<float> logits = {3.0F, 2.0F, 1.0F};
  EXPECT_EQ(sampler.sample(logits, {generated, generated}, 0, workspace).token, 2);
  EXPECT_EQ(sampler.sample(logits, {}, 0, workspace).token, 0);
}

TEST(Sampler, LogitBiasMovesAndForbids) {
  SamplingOptions options;
  options.temperature = 0;
  options.logit_bias = {"2:1.5"};
  EXPECT_EQ(sample(options, {2.0F, 0.0F, 1.0F}).token, 2);
  options.logit_bias = {"0:-inf"};
  EXPECT_EQ(sample(options, {2.0F, 0.0F, 1.0F}).token, 2);
  options = unfiltered();
  options.temperature = 100;
  options.logit_bias = {"0:-inf", "1:100"};
  for (uint64_t index = 0; index < 200; ++index) {
    EXPECT_NE(sample(options, {50.0F, 0.0F, 1.0F}, {}, {}, index).token, 0);
  }
  options.temperature = 1;
  for (uint64_t index = 0; index < 200; ++index) {
    EXPECT_EQ(sample(options, {2.0F, 0.0F, 1.0F}, {}, {}, index).token, 1);
  }
}

TEST(Sampler, ForbiddingEveryTokenIsAnError) {
  SamplingOptions options;
  options.logit_bias = {"0:-inf", "1:-inf"};
  EXPECT_THROW(sample(options, {2.0F, 0.0F}), core::Error);
}

TEST(Sampler, LogprobsAreThoseOfTheModel) {
  const auto logits = random_logits(777, 9, 6);
  SamplingOptions options;
  options.temperature = 0;
  options.logprobs = 5;
  const auto top = std::max_element(logits.begin(), logits.end()) - logits.begin();
  options.logit_bias = {fmt::format("{}:-inf", top)};
  const SampledToken result = sample(options, logits);
  double total = 0;
  for (const float logit : logits) {
    total += std::exp(static_cast<double>(logit));
  }
  ASSERT_TRUE(result.logprob.has_value());
  const auto logprob = [&](int32_t token) {
    return static_cast<double>(logits[static_cast<size_t>(token)]) - std::log(total);
  };
  EXPECT_NEAR(*result.logprob, logprob(result.token), 2e-6);
  ASSERT_EQ(result.top_logprobs.size(), 5U);
  EXPECT_EQ(result.top_logprobs[0].token, top);
  EXPECT_NE(result.token, top);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(result.top_logprobs[i].logprob, logprob(result.top_logprobs[i].token), 2e-6);
    if (i > 0) {
      EXPECT_LE(result.top_logprobs[i].logprob, result.top_logprobs[i - 1].logprob);
    }
  }
  options.logprobs = 0;
  EXPECT_TRUE(sample(options, logits).logprob.has_value());
  EXPECT_TRUE(sample(options, logits).top_logprobs.empty());
  options.logprobs.reset();
  EXPECT_FALSE(sample(options, logits).logprob.has_value());
  options.logprobs = 100;  // more than there are tokens
  options.logit_bias.clear();
  EXPECT_EQ(sample(options, {1.0F, 2.0F}).top_logprobs.size(), 2U);
}

TEST(Sampler, RefusesLogitsThatAreNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity}) {
    for (const size_t place : {size_t{0}, size_t{17}, size_t{99}}) {
      std::vector<float> logits(100, 1.0F);
      logits[place] = bad;
      try {
        sample({}, logits);
        ADD_FAILURE() << "accepted " << bad;
      } catch (const core::Error& failure) {
        EXPECT_NE(std::string(failure.what()).find(fmt::format("token {}", place)),
                  std::string::npos)
            << failure.what();
      }
    }
  }
  EXPECT_NO_THROW(sample({}, {3e38F, -3e38F, 0.0F}));
}

TEST(Sampler, RefusesHistoryOutsideTheVocabulary) {
  SamplingOptions options;
  options.repetition_penalty = 1.1;
  EXPECT_THROW(sample(options, {1.0F, 2.0F}, {2}), core::Error);
  EXPECT_THROW(sample(options, {1.0F, 2.0F}, {}, {-1}), core::Error);
}

TEST(SamplingOptions, RefusesValuesOutsideTheirRange) {
  const auto refused = [](auto&& change, std::string_view field) {
    SamplingOptions options;
    change(options);
    try {
      options.validate();
      ADD_FAILURE() << field << " accepted";
    } catch (const core::InvalidOption& failure) {
      EXPECT_NE(std::string(failure.what()).find(field), std::string::npos) << failure.what();
    }
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  refused([](auto& options) { options.temperature = -0.1; }, "temperature");
  refused([&](auto& options) { options.temperature = nan; }, "temperature");
  refused([](auto& options) { options.top_k = -1; }, "top-k");
  refused([](auto& options) { options.top_p = 0; }, "top-p");
  refused([](auto& options) { options.top_p = 1.1; }, "top-p");
  refused([](auto& options) { options.min_p = 1.5; }, "min-p");
  refused([](auto& options) { options.repetition_penalty = 0; }, "repetition-penalty");
  refused([](auto& options) { options.penalty_window = -1; }, "penalty-window");
  refused([](auto& options) { options.frequency_penalty = 2.1; }, "frequency-penalty");
  refused([](auto& options) { options.presence_penalty = -2.1; }, "presence-penalty");
  refused([](auto& options) { options.logprobs = 101; }, "logprobs");
  for (const char* bad : {"", "5", "5:", ":1", "5:101", "5:nan", "5:inf", "-1:1", "5:1x", "a:1"}) {
    refused([&](auto& options) { options.logit_bias = {bad}; }, "logit-bias");
  }
  EXPECT_NO_THROW(SamplingOptions{}.validate());
  SamplingOptions outside;
  outside.logit_bias = {"2:1"};
  EXPECT_THROW(Sampler(outside, 2), core::InvalidOption);
}

TEST(SamplingOptions, VisitsEveryField) {
  EXPECT_EQ(core::visited_field_count<SamplingOptions>(), core::field_count<SamplingOptions>());
}

}  // namespace
}  // namespace adze::infer
