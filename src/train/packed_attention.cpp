#include "train/packed_attention.h"

#include <utility>

#include "tensor/attention.h"
#include "tensor/leaf.h"

namespace adze::train {

PackedAttention::PackedAttention(const model::ModelSpec& spec,
                                 const kv::Rotation& rotation,
                                 std::vector<int64_t> sequence_starts,
                                 std::function<void(int64_t layer)> on_backward)
    : spec_(spec),
      rotation_(rotation),
      sequence_starts_(std::move(sequence_starts)),
      on_backward_(std::move(on_backward)),
      key_values_(static_cast<size_t>(spec.num_layers)),
      last_reader_(static_cast<size_t>(spec.num_layers)) {
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    last_reader_[static_cast<size_t>(spec.kv_source[static_cast<size_t>(layer)])] = layer;
  }
  for (size_t i = 0; i + 1 < sequence_starts_.size(); ++i) {
    for (int64_t row = sequence_starts_[i]; row < sequence_starts_[i + 1]; ++row) {
      positions_.push_back(row - sequence_starts_[i]);
    }
  }
}

at::Tensor PackedAttention::attend(int64_t layer,
                                   const at::Tensor& query,
                                   const at::Tensor& key,
                                   const at::Tensor& value) {
  const auto source = static_cast<size_t>(spec_.kv_source[static_cast<size_t>(layer)]);
  const kernels::RopeTable* table = rotation_.table(layer);
  if (spec_.owns_kv(layer)) {
    key_values_[source] = {tensor::rotate(key, table, positions_), value};
  }
  const KeyValue shared = key_values_[source];
  if (last_reader_[source] == layer) {
    key_values_[source] = {};  // nobody asks for them again
  }
  const at::Tensor attended = tensor::packed_attention(tensor::rotate(query, table, positions_),
                                                       shared.key,
                                                       shared.value,
                                                       sequence_starts_,
                                                       {.heads = spec_.heads,
                                                        .kv_heads = spec_.kv_heads,
                                                        .head_dim = spec_.head_dim,
                                                        .scale = spec_.score_scale(),
                                                        .softcap = spec_.attention_softcap,
                                                        .window = spec_.window(layer),
                                                        .causal = spec_.causal});
  if (!on_backward_) {
    return attended;
  }
  return tensor::told_of_backward(attended, [tell = on_backward_, layer] { tell(layer); });
}

}  // namespace adze::train
