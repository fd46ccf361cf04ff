#pragma once
// Choices in a text that grows: turn by turn a model reads what is new, gives each continuation its
// log-probability, and goes on with the likeliest, whether or not it is right. All continuations
// share what earlier turns have left in the cache.

#include <cstdint>
#include <span>
#include <vector>

#include "infer/generator.h"
#include "tensor/aten.h"

namespace adze::eval {

struct ChoiceTurn {
  std::vector<int32_t> tokens;  // what is new, at least one
  std::vector<std::vector<int32_t>>
      choices;  // each at least one token; none: the turn is only read
};

struct Choice {
  int64_t chosen = -1;           // the likeliest, of equal ones the first; -1: none were given
  std::vector<double> logprobs;  // of each, natural: the sum over its tokens
  int64_t tokens = 0;            // of the text so far, this turn's included
  int64_t attended = 0;          // of these in the cache when the turn's last row was computed
};

class ChoiceStream {
 public:
  explicit ChoiceStream(infer::Generator& generator);  // which must outlive the stream

  // Choices of one token cost nothing beyond the turn; each longer one costs a pass over a fork of
  // the cache. Throws core::Error: a token outside the vocabulary; ContextFull before anything is
  // computed. After any other error the stream is good for restart() only.
  Choice take(const ChoiceTurn& turn);

  void restart();  // an empty text

 private:
  double logprob(const at::Tensor& logits, std::span<const int32_t> choice);

  infer::Generator& generator_;
  kv::Sequence sequence_;
};

}  // namespace adze::eval
