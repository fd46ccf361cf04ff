#include "model/load_model.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "formats/dequantize.h"
#include "kernels/packed_matmul/packed_matmul.h"
#include "model/architectures.h"
#include "model/layer_weights.h"
#include "model/tensor_names.h"
#include "tensor/operations.h"

namespace adze::model {
namespace {

using formats::StoredTensor;
using tensor::LinearWeightPtr;

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
      : checkpoint_(checkpoint), spec_(checkpoint.spec), arithmetic_(arithmetic) {}

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
    const auto dims = stored_head_dims(spec_, checkpoint_.alternating_rotary_rows);
    result.weight = result.weight.index_select(0, tensor::from_integers(dims)).contiguous();
    return result;
  }

  LinearWeightPtr matrix(const std::string& stem) const {
    std::vector<int64_t> all(static_cast<size_t>(checkpoint_.tensor(stem + ".weight").shape[0]));
    std::iota(all.begin(), all.end(), int64_t{0});
    return rows(stem, all);
  }

  LinearWeightPtr rows(const std::string& stem, const std::vector<int64_t>& order) const {
    const StoredTensor& stored = checkpoint_.tensor(stem + ".weight");
    const StoredTensor* stored_bias = checkpoint_.find_tensor(stem + ".bias");
    std::vector<float> bias;
    if (stored_bias != nullptr) {
      const std::vector<float> all = dequantized(*stored_bias);
      for (const int64_t row : order) {
        bias.push_back(all[static_cast<size_t>(row)]);
      }
    }
    const int64_t columns = stored.shape[1];
    const int64_t bytes = core::row_bytes(stored.type, columns);
    std::vector<const std::byte*> pointers;
    pointers.reserve(order.size());
    for (const int64_t row : order) {
      pointers.push_back(stored.data.data() + row * bytes);
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
    const auto take = [&](const char* stem) {
      for (const WeightRows& part : weights_in(spec_, stem, checkpoint_.alternating_rotary_rows)) {
        result.*part.weight = rows(prefix + stem, part.rows);
      }
    };
    const bool fused = architecture(spec_.architecture).fused_projections;
    const bool owner = spec_.owns_kv(index);
    if (owner && spec_.key_value_norm) {
      result.key_value_norm = norm(prefix + "attn_kv_norm");
    }
    take(fused && owner ? "attn_qkv" : "attn_q");
    if (owner && !fused) {
      take("attn_k");
      take("attn_v");
    }
    if (spec_.query_key_norm) {
      result.query_norm = head_norm(prefix + "attn_q_norm");
      if (owner) {
        result.key_norm = head_norm(prefix + "attn_k_norm");
      }
    }
    take("attn_output");
    if (spec_.branch_norms) {
      result.attention_branch_norm = norm(prefix + "post_attention_norm");
      result.feed_forward_branch_norm = norm(prefix + "post_ffw_norm");
    }
    result.feed_forward_norm =
        norm(prefix + (spec_.residual_is_normed ? "attn_output_norm" : "ffn_norm"));
    if (spec_.gated && !fused) {
      take("ffn_gate");
    }
    take("ffn_up");
    take("ffn_down");
    return result;
  }

  const Checkpoint& checkpoint_;
  const ModelSpec& spec_;
  kernels::Arithmetic arithmetic_;
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
