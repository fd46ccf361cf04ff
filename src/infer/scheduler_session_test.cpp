// Texts that go on from request to request, on disk in between.

#include <gtest/gtest.h>

#include "core/rng.h"
#include "infer/mock_engine.h"

namespace adze::infer {
namespace {

struct Chat : Heard {
  void on_finish(int64_t sample, const FinishReport& report) override {
    Heard::on_finish(sample, report);
    kept = report.text;
  }
  std::shared_ptr<const KeptText> kept;
};

ScheduledRequest turn_of(std::vector<int32_t> prompt,
                         int64_t max_tokens,
                         std::shared_ptr<const KeptText> resumes,
                         const std::string& policy = "odd") {
  ScheduledRequest request = request_of(std::move(prompt), max_tokens);
  request.cache.policy = policy;
  if (resumes) {  // as a session's owner does
    request.prompt.insert(request.prompt.begin(), resumes->pending.begin(), resumes->pending.end());
  }
  request.resumes = std::move(resumes);
  request.keeps = true;
  return request;
}

// What the answer must be where the text before is `all`, the prompt included. The mock's logits
// depend on every token; a turn's prompt is what penalties see, and there are none.
std::vector<int32_t> answer_to(std::vector<int32_t> all, int64_t max_tokens) {
  return expected(request_of(std::move(all), max_tokens), 0);
}

class SchedulerSession : public testing::Test {
 protected:
  std::shared_ptr<Chat> turn(Scheduler& scheduler, ScheduledRequest request) {
    auto heard = std::make_shared<Chat>();
    scheduler.submit(std::move(request), heard);
    run_dry(scheduler);
    return heard;
  }

  std::shared_ptr<SwapSpace> swap_ = std::make_shared<SwapSpace>(2000, "/tmp");
  core::Rng random_{5};
};

TEST_F(SchedulerSession, TurnsGoOnFromEachOther) {
  for (const char* policy : {"full", "odd", "window"}) {
    MockEngine engine(100000);
    Scheduler scheduler(engine, {.swap = swap_});
    std::vector<int32_t> all;
    std::shared_ptr<const KeptText> kept;
    for (int64_t round = 0; round < 6; ++round) {
      const auto prompt = random_tokens(random_, 10 + static_cast<size_t>(round));
      all.insert(all.end(), prompt.begin(), prompt.end());
      const auto heard = turn(scheduler, turn_of(prompt, 12, kept, policy));
      EXPECT_EQ(heard->texts[0], answer_to(all, 12)) << policy << round;
      EXPECT_EQ(heard->prompt.cached_tokens, 0);
      all.insert(all.end(), heard->texts[0].begin(), heard->texts[0].end());
      kept = heard->kept;
      ASSERT_TRUE(kept);
      EXPECT_EQ(kept->tokens + static_cast<int64_t>(kept->pending.size()),
                static_cast<int64_t>(all.size()));
      EXPECT_EQ(kept->pending, std::vector<int32_t>{all.back()});  // the limit came first
      EXPECT_EQ(engine.texts, 0) << "a text between two requests holds pages";
      EXPECT_GT(swap_->reserved_bytes(), 0);
      EXPECT_LE(swap_->reserved_bytes(), kept->data.bytes());  // no more than that
    }
    ASSERT_EQ(engine.turns.size(), 5U);
    EXPECT_EQ(engine.turns.back(), std::pair(int64_t{16}, int64_t{12}));
    kept = nullptr;
    EXPECT_EQ(swap_->reserved_bytes(), 0);
  }
}

// Whoever hears of the end may ask for the next thing at once: the disk that the answer might have
// needed is free again.
TEST_F(SchedulerSession, TheEndIsToldWhenTheDiskIsFree) {
  struct Asks : Chat {
    explicit Asks(const SwapSpace& s) : swap(s) {}
    void on_finish(int64_t sample, const FinishReport& report) override {
      Chat::on_finish(sample, report);
      reserved = swap.reserved_bytes();
    }
    const SwapSpace& swap;
    int64_t reserved = 0;
  };
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.swap = swap_});
  auto heard = std::make_shared<Asks>(*swap_);
  scheduler.submit(turn_of({1, 2, 3}, 200, nullptr), heard);
  EXPECT_GT(swap_->reserved_bytes(), 200);
  heard->enough = 5;
  run_dry(scheduler);
  ASSERT_TRUE(heard->kept);
  EXPECT_EQ(heard->reserved, heard->kept->data.bytes());
}

// The same text may be gone on with twice, and stays what it was.
TEST_F(SchedulerSession, AFailedTurnChangesNothing) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.swap = swap_});
  const auto prompt = random_tokens(random_, 20);
  const auto first = turn(scheduler, turn_of(prompt, 5, nullptr));
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), first->texts[0].begin(), first->texts[0].end());
  all.push_back(9);
  const auto again = [&] {
    const auto heard = turn(scheduler, turn_of({9}, 8, first->kept));
    EXPECT_EQ(heard->texts[0], answer_to(all, 8));
  };
  again();
  engine.poison = 7;
  const auto failed = turn(scheduler, turn_of({7}, 8, first->kept));
  EXPECT_EQ(failed->failure_text(), "[engine] poison");
  EXPECT_FALSE(failed->kept);
  engine.poison = -1;
  again();
  auto left = std::make_shared<Chat>();
  const auto job = scheduler.submit(turn_of({3}, 50, first->kept), left);
  scheduler.step();
  scheduler.step();
  scheduler.cancel(job);
  run_dry(scheduler);
  EXPECT_FALSE(left->kept);
  again();
  ScheduledRequest late = turn_of({3}, 50, first->kept);
  late.deadline = Clock::now();
  EXPECT_NE(turn(scheduler, late)->failure_text().find("[timeout_seconds]"), std::string::npos);
  again();
  EXPECT_EQ(engine.texts, 0);
}

// Texts that go on make room for others like any: saved in mid-turn, never computed anew.
TEST_F(SchedulerSession, MakesRoomInTheMidstOfATurn) {
  MockEngine engine(384);
  Scheduler scheduler(engine, {.max_sequences = 4, .swap = swap_});
  std::vector<std::vector<int32_t>> all(3);
  std::vector<std::shared_ptr<const KeptText>> kept(3);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::shared_ptr<Chat>> heard;
    for (size_t i = 0; i < all.size(); ++i) {
      const auto prompt = random_tokens(random_, 30);
      all[i].insert(all[i].end(), prompt.begin(), prompt.end());
      heard.push_back(std::make_shared<Chat>());
      scheduler.submit(turn_of(prompt, 40, kept[i], i == 1 ? "full" : "odd"), heard.back());
    }
    run_dry(scheduler);
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(heard[i]->texts[0], answer_to(all[i], 40)) << round << " " << i;
      all[i].insert(all[i].end(), heard[i]->texts[0].begin(), heard[i]->texts[0].end());
      kept[i] = heard[i]->kept;
      ASSERT_TRUE(kept[i]);
    }
  }
  EXPECT_GT(scheduler.figures().preemptions, 0);
}

TEST_F(SchedulerSession, GuessesAreTakenBack) {
  MockEngine engine(100000);
  engine.repeats = true;
  Scheduler scheduler(engine, {.swap = swap_});
  std::shared_ptr<const KeptText> kept[2];
  for (int round = 0; round < 3; ++round) {
    std::vector<int32_t> texts[2];
    for (const size_t guesses : {0, 1}) {
      ScheduledRequest request = turn_of({1, 2, 3}, 100, kept[guesses], "full");
      request.sampling.temperature = 0;
      request.guesses = guesses == 0 ? 0 : 8;
      const auto heard = turn(scheduler, request);
      texts[guesses] = heard->texts[0];
      kept[guesses] = heard->kept;
    }
    EXPECT_EQ(texts[0], texts[1]);
    EXPECT_EQ(kept[0]->tokens, kept[1]->tokens);
    EXPECT_EQ(kept[0]->pending, kept[1]->pending);
  }
  EXPECT_GT(engine.truncations, 0);
}

// However an answer ends, what its cache holds is what was said: a guess in the last token's place
// was compared with nothing.
TEST_F(SchedulerSession, NoGuessIsKept) {
  for (int64_t length = 1; length <= 60; ++length) {
    for (const bool stopped : {false, true}) {
      MockEngine engine(100000);
      engine.repeats = true;
      Scheduler scheduler(engine, {.swap = swap_});
      ScheduledRequest request = turn_of({1, 2, 3, 4, 5}, stopped ? 100 : length, nullptr);
      request.sampling.temperature = 0;
      request.guesses = 8;
      auto heard = std::make_shared<Chat>();
      heard->enough = stopped ? length : 100;
      scheduler.submit(request, heard);
      run_dry(scheduler);
      std::vector<int32_t> said = request.prompt;
      said.insert(said.end(), heard->texts[0].begin(), heard->texts[0].end());
      ASSERT_TRUE(heard->kept);
      const std::vector<std::byte> data = heard->kept->data.read();
      core::StateReader reader("swap", data);
      const std::vector<uint8_t> held = reader.list<uint8_t>();
      std::vector<int32_t> kept(held.begin(), held.end());
      EXPECT_EQ(static_cast<int64_t>(kept.size()), heard->kept->tokens);
      kept.insert(kept.end(), heard->kept->pending.begin(), heard->kept->pending.end());
      ASSERT_EQ(kept, said) << length;
    }
  }
}

// A text on disk comes in though samples that wait for their turn hold the pages.
TEST_F(SchedulerSession, SamplesThatWaitMakeRoomForATextOnDisk) {
  MockEngine engine(320);
  Scheduler scheduler(engine, {.max_sequences = 1, .swap = swap_});
  std::vector<int32_t> all = random_tokens(random_, 150);
  const auto first = turn(scheduler, turn_of(all, 5, nullptr));
  all.insert(all.end(), first->texts[0].begin(), first->texts[0].end());
  all.push_back(9);
  ScheduledRequest many = request_of(random_tokens(random_, 200), 10);
  many.samples = 3;
  many.owner = "a";
  auto samples = std::make_shared<Heard>();
  scheduler.submit(many, samples);
  ScheduledRequest next = turn_of({9}, 8, first->kept);
  next.owner = "b";
  auto second = std::make_shared<Chat>();
  scheduler.submit(next, second);
  run_dry(scheduler);
  EXPECT_EQ(second->failure_text(), "");
  EXPECT_EQ(second->texts[0], answer_to(all, 8));
  for (int64_t i = 0; i < many.samples; ++i) {
    EXPECT_EQ(samples->texts[i], expected(many, i));
  }
}

TEST_F(SchedulerSession, LimitsCountTheWholeText) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.swap = swap_});
  const auto first = turn(scheduler, turn_of(random_tokens(random_, 350), 20, nullptr));
  EXPECT_THROW(scheduler.submit(turn_of(random_tokens(random_, 60), 1, first->kept),
                                std::make_shared<Heard>()),
               ContextExceeded);
  // The context ends the answer.
  const auto last = turn(scheduler, turn_of(random_tokens(random_, 20), 100, first->kept));
  EXPECT_EQ(last->finished[0], FinishReason::kContext);
  EXPECT_EQ(last->kept->tokens, 400);
  EXPECT_EQ(last->kept->pending.size(), 1U);
  // Disk: 2,000 bytes, of which the two texts have some.
  EXPECT_THROW(
      {
        for (int i = 0; i < 10; ++i) {
          scheduler.submit(turn_of({1, 2}, 300, nullptr, "full"), std::make_shared<Heard>());
        }
      },
      QueueFull);
  Scheduler without(engine, {});
  EXPECT_THROW(without.submit(turn_of({1}, 1, nullptr, "full"), std::make_shared<Heard>()),
               core::InvalidOption);
}

TEST_F(SchedulerSession, AFullDiskFailsTheTurnAlone) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.swap = std::make_shared<SwapSpace>(10000, "/nonexistent/folder")});
  const auto kept = turn(scheduler, turn_of({1, 2, 3}, 5, nullptr));
  EXPECT_NE(kept->failure_text().find("[swap]"), std::string::npos);
  auto other = std::make_shared<Heard>();
  scheduler.submit(request_of({1, 2, 3}, 5), other);
  run_dry(scheduler);
  EXPECT_EQ(other->texts[0].size(), 5U);
  EXPECT_EQ(engine.texts, 0);
}

TEST_F(SchedulerSession, AllPromptsOfARequestOrNone) {
  MockEngine engine(100000);
  Scheduler scheduler(engine, {.max_queue = 3});
  const auto ask = [&](size_t count) {
    std::vector<Scheduler::Asked> asked;
    for (size_t i = 0; i < count; ++i) {
      asked.emplace_back(request_of({1, 2}, 2), std::make_shared<Heard>());
    }
    return scheduler.submit_all(std::move(asked));
  };
  EXPECT_THROW(ask(4), core::InvalidOption);
  EXPECT_EQ(ask(2).size(), 2U);
  EXPECT_THROW(ask(2), QueueFull);
  EXPECT_EQ(ask(1).size(), 1U);
  run_dry(scheduler);
  EXPECT_EQ(scheduler.figures().generated_tokens, 6);
}

}  // namespace
}  // namespace adze::infer
