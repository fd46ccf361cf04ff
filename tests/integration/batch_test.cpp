// Sequences of one step do not touch each other: 100 random prompts give the same tokens alone and
// mixed with others, prefill beside decode, at one and two threads, whole and in chunks.

#include <algorithm>
#include <deque>
#include <vector>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "core/rng.h"
#include "infer/generator.h"
#include "kv/cached_attention.h"
#include "model/forward.h"
#include "model/model.h"
#include "tests/support/default_model.h"

namespace adze::infer {
namespace {

constexpr int64_t kPrompts = 100;
constexpr int64_t kAnswerTokens = 6;

using Tokens = std::vector<int32_t>;

class BatchTest : public DefaultModelTest {
 protected:
  ~BatchTest() override { core::set_num_threads(threads_); }

  // Random tokens: the likeliest answer to such a text hangs on every bit.
  std::vector<Tokens> prompts() const {
    core::Rng rng(11);
    std::vector<Tokens> result;
    const auto vocab_size = static_cast<uint64_t>(loaded_->model->spec.vocab_size);
    for (int64_t i = 0; i < kPrompts; ++i) {
      Tokens& prompt = result.emplace_back();
      for (uint64_t count = 1 + rng.next_uint64() % 50; count > 0; --count) {
        prompt.push_back(static_cast<int32_t>(rng.next_uint64() % vocab_size));
      }
    }
    return result;
  }

  // The likeliest answers, with up to `together` sequences in a step and at most `chunk` rows of
  // each.
  std::vector<Tokens> answers(const std::vector<Tokens>& prompts, size_t together, int64_t chunk) {
    struct Running {
      size_t index;
      kv::Sequence sequence;
      Tokens waiting;  // to be fed
      int64_t rows = 0;
    };
    const model::Model& model = *loaded_->model;
    std::vector<Tokens> result(prompts.size());
    std::deque<Running> running;
    Generator generator(loaded_->model, {.context = 2048});
    size_t next = 0;
    while (next < prompts.size() || !running.empty()) {
      while (running.size() < together && next < prompts.size()) {
        running.push_back({next, generator.new_sequence(), prompts[next]});
        ++next;
      }
      std::vector<kv::StepRows> step;
      model::TokenRows rows{.tokens = {}, .sequence_starts = {0}};
      for (Running& one : running) {
        one.rows = std::min(chunk, static_cast<int64_t>(one.waiting.size()));
        step.push_back({&one.sequence, one.rows});
        rows.tokens.insert(rows.tokens.end(), one.waiting.begin(), one.waiting.begin() + one.rows);
        rows.sequence_starts.push_back(static_cast<int64_t>(rows.tokens.size()));
      }
      kv::CachedAttention context(model.spec, generator.rotation(), step);
      const at::Tensor hidden = model::forward(model, rows, context);
      for (size_t i = 0; i < running.size(); ++i) {
        Running& one = running[i];
        one.sequence.end_step(one.rows);
        one.waiting.erase(one.waiting.begin(), one.waiting.begin() + one.rows);
        if (one.waiting.empty()) {
          const at::Tensor logits =
              model::logits(model, hidden.narrow(0, rows.sequence_starts[i + 1] - 1, 1));
          const float* values = logits.const_data_ptr<float>();
          const auto token =
              static_cast<int32_t>(std::max_element(values, values + logits.size(1)) - values);
          result[one.index].push_back(token);
          one.waiting = {token};
        }
      }
      std::erase_if(running, [&](const Running& one) {
        return static_cast<int64_t>(result[one.index].size()) == kAnswerTokens;
      });
    }
    return result;
  }

 private:
  int threads_ = core::num_threads();
};

TEST_F(BatchTest, SameTokensAloneAndMixed) {
  constexpr int64_t kWhole = 65536;
  const std::vector<Tokens> all = prompts();
  core::set_num_threads(2);
  const auto expected = answers(all, 1, kWhole);
  EXPECT_EQ(answers(all, 16, kWhole), expected);
  EXPECT_EQ(answers(all, 5, 7), expected);
  core::set_num_threads(1);
  EXPECT_EQ(answers(all, 9, 13), expected);
  EXPECT_EQ(answers(all, 1, 32), expected);
}

}  // namespace
}  // namespace adze::infer
