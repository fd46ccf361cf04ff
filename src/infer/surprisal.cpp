#include "infer/surprisal.h"

#include <algorithm>
#include <cmath>

#include "kernels/softmax_cross_entropy/softmax_cross_entropy.h"
#include "model/forward.h"
#include "tensor/operations.h"

namespace adze::infer {

// [12 §2.2]
std::vector<float> step_surprisals(const model::Model& model,
                                   kv::Sequence& sequence,
                                   std::span<const int32_t> tokens,
                                   const at::Tensor& hidden) {
  constexpr int64_t kRows = 64;
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t width = hidden.size(1);
  const auto* rows = hidden.const_data_ptr<float>();
  std::vector<float>& last = sequence.last_hidden();
  std::vector<float> nats(tokens.size());
  int64_t first = 0;  // token whose predecessor is rows[first - 1], or `last`
  if (last.empty()) {
    nats[0] = std::log(static_cast<float>(model.spec.vocab_size));
    first = 1;
  } else if (std::vector<float>& logits = sequence.last_logits(); !logits.empty()) {
    kernels::softmax_cross_entropy(
        logits.data(), tokens.data(), 1, static_cast<int64_t>(logits.size()), nats.data());
    logits.clear();
    first = 1;
  }
  for (; first < count; first += kRows) {
    const int64_t piece = std::min(kRows, count - first);
    at::Tensor before = tensor::empty_floats(piece, width);
    auto* target = before.mutable_data_ptr<float>();
    for (int64_t i = 0; i < piece; ++i) {
      const int64_t row = first + i - 1;
      std::copy_n(row < 0 ? last.data() : rows + row * width, width, target + i * width);
    }
    const at::Tensor logits = model::logits(model, before);
    kernels::softmax_cross_entropy(logits.const_data_ptr<float>(),
                                   tokens.data() + first,
                                   piece,
                                   logits.size(1),
                                   nats.data() + first);
  }
  last.assign(rows + (count - 1) * width, rows + count * width);
  return nats;
}

void keep_last_logits(kv::Sequence& sequence, const float* logits, int64_t vocab_size) {
  if (sequence.policy().needs().surprisal) {
    sequence.last_logits().assign(logits, logits + vocab_size);
  }
}

}  // namespace adze::infer
