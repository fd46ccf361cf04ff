#include "model/gguf_model.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "formats/dequantize.h"
#include "kernels/packed_matmul/packed_matmul.h"
#include "tensor/operations.h"

namespace adze::model {
namespace {

using formats::GgufFile;
using formats::StoredTensor;
using tensor::LinearWeightPtr;

int64_t required_integer(const GgufFile& file, const std::string& key) {
  const auto value = file.find_integer(key);
  if (!value) {
    throw core::error("gguf", "{}: expected key {}, got none", file.path().string(), key);
  }
  return *value;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

class Loader {
 public:
  Loader(const GgufFile& file, const ModelSpec& spec) : file_(file), spec_(spec) {}

  const StoredTensor& find(const std::string& name, const std::vector<int64_t>& shape) const {
    const StoredTensor* found = file_.find_tensor(name);
    if (found == nullptr) {
      throw core::error("gguf", "{}: expected tensor {}, got none", file_.path().string(), name);
    }
    if (found->shape != shape) {
      throw core::error("gguf",
                        "{}: tensor {}: expected shape {}, got {}",
                        file_.path().string(),
                        name,
                        shape_text(shape),
                        shape_text(found->shape));
    }
    return *found;
  }

  at::Tensor vector(const std::string& name, int64_t size) const {
    const StoredTensor& stored = find(name, {size});
    at::Tensor result = tensor::empty_floats(1, size).view({size});
    formats::dequantize_row(
        stored.type, stored.data.data(), size, result.mutable_data_ptr<float>());
    return result;
  }

  LinearWeightPtr weight(const std::string& name, int64_t outputs, int64_t columns) const {
    return pack(find(name, {outputs, columns}), outputs, columns, [](int64_t row) { return row; });
  }

  // Query and key rows of this format alternate between the two halves of a head (row 2 i + j of a
  // head is dimension i of half j); ours keep the halves together, so that one rotation serves all.
  LinearWeightPtr rotated_weight(const std::string& name, int64_t heads) const {
    const int64_t head_dim = spec_.head_dim;
    const int64_t half = head_dim / 2;
    const int64_t outputs = heads * head_dim;
    return pack(
        find(name, {outputs, spec_.hidden_size}), outputs, spec_.hidden_size, [=](int64_t row) {
          const int64_t dim = row % head_dim;
          return row - dim + 2 * (dim % half) + dim / half;
        });
  }

 private:
  template <class SourceRow>
  static LinearWeightPtr pack(const StoredTensor& stored,
                              int64_t outputs,
                              int64_t columns,
                              SourceRow&& source_row) {
    const int64_t bytes = core::row_bytes(stored.type, columns);
    std::vector<const std::byte*> rows(static_cast<size_t>(outputs));
    for (int64_t row = 0; row < outputs; ++row) {
      rows[static_cast<size_t>(row)] = stored.data.data() + source_row(row) * bytes;
    }
    if (kernels::has_packed_form(stored.type)) {
      return tensor::make_packed_weight(stored.type, columns, rows);
    }
    // Types without a kernel of their own are held as f32: exact, and four to sixteen times larger.
    std::vector<float> values(static_cast<size_t>(outputs * columns));
    for (int64_t row = 0; row < outputs; ++row) {
      float* target = values.data() + row * columns;
      formats::dequantize_row(stored.type, rows[static_cast<size_t>(row)], columns, target);
      rows[static_cast<size_t>(row)] = reinterpret_cast<const std::byte*>(target);
    }
    return tensor::make_packed_weight(core::TensorType::kF32, columns, rows);
  }

  const GgufFile& file_;
  const ModelSpec& spec_;
};

Layer load_layer(const Loader& loader, const ModelSpec& spec, int64_t index) {
  const std::string prefix = fmt::format("blk.{}.", index);
  const int64_t query_width = spec.heads * spec.head_dim;
  Layer layer;
  layer.attention_norm = loader.vector(prefix + "attn_norm.weight", spec.hidden_size);
  layer.query = loader.rotated_weight(prefix + "attn_q.weight", spec.heads);
  if (spec.kv_source[static_cast<size_t>(index)] == index) {
    layer.key = loader.rotated_weight(prefix + "attn_k.weight", spec.kv_heads);
    layer.value = loader.weight(prefix + "attn_v.weight", spec.kv_width(), spec.hidden_size);
  }
  layer.attention_output =
      loader.weight(prefix + "attn_output.weight", spec.hidden_size, query_width);
  layer.feed_forward_norm = loader.vector(prefix + "ffn_norm.weight", spec.hidden_size);
  layer.gate = loader.weight(prefix + "ffn_gate.weight", spec.intermediate_size, spec.hidden_size);
  layer.up = loader.weight(prefix + "ffn_up.weight", spec.intermediate_size, spec.hidden_size);
  layer.down = loader.weight(prefix + "ffn_down.weight", spec.hidden_size, spec.intermediate_size);
  return layer;
}

// Features that this forward pass lacks must be refused, never ignored.
void refuse_unsupported(const GgufFile& file, const ModelSpec& spec) {
  for (const char* suffix : {"expert_count", "attention.sliding_window"}) {
    const auto value = file.find_integer("llama." + std::string(suffix));
    if (value && *value != 0) {
      throw core::error("gguf",
                        "{}: llama.{}: expected 0, got {}; not supported",
                        file.path().string(),
                        suffix,
                        *value);
    }
  }
  const auto scaling = file.find_string("llama.rope.scaling.type");
  if ((scaling && *scaling != "none") || file.find_tensor("rope_freqs.weight") != nullptr) {
    throw core::error("gguf",
                      "{}: llama.rope.scaling.type: expected none, got {}; not supported",
                      file.path().string(),
                      scaling.value_or("rope_freqs"));
  }
  const auto rotated = file.find_integer("llama.rope.dimension_count");
  if (rotated && *rotated != spec.head_dim) {
    throw core::error("gguf",
                      "{}: llama.rope.dimension_count: expected head_dim {}, got {}",
                      file.path().string(),
                      spec.head_dim,
                      *rotated);
  }
  for (const StoredTensor& stored : file.tensors()) {
    if (stored.name.ends_with(".bias")) {
      throw core::error("gguf",
                        "{}: tensor {}: expected a llama without biases",
                        file.path().string(),
                        stored.name);
    }
  }
}

}  // namespace

ModelSpec spec_from_gguf(const GgufFile& file) {
  const auto architecture = file.find_string("general.architecture");
  if (architecture != "llama") {
    throw core::error("gguf",
                      "{}: general.architecture: expected llama, got {}",
                      file.path().string(),
                      architecture.value_or("none"));
  }
  ModelSpec spec;
  spec.architecture = *architecture;
  spec.name = file.find_string("general.name").value_or(file.path().stem().string());
  spec.num_layers = required_integer(file, "llama.block_count");
  spec.context_length = required_integer(file, "llama.context_length");
  spec.hidden_size = required_integer(file, "llama.embedding_length");
  spec.intermediate_size = required_integer(file, "llama.feed_forward_length");
  spec.heads = required_integer(file, "llama.attention.head_count");
  spec.kv_heads = file.find_integer("llama.attention.head_count_kv").value_or(spec.heads);
  spec.head_dim = file.find_integer("llama.attention.key_length")
                      .value_or(spec.heads > 0 ? spec.hidden_size / spec.heads : 0);
  spec.rms_norm_epsilon =
      file.find_number("llama.attention.layer_norm_rms_epsilon").value_or(spec.rms_norm_epsilon);
  spec.rope_base = file.find_number("llama.rope.freq_base").value_or(spec.rope_base);
  const StoredTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    throw core::error(
        "gguf", "{}: expected a tensor token_embd.weight of two dimensions", file.path().string());
  }
  spec.vocab_size = embedding->shape[0];
  for (int64_t layer = 0; layer < std::min<int64_t>(spec.num_layers, 4096); ++layer) {
    spec.kv_source.push_back(layer);
  }
  try {
    spec.validate();
  } catch (const core::Error& failure) {
    throw core::error("gguf", "{}: {}", file.path().string(), failure.what());
  }
  refuse_unsupported(file, spec);
  return spec;
}

ModelPtr load_gguf_model(const GgufFile& file) {
  auto model = std::make_shared<Model>();
  model->spec = spec_from_gguf(file);
  const ModelSpec& spec = model->spec;
  const Loader loader(file, spec);
  model->embedding = loader.weight("token_embd.weight", spec.vocab_size, spec.hidden_size);
  for (int64_t index = 0; index < spec.num_layers; ++index) {
    model->layers.push_back(load_layer(loader, spec, index));
  }
  model->output_norm = loader.vector("output_norm.weight", spec.hidden_size);
  model->output = file.find_tensor("output.weight") == nullptr
                      ? model->embedding
                      : loader.weight("output.weight", spec.vocab_size, spec.hidden_size);
  return model;
}

}  // namespace adze::model
