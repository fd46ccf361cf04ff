// Texts that cannot be recomputed, disks and systems that are full.

#include <new>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "infer/mock_engine.h"

namespace adze::infer {
namespace {

ScheduledRequest odd_request(std::vector<int32_t> prompt, int64_t max_tokens) {
  ScheduledRequest request = request_of(std::move(prompt), max_tokens);
  request.cache.policy = "odd";
  return request;
}

TEST(SchedulerSwap, RefusesWhatCouldNotBeSaved) {
  const auto swap = std::make_shared<SwapSpace>(200, "/tmp");
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.swap = swap});
  auto heard = std::make_shared<Heard>();
  {
    auto job = scheduler.submit(odd_request({1, 2, 3}, 97), heard);  // 100 tokens, 128 bytes
    EXPECT_EQ(swap->reserved_bytes(), 128);
    EXPECT_THROW(scheduler.submit(odd_request({1, 2, 3}, 97), heard), QueueFull);
    EXPECT_NO_THROW(scheduler.submit(odd_request({1, 2}, 30), std::make_shared<Heard>()));
    EXPECT_NO_THROW(scheduler.submit(request_of({1, 2, 3}, 97), std::make_shared<Heard>()));
  }
  run_dry(scheduler);
  EXPECT_EQ(swap->reserved_bytes(), 0);
  EXPECT_EQ(heard->texts[0], expected(odd_request({1, 2, 3}, 97), 0));
  // Each sample needs room; for three of them it will never be there.
  ScheduledRequest three = odd_request({1, 2, 3}, 97);
  three.samples = 3;
  EXPECT_THROW(scheduler.submit(three, heard), core::InvalidOption);
  three.max_tokens = 29;
  three.samples = 6;
  auto many = std::make_shared<Heard>();
  scheduler.submit(three, many);
  EXPECT_EQ(swap->reserved_bytes(), 192);
  run_dry(scheduler);
  EXPECT_EQ(many->finished.size(), 6U);
  EXPECT_EQ(swap->reserved_bytes(), 0);
}

TEST(SchedulerSwap, RoomComesBackHoweverARequestEnds) {
  const auto swap = std::make_shared<SwapSpace>(1000, "/tmp");
  MockEngine engine(100000);
  engine.poison = 7;
  Scheduler scheduler(engine, {.max_sequences = 2, .swap = swap});
  {
    const auto cancelled = scheduler.submit(odd_request({1, 2, 3}, 97), std::make_shared<Heard>());
    scheduler.submit(odd_request({1, 7}, 97), std::make_shared<Heard>());
    ScheduledRequest late = odd_request({1, 2}, 97);
    late.deadline = Clock::now();
    late.samples = 3;
    scheduler.submit(late, std::make_shared<Heard>());
    scheduler.step();
    scheduler.cancel(cancelled);
  }
  run_dry(scheduler);
  EXPECT_EQ(swap->reserved_bytes(), 0);
}

// Forks wait with their text in the cache and may have to be saved before they ever ran.
TEST(SchedulerSwap, ForksAreSavedBeforeTheyRun) {
  const auto swap = std::make_shared<SwapSpace>(10000, "/tmp");
  MockEngine engine(320);
  Scheduler scheduler(engine, {.max_sequences = 2, .swap = swap});
  ScheduledRequest request = odd_request({1, 2, 3, 4, 5}, 120);
  request.samples = 8;
  auto forked = std::make_shared<Heard>();
  scheduler.submit(request, forked);
  auto large = std::make_shared<Heard>();
  core::Rng random(1);
  scheduler.submit(request_of(random_tokens(random, 180), 60), large);
  run_dry(scheduler);
  EXPECT_GT(engine.saves, 0);
  for (int64_t i = 0; i < request.samples; ++i) {
    EXPECT_EQ(forked->texts[i], expected(request, i));
  }
  EXPECT_EQ(large->texts[0].size(), 60U);
  EXPECT_EQ(swap->reserved_bytes(), 0);
}

TEST(SchedulerSwap, AFullDiskEndsOneRequest) {
  MockEngine engine(320);
  Scheduler scheduler(
      engine,
      {.max_sequences = 4, .swap = std::make_shared<SwapSpace>(10000, "/nonexistent/folder")});
  core::Rng random(1);
  std::vector<std::shared_ptr<Heard>> heard;
  for (int i = 0; i < 3; ++i) {
    heard.push_back(std::make_shared<Heard>());
    scheduler.submit(odd_request(random_tokens(random, 60), 200), heard.back());
  }
  run_dry(scheduler);
  EXPECT_EQ(heard[0]->texts[0].size(), 200U);
  EXPECT_NE(heard[2]->failure_text().find("[swap]"), std::string::npos);
  EXPECT_EQ(engine.texts, 0);
}

TEST(SchedulerSwap, FailsAllAndGoesOn) {
  const auto swap = std::make_shared<SwapSpace>(10000, "/tmp");
  MockEngine engine(320);
  Scheduler scheduler(engine, {.max_sequences = 2, .swap = swap});
  core::Rng random(1);
  std::vector<std::shared_ptr<Heard>> heard;
  for (int i = 0; i < 5; ++i) {
    heard.push_back(std::make_shared<Heard>());
    ScheduledRequest request = odd_request(random_tokens(random, 100), 50);
    request.samples = 2;
    scheduler.submit(request, heard.back());
  }
  engine.fail_when_asked = true;
  EXPECT_THROW(run_dry(scheduler), std::bad_alloc);
  engine.fail_when_asked = false;
  auto last = std::make_shared<Heard>();
  scheduler.submit(request_of({1}, 5), last);
  scheduler.fail_all(std::make_exception_ptr(core::error("memory", "none")));
  for (const auto& one : heard) {
    EXPECT_EQ(one->failure_text(), one->finished.size() == 2 ? "" : "[memory] none");
  }
  EXPECT_EQ(heard[4]->failure_text(), "[memory] none");
  EXPECT_EQ(last->failure_text(), "[memory] none");
  EXPECT_EQ(scheduler.figures().running + scheduler.figures().waiting, 0);
  EXPECT_EQ(engine.texts, 0);
  EXPECT_EQ(swap->reserved_bytes(), 0);
  auto next = std::make_shared<Heard>();
  scheduler.submit(request_of({1}, 5), next);
  run_dry(scheduler);
  EXPECT_EQ(next->texts[0].size(), 5U);
}

}  // namespace
}  // namespace adze::infer
