#include "infer/scheduler.h"

#include <cmath>
#include <map>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "core/rng.h"

namespace adze::infer {
namespace {

constexpr int64_t kVocab = 50;
constexpr int64_t kPage = 32;

uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  return x * 0xc4ceb9fe1a85ec53ULL;
}

// Logits that depend on every token so far: a text that lost, swapped or repeated one goes wrong.
std::vector<float> logits_after(std::span<const int32_t> tokens) {
  uint64_t hash = 1;
  for (const int32_t token : tokens) {
    hash = mix(hash + static_cast<uint64_t>(token));
  }
  std::vector<float> logits;
  for (int64_t i = 0; i < kVocab; ++i) {
    logits.push_back(static_cast<float>(mix(hash + static_cast<uint64_t>(i)) % 1000) / 200.0F);
  }
  return logits;
}

// A cache of whole pages, a byte a token, which remembers the tokens themselves.
class MockEngine : public StepEngine {
 public:
  class Text : public CachedText {
   public:
    Text(MockEngine& engine, CacheChoice choice) : engine_(engine), choice_(std::move(choice)) {
      ++engine_.texts;
    }
    Text(const Text& other)
        : engine_(other.engine_), choice_(other.choice_), tokens_(other.tokens_) {
      ++engine_.texts;
      engine_.used += pages() * kPage;  // shares nothing
    }
    ~Text() override {
      --engine_.texts;
      engine_.used -= pages() * kPage;
    }
    int64_t length() const override { return static_cast<int64_t>(tokens_.size()); }
    int64_t rows_before_cut() const override { return 100 - length() % 100; }
    int64_t bytes_to_append(int64_t rows) const override {
      rows = std::min(rows, rows_before_cut());
      return ((length() + rows + kPage - 1) / kPage - pages()) * kPage;
    }
    std::unique_ptr<CachedText> fork() const override { return std::make_unique<Text>(*this); }
    int64_t rows_to_guess() const override { return choice_.policy == "window" ? 0 : 15; }
    void truncate(int64_t length) override {
      engine_.used -= pages() * kPage;
      tokens_.resize(static_cast<size_t>(length));
      engine_.used += pages() * kPage;
      ++engine_.truncations;
    }
    bool recomputable() const override { return engine_.recomputable(choice_); }
    void save(core::StateWriter& writer) const override {
      ++engine_.saves;
      writer.list(std::span<const int32_t>(tokens_));
    }
    CacheFigures figures() const override { return {}; }
    std::vector<std::vector<PositionRange>> kept() const override { return {}; }

    void append(std::span<const int32_t> added) {
      engine_.used += bytes_to_append(static_cast<int64_t>(added.size()));
      tokens_.insert(tokens_.end(), added.begin(), added.end());
    }
    const std::vector<int32_t>& tokens() const { return tokens_; }
    const CacheChoice& choice() const { return choice_; }

   private:
    int64_t pages() const { return (length() + kPage - 1) / kPage; }

    MockEngine& engine_;
    CacheChoice choice_;
    std::vector<int32_t> tokens_;
  };

  explicit MockEngine(int64_t budget) : budget_(budget) {}

  int64_t vocab_size() const override { return kVocab; }
  int64_t context() const override { return 400; }
  int64_t cache_bytes() const override { return budget_; }
  int64_t most_bytes(const CacheChoice&, int64_t tokens) const override {
    return (tokens + kPage - 1) / kPage * kPage;
  }
  bool evicts(const CacheChoice& choice) const override { return choice.policy == "window"; }
  bool recomputable(const CacheChoice& choice) const override { return choice.policy != "odd"; }

  std::unique_ptr<CachedText> open(const CacheChoice& choice,
                                   std::span<const int32_t> tokens) override {
    auto text = std::make_unique<Text>(*this, choice);
    // What the same tenant has published, in whole pages, if there is room for a copy.
    const auto limit = static_cast<int64_t>(tokens.size()) - 1;
    for (int64_t pages = limit / kPage; pages > 0; --pages) {
      const auto prefix = tokens.first(static_cast<size_t>(pages * kPage));
      if (published_.contains({choice.tenant, {prefix.begin(), prefix.end()}}) &&
          free_bytes() >= pages * kPage && pages * kPage < 100) {
        text->append(prefix);
        break;
      }
    }
    return text;
  }
  std::unique_ptr<CachedText> load(const CacheChoice& choice, core::StateReader& reader) override {
    auto text = std::make_unique<Text>(*this, choice);
    const auto tokens = reader.list<int32_t>();
    for (const int32_t token : tokens) {
      text->append({&token, 1});
    }
    return text;
  }
  void publish(const CachedText& text, std::span<const int32_t> tokens) override {
    const auto& own = static_cast<const Text&>(text);
    EXPECT_EQ(own.tokens(), std::vector<int32_t>(tokens.begin(), tokens.end()));
    for (size_t end = kPage; end <= tokens.size(); end += kPage) {
      published_.insert(
          {own.choice().tenant, {tokens.begin(), tokens.begin() + static_cast<int64_t>(end)}});
    }
  }
  std::vector<const float*> step(std::span<const StepPart> parts) override {
    ++steps;
    most_parts = std::max(most_parts, static_cast<int64_t>(parts.size()));
    logits_.clear();
    std::vector<const float*> result;
    for (const StepPart& part : parts) {
      auto& text = static_cast<Text&>(*part.text);
      EXPECT_FALSE(part.tokens.empty());
      EXPECT_LE(static_cast<int64_t>(part.tokens.size()), text.rows_before_cut());
      std::vector<float>& logits = logits_.emplace_back();
      for (size_t i = 0; i < part.tokens.size(); ++i) {
        text.append(part.tokens.subspan(i, 1));
        if (static_cast<int64_t>(part.tokens.size() - i) <= part.wanted) {
          const auto& all = text.tokens();
          // Repeating: a cycle of 11 tokens that slips every 50.
          const auto row =
              repeats ? logits_after({{static_cast<int32_t>((all.size() + all.size() / 50) % 11)}})
                      : logits_after(all);
          logits.insert(logits.end(), row.begin(), row.end());
        }
      }
      if (text.tokens().back() == poison) {
        throw core::error("engine", "poison");
      }
    }
    for (const std::vector<float>& logits : logits_) {
      result.push_back(logits.empty() ? nullptr : logits.data());
    }
    EXPECT_LE(used, budget_);
    return result;
  }
  int64_t free_bytes() const override { return budget_ - used; }
  void reclaim(int64_t) override {}
  int64_t reclaimable_bytes() const override { return 0; }

  int64_t used = 0;
  int64_t texts = 0;
  int64_t steps = 0;
  int64_t saves = 0;
  int64_t truncations = 0;
  int64_t most_parts = 0;
  int32_t poison = -1;
  bool repeats = false;

 private:
  int64_t budget_;
  std::set<std::pair<std::string, std::vector<int32_t>>> published_;
  std::vector<std::vector<float>> logits_;
};

struct Heard : RequestObserver {
  void on_prompt(const PromptReport& report) override {
    prompt = report;
    ++prompts;
  }
  bool on_token(int64_t sample, const SampledToken& token, const CachedText&) override {
    texts[sample].push_back(token.token);
    return static_cast<int64_t>(texts[sample].size()) < enough;
  }
  void on_finish(int64_t sample, const FinishReport& report) override {
    EXPECT_TRUE(finished.emplace(sample, report.reason).second);
  }
  void on_failure(std::exception_ptr given) override {
    EXPECT_FALSE(failure);
    failure = std::move(given);
  }
  std::string failure_text() const {
    try {
      if (failure) {
        std::rethrow_exception(failure);
      }
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }

  PromptReport prompt;
  int64_t prompts = 0;
  int64_t enough = 1 << 30;
  std::map<int64_t, std::vector<int32_t>> texts;
  std::map<int64_t, FinishReason> finished;
  std::exception_ptr failure;
};

std::vector<int32_t> random_tokens(core::Rng& random, size_t count) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(random.next_uniform() * (kVocab - 1)) + 1);
  }
  return tokens;
}

// What a request must say: one token after the other, from the whole text each time.
std::vector<int32_t> expected(const ScheduledRequest& request, int64_t index) {
  SamplingOptions options = request.sampling;
  options.seed += static_cast<uint64_t>(index);
  const Sampler sampler(options, kVocab);
  SamplerWorkspace workspace;
  std::vector<int32_t> tokens = request.prompt;
  const size_t prompt = tokens.size();
  while (static_cast<int64_t>(tokens.size() - prompt) < request.max_tokens) {
    const auto all = std::span<const int32_t>(tokens);
    const int32_t token = sampler
                              .sample(logits_after(tokens),
                                      {all.first(prompt), all.subspan(prompt)},
                                      tokens.size() - prompt,
                                      workspace)
                              .token;
    if (std::find(request.end_tokens.begin(), request.end_tokens.end(), token) !=
        request.end_tokens.end()) {
      break;
    }
    tokens.push_back(token);
    if (request.cache.policy != "window" && tokens.size() > 400) {
      break;
    }
  }
  return {tokens.begin() + static_cast<int64_t>(prompt), tokens.end()};
}

ScheduledRequest request_of(std::vector<int32_t> prompt, int64_t max_tokens) {
  ScheduledRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

// Where texts repeat themselves, guesses are right and wrong by turns.
TEST(Scheduler, GuessesChangeNothingButTheSteps) {
  int64_t steps[2] = {0, 0};
  std::vector<int32_t> texts[2];
  for (const int64_t guesses : {0, 8}) {
    MockEngine engine(100000);
    engine.repeats = true;
    Scheduler scheduler(engine, {});
    auto heard = std::make_shared<Heard>();
    ScheduledRequest request = request_of({1, 2, 3, 4, 5}, 200);
    request.sampling.temperature = 0;
    request.guesses = guesses;
    scheduler.submit(request, heard);
    while (scheduler.step()) {
    }
    const size_t index = guesses == 0 ? 0 : 1;
    steps[index] = engine.steps;
    texts[index] = heard->texts[0];
    EXPECT_EQ(engine.used, 0);
  }
  EXPECT_EQ(texts[0].size(), 200U);
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_EQ(steps[0], 200);
  EXPECT_LT(steps[1], 100);
}

void run_dry(Scheduler& scheduler) {
  for (int64_t steps = 0; scheduler.step(); ++steps) {
    ASSERT_LT(steps, 100000);
  }
}

// Random requests, random arrival, a cache that is too small for all of them at once.
void simulate(uint64_t seed, int64_t budget, bool odd) {
  core::Rng random(seed);
  const auto below = [&random](int64_t count) {
    return static_cast<int64_t>(random.next_uniform() * static_cast<double>(count));
  };
  MockEngine engine(budget);
  SchedulerOptions options;
  options.max_sequences = 1 + below(6);
  options.step_rows = 1 + below(100);
  options.swap_bytes = 2 * budget;
  Scheduler scheduler(engine, options);
  struct Asked {
    ScheduledRequest request;
    std::shared_ptr<Heard> heard;
    Scheduler::JobPtr job;
    bool cancelled = false;
  };
  std::vector<Asked> asked;
  const std::vector<int32_t> shared = random_tokens(random, 90);
  for (int64_t i = 0; i < 25; ++i) {
    std::vector<int32_t> prompt = random_tokens(random, static_cast<size_t>(1 + below(120)));
    if (below(2) == 0) {
      prompt.insert(prompt.begin(), shared.begin(), shared.begin() + below(90));
    }
    ScheduledRequest request = request_of(prompt, below(60));
    request.sampling.seed = static_cast<uint64_t>(i);
    request.sampling.frequency_penalty = below(2) == 0 ? 0 : 0.5;
    request.samples = below(4) == 0 ? 1 + below(5) : 1;
    request.end_tokens = {static_cast<int32_t>(below(kVocab))};
    request.cache.tenant = below(2) == 0 ? "a" : "b";
    request.cache.policy = odd && below(2) == 0 ? "odd" : below(3) == 0 ? "window" : "full";
    if (below(5) == 0) {
      request.prompt_logprobs = 2;
    }
    request.guesses = below(3) == 0 ? below(16) : 0;
    auto heard = std::make_shared<Heard>();
    asked.push_back({request, heard, scheduler.submit(request, heard)});
    for (int64_t steps = below(30); steps > 0; --steps) {
      scheduler.step();
    }
    if (below(8) == 0) {
      Asked& one = asked[static_cast<size_t>(below(i + 1))];
      one.cancelled = true;
      scheduler.cancel(one.job);
    }
  }
  run_dry(scheduler);
  for (Asked& one : asked) {
    if (one.cancelled) {
      continue;
    }
    EXPECT_EQ(one.heard->failure_text(), "");
    EXPECT_EQ(one.heard->prompts, 1);
    for (int64_t index = 0; index < one.request.samples; ++index) {
      ASSERT_TRUE(one.heard->finished.contains(index)) << "seed " << seed;
      ASSERT_EQ(one.heard->texts[index], expected(one.request, index)) << "seed " << seed;
    }
    if (one.request.prompt_logprobs) {
      const auto& prompt = one.request.prompt;
      ASSERT_EQ(one.heard->prompt.logprobs.size(), prompt.size() - 1);
      for (size_t i = 1; i < prompt.size(); ++i) {
        const auto logits = logits_after(std::span(prompt).first(i));
        double total = 0;
        for (const float logit : logits) {
          total += std::exp(static_cast<double>(logit));
        }
        const double logprob = logits[static_cast<size_t>(prompt[i])] - std::log(total);
        ASSERT_NEAR(*one.heard->prompt.logprobs[i - 1].logprob, logprob, 1e-5);
      }
    }
  }
  EXPECT_EQ(engine.texts, 0);
  EXPECT_EQ(engine.used, 0);
  EXPECT_LE(engine.most_parts, options.max_sequences);
  const SchedulerFigures figures = scheduler.figures();
  EXPECT_EQ(figures.running + figures.waiting, 0);
}

TEST(Scheduler, SaysTheSameAloneInABatchAndAfterMakingRoom) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    simulate(seed, seed % 3 == 0 ? 100000 : 400, false);
  }
}

TEST(Scheduler, SavesWhatCannotBeRecomputed) {
  for (uint64_t seed = 100; seed < 140; ++seed) {
    simulate(seed, 450, true);
  }
}

TEST(Scheduler, MakesRoomForTheOldest) {
  MockEngine engine(320);
  Scheduler scheduler(engine, {.max_sequences = 4});
  core::Rng random(1);
  std::vector<std::shared_ptr<Heard>> heard;
  for (int i = 0; i < 4; ++i) {
    heard.push_back(std::make_shared<Heard>());
    scheduler.submit(request_of(random_tokens(random, 60), 200), heard.back());
  }
  while (heard[0]->finished.empty()) {
    ASSERT_TRUE(scheduler.step());
  }
  EXPECT_TRUE(heard[2]->finished.empty());
  EXPECT_GT(scheduler.figures().preemptions, 0);
  run_dry(scheduler);
  EXPECT_EQ(heard[3]->finished.size(), 1U);
}

TEST(Scheduler, TenantsTakeTurns) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.max_sequences = 1});
  core::Rng random(2);
  std::vector<std::shared_ptr<Heard>> flood;
  for (int i = 0; i < 10; ++i) {
    flood.push_back(std::make_shared<Heard>());
    ScheduledRequest request = request_of(random_tokens(random, 5), 5);
    request.cache.tenant = "many";
    scheduler.submit(request, flood.back());
  }
  auto other = std::make_shared<Heard>();
  ScheduledRequest request = request_of(random_tokens(random, 5), 5);
  request.cache.tenant = "one";
  scheduler.submit(request, other);
  while (other->finished.empty()) {
    ASSERT_TRUE(scheduler.step());
  }
  EXPECT_TRUE(flood[2]->finished.empty());
  run_dry(scheduler);
}

TEST(Scheduler, AShortPromptDoesNotWaitForALongOne) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.max_sequences = 4, .step_rows = 64});
  core::Rng random(3);
  auto long_one = std::make_shared<Heard>();
  scheduler.submit(request_of(random_tokens(random, 390), 5), long_one);
  auto short_one = std::make_shared<Heard>();
  scheduler.submit(request_of(random_tokens(random, 20), 5), short_one);
  scheduler.step();
  EXPECT_EQ(short_one->texts[0].size(), 1U);
  EXPECT_TRUE(long_one->texts.empty());
  run_dry(scheduler);
  EXPECT_EQ(long_one->texts[0].size(), 5U);
}

TEST(Scheduler, RefusesWhatItCannotServe) {
  MockEngine engine(320);
  Scheduler scheduler(engine, {.max_sequences = 1, .max_queue = 2, .swap_bytes = 64});
  auto heard = std::make_shared<Heard>();
  const auto refuses = [&](ScheduledRequest request) {
    EXPECT_THROW(scheduler.submit(std::move(request), heard), core::Error);
  };
  refuses(request_of({}, 1));
  refuses(request_of({1, -1}, 1));
  refuses(request_of({1, static_cast<int32_t>(kVocab)}, 1));
  refuses(request_of(std::vector<int32_t>(300, 1), 50));  // 350 bytes
  EXPECT_THROW(scheduler.submit(request_of(std::vector<int32_t>(401, 1), 1), heard),
               ContextExceeded);
  ScheduledRequest odd = request_of(std::vector<int32_t>(60, 1), 50);
  odd.cache.policy = "odd";
  refuses(odd);
  scheduler.submit(request_of({1}, 5), heard);
  scheduler.submit(request_of({1}, 5), std::make_shared<Heard>());
  EXPECT_THROW(scheduler.submit(request_of({1}, 5), heard), QueueFull);
  scheduler.step();
  EXPECT_NO_THROW(scheduler.submit(request_of({1}, 5), std::make_shared<Heard>()));
  run_dry(scheduler);
  EXPECT_EQ(engine.texts, 0);
}

TEST(Scheduler, CancelsWithinAStepAndKeepsDeadlines) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.max_sequences = 2});
  auto cancelled = std::make_shared<Heard>();
  auto late = std::make_shared<Heard>();
  const auto job = scheduler.submit(request_of({1, 2, 3}, 300), cancelled);
  ScheduledRequest request = request_of({1, 2, 3}, 300);
  request.deadline = Clock::now() + std::chrono::milliseconds(20);
  scheduler.submit(request, late);
  scheduler.step();
  EXPECT_EQ(engine.texts, 2);
  scheduler.cancel(job);
  scheduler.step();
  EXPECT_EQ(engine.texts, 1);
  EXPECT_EQ(cancelled->texts[0].size(), 1U);
  std::this_thread::sleep_for(std::chrono::milliseconds(25));
  scheduler.step();
  EXPECT_EQ(engine.texts, 0);
  EXPECT_NE(late->failure_text().find("timeout_seconds"), std::string::npos);
}

TEST(Scheduler, AFailingStepEndsItsRequestsOnly) {
  MockEngine engine(100000);
  engine.poison = 7;
  Scheduler scheduler(engine, {.max_sequences = 1});
  auto bad = std::make_shared<Heard>();
  auto good = std::make_shared<Heard>();
  scheduler.submit(request_of({1, 7}, 5), bad);
  ScheduledRequest request = request_of({1, 2}, 5);
  request.sampling.logit_bias = {"7:-inf"};
  scheduler.submit(request, good);
  run_dry(scheduler);
  EXPECT_EQ(bad->failure_text(), "[engine] poison");
  EXPECT_EQ(good->texts[0].size(), 5U);
  EXPECT_EQ(engine.texts, 0);
}

TEST(Scheduler, ObserverEndsAnAnswer) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {});
  auto heard = std::make_shared<Heard>();
  heard->enough = 3;
  scheduler.submit(request_of({1}, 50), heard);
  run_dry(scheduler);
  EXPECT_EQ(heard->texts[0].size(), 3U);
  EXPECT_EQ(heard->finished.at(0), FinishReason::kStop);
}

TEST(Scheduler, ThreadsSubmitAndCancelWhileItSteps) {
  MockEngine engine(600);
  Scheduler scheduler(engine, {.max_sequences = 4, .max_queue = 10});
  std::atomic<bool> over = false;
  std::thread stepping([&] {
    while (!over) {
      if (!scheduler.step()) {
        scheduler.wait(std::chrono::milliseconds(5));
      }
    }
    while (scheduler.step()) {
    }
  });
  std::atomic<int64_t> refused = 0;
  std::vector<std::thread> clients;
  for (uint64_t client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      core::Rng random(client);
      for (int i = 0; i < 200; ++i) {
        try {
          const auto job = scheduler.submit(
              request_of(random_tokens(random, 1 + static_cast<size_t>(i) % 50), 20),
              std::make_shared<Heard>());
          if (i % 3 == 0) {
            scheduler.cancel(job);
          }
        } catch (const QueueFull&) {
          ++refused;
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        scheduler.figures();
      }
    });
  }
  for (std::thread& client : clients) {
    client.join();
  }
  over = true;
  scheduler.wake();
  stepping.join();
  EXPECT_EQ(engine.texts, 0);
  EXPECT_EQ(engine.used, 0);
}

}  // namespace
}  // namespace adze::infer
