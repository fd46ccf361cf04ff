#pragma once
// One pass for every architecture, for training and inference. Rows of all sequences are
// concatenated and never padded ("ragged").

#include <cstdint>
#include <span>
#include <vector>

#include "model/attention_context.h"
#include "model/model.h"

namespace adze::model {

struct TokenRows {
  std::vector<int64_t> tokens;           // [rows], each in [0, vocab_size)
  std::vector<int64_t> sequence_starts;  // [sequences + 1], rising, from 0 to rows
};

// Which activations the backward pass finds: all, or those between units of layers, where a unit
// ends as soon as no later layer reads its keys and values; the rest is computed again.
enum class Activations { kKept, kRecomputed };

// Hidden rows after the last layer and its norm [surviving rows, hidden_size]. With kRecomputed,
// model and context must outlive the backward pass, and no row may be dropped in mid-pass.
at::Tensor forward(const Model& model,
                   const TokenRows& rows,
                   AttentionContext& context,
                   Activations activations = Activations::kKept);

// [rows, vocab_size] of hidden rows.
at::Tensor logits(const Model& model, const at::Tensor& hidden);

}  // namespace adze::model
