#pragma once
// Tokens of one sequence through the model, in chunks that end where the policy cuts.

#include <cstdint>
#include <functional>
#include <span>

#include "kv/rotation.h"
#include "kv/sequence.h"
#include "model/model.h"

namespace adze::infer {

// hidden [rows, hidden_size] of tokens first .. first + rows; of a prompt that a policy narrows,
// the rows that are left, the last token's being the last
using HiddenRows = std::function<void(int64_t first, const at::Tensor& hidden)>;

// Throws core::Error for a token outside the vocabulary; the sequence is then unchanged. After
// kv::CacheFull some slots hold a step that others lack: the sequence is good for clear() only.
void append_tokens(const model::Model& model,
                   kv::Rotation& rotation,
                   kv::Sequence& sequence,
                   std::span<const int32_t> tokens,
                   int64_t chunk,
                   const HiddenRows& on_hidden);

}  // namespace adze::infer
