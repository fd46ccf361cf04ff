#pragma once
// How much each token of a step surprises the model that reads it, in nats: -log of the probability
// that the row before gave it.

#include <cstdint>
#include <span>
#include <vector>

#include "kv/sequence.h"
#include "model/model.h"
#include "tensor/aten.h"

namespace adze::infer {

// hidden [rows, hidden_size] of `tokens`, which the step appends to the sequence. The row before
// the first is the one that the sequence holds (Sequence::last_hidden, brought up to date here);
// the very first token of a text, of which nothing is known, counts log(vocab_size). Costs a row of
// logits a token, in pieces of 64.
std::vector<float> step_surprisals(const model::Model& model,
                                   kv::Sequence& sequence,
                                   std::span<const int32_t> tokens,
                                   const at::Tensor& hidden);

}  // namespace adze::infer
