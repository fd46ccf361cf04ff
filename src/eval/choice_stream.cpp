#include "eval/choice_stream.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "infer/append_tokens.h"
#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"
#include "model/forward.h"

namespace adze::eval {
namespace {

// Rows of logits held at a time: 64 x 49,152 x 4 bytes = 12.6 MB.
constexpr int64_t kLogitRows = 64;

// Sum of the losses of targets, each by its row of logits.
double loss(const at::Tensor& logits, const int32_t* targets) {
  std::vector<float> losses(static_cast<size_t>(logits.size(0)));
  kernels::softmax_cross_entropy(
      logits.const_data_ptr<float>(), targets, logits.size(0), logits.size(1), losses.data());
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

int64_t longest(const std::vector<std::vector<int32_t>>& choices) {
  size_t most = 0;
  for (const auto& choice : choices) {
    most = std::max(most, choice.size());
  }
  return static_cast<int64_t>(most);
}

void check_turn(const ChoiceTurn& turn, int64_t vocab_size) {
  if (turn.tokens.empty()) {
    throw core::error("turn", "expected at least one token, got none");
  }
  for (const auto& choice : turn.choices) {
    if (choice.empty()) {
      throw core::error("choice", "expected at least one token, got none");
    }
    for (const int32_t token : choice) {
      if (token < 0 || token >= vocab_size) {
        throw core::error("choice", "expected an id from 0 to {}, got {}", vocab_size - 1, token);
      }
    }
  }
}

}  // namespace

ChoiceStream::ChoiceStream(infer::Generator& generator)
    : generator_(generator), sequence_(generator.new_sequence()) {}

void ChoiceStream::restart() {
  sequence_.clear();
}

Choice ChoiceStream::take(const ChoiceTurn& turn) {
  const model::Model& model = generator_.model();
  check_turn(turn, model.spec.vocab_size);
  const auto incoming = static_cast<int64_t>(turn.tokens.size());
  const int64_t reserved = longest(turn.choices);
  const int64_t length = sequence_.num_tokens() + incoming + reserved;
  if (!sequence_.policy().endless() && length > generator_.context()) {
    throw infer::ContextFull(length, generator_.context());
  }
  Choice result;
  sequence_.begin_turn(incoming, reserved);
  at::Tensor last;
  const auto dropped = [&] { return sequence_.num_tokens() - sequence_.most_cached_tokens(); };
  // A step's rows see what was left before it; what its end drops, later rows miss.
  int64_t missed = 0;
  int64_t missing = dropped();
  infer::append_tokens(model,
                       generator_.rotation(),
                       sequence_,
                       turn.tokens,
                       generator_.prefill_chunk(),
                       [&](int64_t /*first*/, const at::Tensor& hidden) {
                         last = hidden.narrow(0, hidden.size(0) - 1, 1);
                         missed = missing;
                         missing = dropped();
                       });
  result.tokens = sequence_.num_tokens();
  result.attended = result.tokens - missed;
  if (turn.choices.empty()) {
    return result;
  }
  const at::Tensor logits = model::logits(model, last);
  for (const auto& choice : turn.choices) {
    result.logprobs.push_back(logprob(logits, choice));
  }
  result.chosen =
      std::max_element(result.logprobs.begin(), result.logprobs.end()) - result.logprobs.begin();
  infer::append_tokens(model,
                       generator_.rotation(),
                       sequence_,
                       turn.choices[static_cast<size_t>(result.chosen)],
                       generator_.prefill_chunk(),
                       [](int64_t, const at::Tensor&) {});
  return result;
}

// logits [1, vocab_size] of the row before the choice.
double ChoiceStream::logprob(const at::Tensor& logits, std::span<const int32_t> choice) {
  double sum = -loss(logits, choice.data());
  if (choice.size() > 1) {
    kv::Sequence fork = sequence_.fork();
    infer::append_tokens(generator_.model(),
                         generator_.rotation(),
                         fork,
                         choice.first(choice.size() - 1),
                         kLogitRows,
                         [&](int64_t first, const at::Tensor& hidden) {
                           sum -= loss(model::logits(generator_.model(), hidden),
                                       choice.data() + first + 1);
                         });
  }
  return sum;
}

}  // namespace adze::eval
