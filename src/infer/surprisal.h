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
// logits a token, in pieces of 64, but for the row before where its logits are kept.
std::vector<float> step_surprisals(const model::Model& model,
                                   kv::Sequence& sequence,
                                   std::span<const int32_t> tokens,
                                   const at::Tensor& hidden);

// Logits of the sequence's last row [vocab_size], which were wanted for sampling: the next token
// is judged by them. Kept only where the policy needs surprisals.
void keep_last_logits(kv::Sequence& sequence, const float* logits, int64_t vocab_size);

}  // namespace adze::infer
