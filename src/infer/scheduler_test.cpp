#include "infer/scheduler.h"

#include <cmath>
#include <map>
#include <thread>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "infer/mock_engine.h"

namespace adze::infer {
namespace {

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
    engine.forget_prefixes();
    EXPECT_EQ(engine.used, 0);
  }
  EXPECT_EQ(texts[0].size(), 200U);
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_EQ(steps[0], 200);
  EXPECT_LT(steps[1], 100);
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
  options.swap = std::make_shared<SwapSpace>(100 * budget, "/tmp");
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
    request.owner = request.cache.tenant;
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
  engine.forget_prefixes();
  EXPECT_EQ(engine.used, 0);
  EXPECT_LE(engine.most_parts, options.max_sequences);
  const SchedulerFigures figures = scheduler.figures();
  EXPECT_EQ(figures.running + figures.waiting, 0);
  asked.clear();
  EXPECT_EQ(options.swap->reserved_bytes(), 0);
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
  Scheduler scheduler(
      engine,
      {.max_sequences = 1, .max_queue = 2, .swap = std::make_shared<SwapSpace>(64, "/tmp")});
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
  engine.forget_prefixes();
  EXPECT_EQ(engine.used, 0);
}

}  // namespace
}  // namespace adze::infer
