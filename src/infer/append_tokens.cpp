#include "infer/append_tokens.h"

#include <algorithm>

#include "core/check.h"
#include "core/error.h"
#include "infer/surprisal.h"
#include "kv/cached_attention.h"
#include "model/forward.h"

namespace adze::infer {

void append_tokens(const model::Model& model,
                   kv::Rotation& rotation,
                   kv::Sequence& sequence,
                   std::span<const int32_t> tokens,
                   int64_t chunk,
                   const HiddenRows& on_hidden) {
  for (const int32_t token : tokens) {
    if (token < 0 || token >= model.spec.vocab_size) {
      throw core::error(
          "token", "expected an id from 0 to {}, got {}", model.spec.vocab_size - 1, token);
    }
  }
  const auto total = static_cast<int64_t>(tokens.size());
  for (int64_t first = 0; first < total;) {
    const int64_t rows = std::min(
        {std::max(chunk, sequence.rows_at_once()), total - first, sequence.rows_before_cut()});
    core::check(rows > 0, "a policy lets at least one row in");
    const auto part = tokens.subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
    kv::CachedAttention context(model.spec, rotation, {{&sequence, rows}});
    const at::Tensor hidden = model::forward(
        model, {.tokens = {part.begin(), part.end()}, .sequence_starts = {0, rows}}, context);
    sequence.end_step(rows,
                      sequence.policy().needs().surprisal
                          ? step_surprisals(model, sequence, part, hidden)
                          : std::vector<float>());
    on_hidden(first, hidden);
    first += rows;
  }
}

}  // namespace adze::infer
