// The recall stream (src/methods/sirllm/golden/train_recall_stream.py): a small trained model is
// told an item, reads filler, and is asked for the item. Which cache still knows it?

#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "eval/choice_stream.h"
#include "methods/register_methods.h"
#include "model/checkpoint.h"
#include "model/load_model.h"

namespace adze {
namespace {

// As the script has them.
constexpr int32_t kBeginOfText = 0;
constexpr int32_t kBuy = 1;
constexpr int32_t kSeparator = 2;
constexpr int32_t kAsk = 3;
constexpr int32_t kFirstItem = 4;
constexpr int32_t kItems = 20;
constexpr int32_t kFirstPhrase = 24;
constexpr int32_t kPhrases = 8;
constexpr int32_t kPhraseTokens = 8;
constexpr int kStreams = 200;

class RecallStream : public testing::Test {
 protected:
  // Share of streams whose item is answered, with `phrases` between it and the question.
  double recall(const std::string& policy, int phrases) {
    infer::Generator generator(model_, {.kv_store = "f32", .kv_policy = policy});
    eval::ChoiceStream stream(generator);
    core::Rng rng(7);
    int right = 0;
    for (int i = 0; i < kStreams; ++i) {
      right += answers(stream, rng, phrases) ? 1 : 0;
    }
    return static_cast<double>(right) / kStreams;
  }

 private:
  static std::vector<int32_t> phrase(core::Rng& rng) {
    std::vector<int32_t> tokens(kPhraseTokens);
    std::iota(tokens.begin(),
              tokens.end(),
              kFirstPhrase + kPhraseTokens * static_cast<int32_t>(rng.next_uint64() % kPhrases));
    return tokens;
  }

  // One stream, a phrase a turn.
  static bool answers(eval::ChoiceStream& stream, core::Rng& rng, int phrases) {
    stream.restart();
    std::vector<int32_t> first = phrase(rng);
    first.insert(first.begin(), kBeginOfText);
    stream.take({.tokens = first, .choices = {}});
    stream.take({.tokens = phrase(rng), .choices = {}});
    const auto item = static_cast<int32_t>(rng.next_uint64() % kItems);
    stream.take({.tokens = {kBuy, kFirstItem + item, kSeparator}, .choices = {}});
    for (int i = 0; i < phrases; ++i) {
      stream.take({.tokens = phrase(rng), .choices = {}});
    }
    eval::ChoiceTurn question{.tokens = {kAsk}, .choices = {}};
    for (int32_t i = 0; i < kItems; ++i) {
      question.choices.push_back({kFirstItem + i});
    }
    return stream.take(question).chosen == item;
  }

  void SetUp() override { methods::register_methods(); }

  model::ModelPtr model_ = model::load_model(
      model::open_checkpoint("src/methods/sirllm/golden/recall_stream"), kernels::Arithmetic::kF32);
};

TEST_F(RecallStream, TheFullCacheKnowsTheItem) {
  EXPECT_GE(recall("full", 8), 0.99);
}

TEST_F(RecallStream, SurprisingTokensStayAndRecentOnesDoNotHelp) {
  EXPECT_GE(recall("sirllm:tokens=24,sinks=4,recent=0,decay=1", 8), 0.95);
  EXPECT_GE(recall("sirllm:tokens=48,sinks=4,recent=0,decay=1", 8), 0.95);
  // StreamingLLM, with its own rule of when to cut and with that of turns.
  EXPECT_LE(recall("window:sinks=4,window=20", 8), 0.10);
  EXPECT_LE(recall("sirllm:tokens=24,sinks=4,recent=20,decay=1", 8), 0.10);
}

// [12 §6.5]: what fades is forgotten.
TEST_F(RecallStream, DecayForgets) {
  EXPECT_GE(recall("sirllm:tokens=32,sinks=4,recent=0,decay=1", 20), 0.95);
  EXPECT_LE(recall("sirllm:tokens=32,sinks=4,recent=0,decay=0.7", 20), 0.10);
}

}  // namespace
}  // namespace adze
