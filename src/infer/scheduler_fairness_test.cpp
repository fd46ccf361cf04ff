// Who is served when, and who is admitted into which room.

#include <gtest/gtest.h>

#include "core/rng.h"
#include "infer/mock_engine.h"

namespace adze::infer {
namespace {

// Neither many requests nor a new tenant (a salt) for each of them wins a second turn.
TEST(SchedulerFairness, OwnersTakeTurns) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.max_sequences = 1});
  core::Rng random(2);
  std::vector<std::shared_ptr<Heard>> flood;
  for (int i = 0; i < 10; ++i) {
    flood.push_back(std::make_shared<Heard>());
    ScheduledRequest request = request_of(random_tokens(random, 5), 5);
    request.cache.tenant = "salt " + std::to_string(i);
    request.owner = "many";
    scheduler.submit(request, flood.back());
  }
  auto other = std::make_shared<Heard>();
  ScheduledRequest request = request_of(random_tokens(random, 5), 5);
  request.owner = "one";
  request.cache.tenant = "salt 99";
  scheduler.submit(request, other);
  while (other->finished.empty()) {
    ASSERT_TRUE(scheduler.step());
  }
  EXPECT_TRUE(flood[2]->finished.empty());
  run_dry(scheduler);
}

// Nor does one owner fill the queue so that nobody else gets into it.
TEST(SchedulerFairness, AFullQueueHasRoomForOthers) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.max_sequences = 1, .max_queue = 4});
  std::vector<std::shared_ptr<Heard>> heard;
  const auto ask = [&](const std::string& owner) {
    ScheduledRequest request = request_of({1, 2, 3}, 2);
    request.owner = owner;
    auto one = std::make_shared<Heard>();
    scheduler.submit(request, one);
    heard.push_back(one);
  };
  for (int i = 0; i < 4; ++i) {
    ask("many");
  }
  EXPECT_THROW(ask("many"), QueueFull);
  ask("one");
  ask("one");
  EXPECT_THROW(ask("one"), QueueFull);  // half of the queue is an owner's share
  ask("two");
  ask("three");
  EXPECT_THROW(ask("four"), QueueFull);  // twice the queue is the end
  scheduler.step();                      // takes one of them
  EXPECT_THROW(ask("many"), QueueFull);
  EXPECT_NO_THROW(ask("four"));
  run_dry(scheduler);
  for (const auto& one : heard) {
    EXPECT_EQ(one->finished.size(), 1U);
  }
}

TEST(SchedulerFairness, ManySamplesKeepNobodyWaiting) {
  for (const char* owner : {"same", "other"}) {
    MockEngine engine(100000);
    Scheduler scheduler(engine, {.max_sequences = 2});
    core::Rng random(3);
    auto many = std::make_shared<Heard>();
    ScheduledRequest request = request_of(random_tokens(random, 5), 20);
    request.samples = 40;
    request.owner = "same";
    scheduler.submit(request, many);
    scheduler.step();
    auto one = std::make_shared<Heard>();
    request = request_of(random_tokens(random, 5), 5);
    request.owner = owner;
    scheduler.submit(request, one);
    while (one->finished.empty()) {
      ASSERT_TRUE(scheduler.step());
    }
    EXPECT_LT(many->finished.size(), 5U) << owner;
    run_dry(scheduler);
    EXPECT_EQ(many->finished.size(), 40U);
  }
}

// Pages that a running text has published are not there for others, though the prefix cache holds
// them: whoever was let in for them would be sent out again at once.
TEST(SchedulerFairness, PagesOfRunningTextsAreNoRoom) {
  MockEngine engine(320);
  Scheduler scheduler(engine, {.max_sequences = 4});
  core::Rng random(4);
  auto first = std::make_shared<Heard>();
  scheduler.submit(request_of(random_tokens(random, 200), 80), first);
  for (int i = 0; i < 4; ++i) {
    scheduler.step();
  }
  ASSERT_EQ(engine.published(), 6);
  EXPECT_EQ(engine.reclaimable_bytes(), 0);
  auto second = std::make_shared<Heard>();
  scheduler.submit(request_of(random_tokens(random, 150), 20), second);
  run_dry(scheduler);
  EXPECT_EQ(scheduler.figures().preemptions, 0);
  EXPECT_EQ(first->texts[0].size(), 80U);
  EXPECT_EQ(second->texts[0].size(), 20U);
}

// What a prompt shares with a running text needs no room of its own.
TEST(SchedulerFairness, SharedPagesNeedNoRoom) {
  MockEngine engine(320);
  Scheduler scheduler(engine, {.max_sequences = 4});
  core::Rng random(5);
  const auto prompt = random_tokens(random, 200);
  std::vector<std::shared_ptr<Heard>> heard;
  for (int i = 0; i < 2; ++i) {
    heard.push_back(std::make_shared<Heard>());
    scheduler.submit(request_of({prompt.begin(), prompt.begin() + 100 + i}, 20), heard.back());
    for (int steps = 0; steps < 4; ++steps) {
      scheduler.step();
    }
  }
  scheduler.step();
  EXPECT_EQ(scheduler.figures().running, 2);
  EXPECT_EQ(heard[1]->prompt.cached_tokens, 96);
  run_dry(scheduler);
  EXPECT_EQ(scheduler.figures().preemptions, 0);
}

TEST(SchedulerFairness, TheLongestTextIsWhatTheCacheHolds) {
  const auto choice = [](const char* policy) {
    CacheChoice chosen;
    chosen.policy = policy;
    return chosen;
  };
  const auto swap = std::make_shared<SwapSpace>(100, "/tmp");
  MockEngine large(100000);
  EXPECT_EQ(Scheduler(large, {}).longest_text({}), 400);
  MockEngine small(330);
  const Scheduler scheduler(small, {.swap = swap});
  EXPECT_EQ(scheduler.longest_text({}), 320);
  EXPECT_EQ(scheduler.longest_text(choice("window")), 320);
  EXPECT_EQ(scheduler.longest_text(choice("odd")), 96);
  EXPECT_EQ(Scheduler(small, {}).longest_text(choice("odd")), 0);
}

// One text that is kept does not take the whole disk, unless it would be too short without.
TEST(SchedulerFairness, AKeptTextLeavesHalfOfTheFreeDisk) {
  const auto swap = std::make_shared<SwapSpace>(256, "/tmp");
  MockEngine engine(100000);
  const Scheduler scheduler(engine, {.swap = swap});
  EXPECT_EQ(scheduler.longest_kept_text({}, 10), 128);
  EXPECT_EQ(scheduler.longest_kept_text({}, 200), 200);
  EXPECT_EQ(scheduler.longest_kept_text({}, 1000), 256);
  const auto taken = swap->reserve(128);
  EXPECT_EQ(scheduler.longest_kept_text({}, 10), 64);
  EXPECT_EQ(scheduler.longest_kept_text({}, 100), 100);
  EXPECT_EQ(Scheduler(engine, {}).longest_kept_text({}, 10), 0);
}

}  // namespace
}  // namespace adze::infer
