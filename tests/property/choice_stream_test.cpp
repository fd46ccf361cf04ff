// Choices over a text that grows, on a tiny random model: what a stream says of its last turn is
// what one pass over the whole text says.

#include "eval/choice_stream.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "infer/append_tokens.h"
#include "methods/register_methods.h"
#include "model/forward.h"
#include "tests/support/random_model.h"

namespace adze {
namespace {

class ChoiceStreamTest : public testing::Test {
 protected:
  void SetUp() override { methods::register_methods(); }

  infer::Generator generator(const std::string& policy, int64_t chunk = 256) const {
    return {model_, {.kv_store = "f32", .kv_policy = policy, .context = 0, .prefill_chunk = chunk}};
  }

  std::vector<int32_t> tokens(int64_t count, uint64_t seed) const {
    return model::random_tokens(count, model_->spec.vocab_size, seed);
  }

  // -log p of the last `count` tokens of a text, by the definition, from one pass over it.
  double whole_text_logprob(const std::vector<int32_t>& text, size_t count) const {
    infer::Generator whole = generator("full", 1024);
    kv::Sequence sequence = whole.new_sequence();
    double sum = 0;
    infer::append_tokens(
        *model_, whole.rotation(), sequence, text, 1024, [&](int64_t, const at::Tensor& hidden) {
          const at::Tensor logits = model::logits(*model_, hidden);
          for (size_t i = text.size() - count; i < text.size(); ++i) {
            const float* row = logits.const_data_ptr<float>() +
                               (i - 1) * static_cast<size_t>(model_->spec.vocab_size);
            double total = 0;
            for (int64_t token = 0; token < model_->spec.vocab_size; ++token) {
              total += std::exp(static_cast<double>(row[token]));
            }
            sum += static_cast<double>(row[text[i]]) - std::log(total);
          }
        });
    return sum;
  }

  model::ModelPtr model_ = model::random_model(model::tiny_spec());
};

TEST_F(ChoiceStreamTest, GivesWhatOnePassOverTheWholeTextGives) {
  infer::Generator shared = generator("full", 16);
  eval::ChoiceStream stream(shared);
  std::vector<int32_t> text;
  for (uint64_t turn = 0; turn < 4; ++turn) {
    const eval::ChoiceTurn asked{
        .tokens = tokens(21, turn),
        .choices = {tokens(1, 10 + turn), tokens(3, 20 + turn), tokens(70, 30 + turn)}};
    const eval::Choice choice = stream.take(asked);
    text.insert(text.end(), asked.tokens.begin(), asked.tokens.end());
    EXPECT_EQ(choice.tokens, static_cast<int64_t>(text.size()));
    EXPECT_EQ(choice.attended, choice.tokens);
    for (size_t i = 0; i < asked.choices.size(); ++i) {
      std::vector<int32_t> with = text;
      with.insert(with.end(), asked.choices[i].begin(), asked.choices[i].end());
      EXPECT_NEAR(choice.logprobs[i], whole_text_logprob(with, asked.choices[i].size()), 1e-4);
    }
    const auto best = std::max_element(choice.logprobs.begin(), choice.logprobs.end());
    ASSERT_EQ(choice.chosen, best - choice.logprobs.begin());
    const auto& chosen = asked.choices[static_cast<size_t>(choice.chosen)];
    text.insert(text.end(), chosen.begin(), chosen.end());
  }
}

// Scoring leaves no trace but the choice itself.
TEST_F(ChoiceStreamTest, OtherChoicesChangeNothing) {
  for (const char* policy : {"window:window=40", "h2o:tokens=30", "sirllm:tokens=40"}) {
    infer::Generator left = generator(policy);
    infer::Generator right = generator(policy);
    eval::ChoiceStream many(left);
    eval::ChoiceStream few(right);
    for (uint64_t turn = 0; turn < 6; ++turn) {
      eval::ChoiceTurn asked{.tokens = tokens(19, turn),
                             .choices = {tokens(4, 10 + turn), tokens(4, 20 + turn)}};
      const eval::Choice choice = many.take(asked);
      asked.choices = {asked.choices[static_cast<size_t>(choice.chosen)]};
      EXPECT_EQ(few.take(asked).logprobs[0], choice.logprobs[static_cast<size_t>(choice.chosen)])
          << policy << ", turn " << turn;
    }
  }
}

TEST_F(ChoiceStreamTest, SaysWhatTheRowSaw) {
  infer::Generator shared = generator("sirllm:tokens=40,decay=1");
  eval::ChoiceStream stream(shared);
  const std::vector<std::vector<int32_t>> letters = {{1}, {2}};
  eval::Choice choice = stream.take({.tokens = tokens(30, 1), .choices = letters});
  EXPECT_EQ(choice.tokens, 30);
  EXPECT_EQ(choice.attended, 30);
  choice = stream.take({.tokens = tokens(20, 2), .choices = letters});
  EXPECT_EQ(choice.tokens, 51);
  EXPECT_EQ(choice.attended, 39);  // 40 less one for the answer
  // What a cut drops at the turn's end, its own choice has seen.
  infer::Generator hitters = generator("h2o:tokens=10");
  eval::ChoiceStream other(hitters);
  EXPECT_EQ(other.take({.tokens = tokens(30, 1), .choices = letters}).attended, 30);
  EXPECT_EQ(other.take({.tokens = tokens(5, 2), .choices = letters}).attended, 10 + 1 + 5);
  other.restart();
  choice = other.take({.tokens = tokens(5, 2), .choices = {}});
  EXPECT_EQ(choice.tokens, 5);
  EXPECT_EQ(choice.chosen, -1);
}

TEST_F(ChoiceStreamTest, RefusesWhatCannotBeScored) {
  infer::Generator shared = generator("full");
  eval::ChoiceStream stream(shared);
  EXPECT_THROW(stream.take({.tokens = {}, .choices = {{1}}}), core::Error);
  EXPECT_THROW(stream.take({.tokens = {1}, .choices = {{}}}), core::Error);
  EXPECT_THROW(stream.take({.tokens = {1}, .choices = {{40}}}), core::Error);
  EXPECT_THROW(stream.take({.tokens = tokens(512, 1), .choices = {{1}}}), infer::ContextFull);
  EXPECT_EQ(stream.take({.tokens = tokens(511, 1), .choices = {{1}}}).tokens, 511);
}

}  // namespace
}  // namespace adze
