#include "model/layer_weights.h"

#include <numeric>

#include "core/check.h"
#include "model/architectures.h"

namespace adze::model {
namespace {

std::vector<int64_t> rows_from(int64_t begin, int64_t count) {
  std::vector<int64_t> rows(static_cast<size_t>(count));
  std::iota(rows.begin(), rows.end(), begin);
  return rows;
}

}  // namespace

std::vector<int64_t> stored_head_dims(const ModelSpec& spec, bool alternating_rotary_rows) {
  const int64_t dims = spec.ropes.empty() ? spec.head_dim : spec.ropes.front().dims;
  std::vector<int64_t> order = rotary_order(dims, spec.head_dim);
  if (alternating_rotary_rows) {
    for (int64_t& dim : order) {
      dim = dim < dims ? 2 * (dim % (dims / 2)) + dim / (dims / 2) : dim;
    }
  }
  return order;
}

std::vector<WeightRows> weights_in(const ModelSpec& spec,
                                   std::string_view stem,
                                   bool alternating_rotary_rows) {
  const int64_t query_width = spec.heads * spec.head_dim;
  const int64_t wide = spec.intermediate_size;
  const auto rotated = [&](int64_t begin, int64_t heads) {
    const std::vector<int64_t> dims = stored_head_dims(spec, alternating_rotary_rows);
    std::vector<int64_t> rows;
    for (int64_t head = 0; head < heads; ++head) {
      for (const int64_t dim : dims) {
        rows.push_back(begin + head * spec.head_dim + dim);
      }
    }
    return rows;
  };
  if (stem == "attn_q") {
    return {{&Layer::query, rotated(0, spec.heads)}};
  }
  if (stem == "attn_k") {
    return {{&Layer::key, rotated(0, spec.kv_heads)}};
  }
  if (stem == "attn_v") {
    return {{&Layer::value, rows_from(0, spec.kv_width())}};
  }
  if (stem == "attn_qkv") {
    return {{&Layer::query, rotated(0, spec.heads)},
            {&Layer::key, rotated(query_width, spec.kv_heads)},
            {&Layer::value, rows_from(query_width + spec.kv_width(), spec.kv_width())}};
  }
  if (stem == "attn_output") {
    return {{&Layer::attention_output, rows_from(0, spec.hidden_size)}};
  }
  if (stem == "ffn_gate") {
    return {{&Layer::gate, rows_from(0, wide)}};
  }
  if (stem == "ffn_up" && architecture(spec.architecture).fused_projections) {
    return {{&Layer::gate, rows_from(0, wide)}, {&Layer::up, rows_from(wide, wide)}};
  }
  if (stem == "ffn_up") {
    return {{&Layer::up, rows_from(0, wide)}};
  }
  core::check(stem == "ffn_down", "a matrix of a layer, got ", stem);
  return {{&Layer::down, rows_from(0, spec.hidden_size)}};
}

}  // namespace adze::model
