#include "model/load_model.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "formats/dequantize.h"
#include "kernels/packed_matmul/packed_matmul.h"
#include "model/tensor_names.h"
#include "tensor/operations.h"

namespace adze::model {
namespace {

using formats::StoredTensor;
using tensor::LinearWeightPtr;

// Rows [begin, begin + order.size()) of a stored matrix, or of a bias, in a new order.
struct RowRange {
  int64_t begin;
  std::vector<int64_t> order;  // offsets from begin
};

RowRange rows_from(int64_t begin, int64_t count) {
  RowRange range{.begin = begin, .order = {}};
  for (int64_t row = 0; row < count; ++row) {
    range.order.push_back(row);
  }
  return range;
}

std::vector<float> dequantized(const StoredTensor& stored) {
  int64_t values = 1;
  for (const int64_t size : stored.shape) {
    values *= size;
  }
  std::vector<float> result(static_cast<size_t>(values));
  formats::dequantize_row(stored.type, stored.data.data(), values, result.data());
  return result;
}

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, kernels::Arithmetic arithmetic)
      : checkpoint_(checkpoint), spec_(checkpoint.spec), arithmetic_(arithmetic) {
    const int64_t dims = spec_.ropes.empty() ? spec_.head_dim : spec_.ropes.front().dims;
    head_order_ = rotary_order(dims, spec_.head_dim);
    if (checkpoint.alternating_rotary_rows) {
      for (int64_t& dim : head_order_) {
        dim = dim < dims ? 2 * (dim % (dims / 2)) + dim / (dims / 2) : dim;
      }
    }
  }

  Model load() const {
    Model model;
    model.spec = spec_;
    model.embedding = matrix("token_embd");
    if (spec_.learned_positions > 0) {
      model.position_embedding = position_embedding();
    }
    for (int64_t index = 0; index < spec_.num_layers; ++index) {
      model.layers.push_back(layer(index));
    }
    model.output_norm =
        norm(spec_.residual_is_normed ? last_norm(spec_.num_layers) : "output_norm");
    if (spec_.causal) {
      model.output = spec_.tied_output ? model.embedding : matrix("output");
    }
    return model;
  }

 private:
  // The norm after the last block before layer `index`, of a model whose residual is normed.
  static std::string last_norm(int64_t index) {
    return index == 0 ? "token_embd_norm" : fmt::format("blk.{}.layer_output_norm", index - 1);
  }

  at::Tensor vector(const std::string& name) const {
    const StoredTensor& stored = checkpoint_.tensor(name);
    std::vector<float> values = dequantized(stored);
    if (checkpoint_.norms_lack_one && is_norm_weight(name)) {
      for (float& value : values) {
        value += 1;
      }
    }
    at::Tensor result = tensor::empty_floats(1, stored.shape[0]).view({stored.shape[0]});
    std::copy(values.begin(), values.end(), result.mutable_data_ptr<float>());
    return result;
  }

  Norm norm(const std::string& stem) const {
    return {vector(stem + ".weight"),
            spec_.norm == NormKind::kLayer ? vector(stem + ".bias") : at::Tensor()};
  }

  // A norm of heads, in the order of our dimensions.
  Norm head_norm(const std::string& stem) const {
    Norm result = norm(stem);
    result.weight = result.weight.index_select(0, tensor::from_integers(head_order_)).contiguous();
    return result;
  }

  RowRange rotated_rows(int64_t begin, int64_t heads) const {
    RowRange range{.begin = begin, .order = {}};
    for (int64_t head = 0; head < heads; ++head) {
      for (const int64_t dim : head_order_) {
        range.order.push_back(head * spec_.head_dim + dim);
      }
    }
    return range;
  }

  LinearWeightPtr matrix(const std::string& stem) const {
    return rows(stem, rows_from(0, checkpoint_.tensor(stem + ".weight").shape[0]));
  }

  LinearWeightPtr rows(const std::string& stem, const RowRange& range) const {
    const StoredTensor& stored = checkpoint_.tensor(stem + ".weight");
    const StoredTensor* stored_bias = checkpoint_.find_tensor(stem + ".bias");
    std::vector<float> bias;
    if (stored_bias != nullptr) {
      const std::vector<float> all = dequantized(*stored_bias);
      for (const int64_t row : range.order) {
        bias.push_back(all[static_cast<size_t>(range.begin + row)]);
      }
    }
    const int64_t columns = stored.shape[1];
    const int64_t bytes = core::row_bytes(stored.type, columns);
    std::vector<const std::byte*> pointers;
    pointers.reserve(range.order.size());
    for (const int64_t row : range.order) {
      pointers.push_back(stored.data.data() + (range.begin + row) * bytes);
    }
    return tensor::make_packed_weight(stored.type, columns, pointers, arithmetic_, std::move(bias));
  }

  // Every text is of token type 0, so its row is part of every position.
  at::Tensor position_embedding() const {
    std::vector<float> values = dequantized(checkpoint_.tensor("position_embd.weight"));
    if (spec_.token_types > 0) {
      const std::vector<float> types = dequantized(checkpoint_.tensor("token_types.weight"));
      const auto width = static_cast<size_t>(spec_.hidden_size);
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] += types[i % width];
      }
    }
    at::Tensor result = tensor::empty_floats(spec_.learned_positions, spec_.hidden_size);
    std::copy(values.begin(), values.end(), result.mutable_data_ptr<float>());
    return result;
  }

  Layer layer(int64_t index) const {
    const std::string prefix = fmt::format("blk.{}.", index);
    Layer result;
    result.attention_norm =
        norm(spec_.residual_is_normed ? last_norm(index) : prefix + "attn_norm");
    const bool fused = checkpoint_.find_tensor(prefix + "attn_qkv.weight") != nullptr;
    const int64_t query_width = spec_.heads * spec_.head_dim;
    const auto part = [&](const char* name) { return prefix + (fused ? "attn_qkv" : name); };
    result.query = rows(part("attn_q"), rotated_rows(0, spec_.heads));
    if (spec_.kv_source[static_cast<size_t>(index)] == index) {
      const int64_t key = fused ? query_width : 0;
      const int64_t value = fused ? query_width + spec_.kv_width() : 0;
      result.key = rows(part("attn_k"), rotated_rows(key, spec_.kv_heads));
      result.value = rows(part("attn_v"), rows_from(value, spec_.kv_width()));
    }
    if (spec_.query_key_norm) {
      result.query_norm = head_norm(prefix + "attn_q_norm");
      if (result.key != nullptr) {
        result.key_norm = head_norm(prefix + "attn_k_norm");
      }
    }
    result.attention_output = matrix(prefix + "attn_output");
    if (spec_.branch_norms) {
      result.attention_branch_norm = norm(prefix + "post_attention_norm");
      result.feed_forward_branch_norm = norm(prefix + "post_ffw_norm");
    }
    result.feed_forward_norm =
        norm(prefix + (spec_.residual_is_normed ? "attn_output_norm" : "ffn_norm"));
    const std::string up = prefix + "ffn_up";
    if (spec_.gated) {
      const bool one = checkpoint_.find_tensor(prefix + "ffn_gate.weight") == nullptr;
      result.gate =
          one ? rows(up, rows_from(0, spec_.intermediate_size)) : matrix(prefix + "ffn_gate");
      result.up =
          one ? rows(up, rows_from(spec_.intermediate_size, spec_.intermediate_size)) : matrix(up);
    } else {
      result.up = matrix(up);
    }
    result.down = matrix(prefix + "ffn_down");
    return result;
  }

  const Checkpoint& checkpoint_;
  const ModelSpec& spec_;
  kernels::Arithmetic arithmetic_;
  std::vector<int64_t> head_order_;  // stored dimension of each of ours, within a head
};

}  // namespace

ModelPtr load_model(const Checkpoint& checkpoint, kernels::Arithmetic arithmetic) {
  return std::make_shared<const Model>(Loader(checkpoint, arithmetic).load());
}

int64_t packed_model_bytes(const Checkpoint& checkpoint) {
  int64_t bytes = 0;
  for (const StoredTensor& stored : checkpoint.tensors) {
    if (is_pooler(stored.name)) {
      continue;
    }
    const bool matrix = stored.shape.size() == 2 && stored.name != "position_embd.weight" &&
                        stored.name != "token_types.weight";
    const int64_t columns = stored.shape.back();
    bytes += matrix ? kernels::packed_bytes(stored.type, stored.shape[0], columns)
                    : columns * (stored.shape.size() == 2 ? stored.shape[0] : 1) *
                          static_cast<int64_t>(sizeof(float));
  }
  return bytes;
}

}  // namespace adze::model
