#include "model/trainable_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "formats/dequantize.h"
#include "model/architectures.h"
#include "model/convert.h"
#include "model/layer_weights.h"
#include "model/tensor_names.h"
#include "tensor/leaf.h"

namespace adze::model {
namespace {

constexpr double kInitialDeviation = 0.02;

struct LayerStem {
  int64_t layer;
  std::string stem;  // "attn_q"
  bool is_bias;
};

// "blk.3.attn_q.weight" -> 3, "attn_q"; layer -1 where it is none of a layer's.
LayerStem parse_name(const std::string& name) {
  const size_t end = name.rfind('.');
  const bool is_bias = name.substr(end) == ".bias";
  if (!name.starts_with("blk.")) {
    return {-1, name.substr(0, end), is_bias};
  }
  const size_t dot = name.find('.', 4);
  return {std::stoll(name.substr(4, dot - 4)), name.substr(dot + 1, end - dot - 1), is_bias};
}

bool is_layer_matrix(const std::string& stem) {
  static const std::vector<std::string> kStems = {
      "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
  return std::find(kStems.begin(), kStems.end(), stem) != kStems.end();
}

// Stored row of each of our rows (elements, for vectors).
std::vector<int64_t> stored_rows(const ModelSpec& spec,
                                 const TrainableTensor& tensor,
                                 bool alternating) {
  const LayerStem place = parse_name(tensor.name);
  std::vector<int64_t> rows;
  if (place.layer >= 0 && is_layer_matrix(place.stem)) {
    for (const WeightRows& part : weights_in(spec, place.stem, alternating)) {
      rows.insert(rows.end(), part.rows.begin(), part.rows.end());
    }
  } else if (place.stem == "attn_q_norm" || place.stem == "attn_k_norm") {
    rows = stored_head_dims(spec, alternating);
  } else {
    for (int64_t row = 0; row < tensor.shape[0]; ++row) {
      rows.push_back(row);
    }
  }
  core::check(std::cmp_equal(rows.size(), tensor.shape[0]), "an order of all rows");
  return rows;
}

int64_t row_width(const TrainableTensor& tensor) {
  return tensor.count / tensor.shape[0];
}

// Hands the model its leaves, which alias the two buffers.
class Assembly {
 public:
  Assembly(const std::vector<TrainableTensor>& tensors,
           const at::Tensor& values,
           const at::Tensor& gradients)
      : tensors_(tensors), values_(values), gradients_(gradients) {}

  void fill(Model& model) const {
    const ModelSpec& spec = model.spec;
    model.embedding = matrix("token_embd");
    model.layers.resize(static_cast<size_t>(spec.num_layers));
    for (int64_t index = 0; index < spec.num_layers; ++index) {
      fill_layer(spec, index, model.layers[static_cast<size_t>(index)]);
    }
    model.output_norm = norm("output_norm");
    model.output = spec.tied_output ? model.embedding : matrix("output");
  }

 private:
  const TrainableTensor* find(const std::string& name) const {
    const auto found = std::find_if(
        tensors_.begin(), tensors_.end(), [&](const auto& tensor) { return tensor.name == name; });
    return found == tensors_.end() ? nullptr : &*found;
  }

  at::Tensor leaf(const TrainableTensor& tensor, int64_t first_row, int64_t rows) const {
    std::vector<int64_t> shape = tensor.shape;
    shape[0] = rows;
    return tensor::make_leaf(
        values_, gradients_, tensor.offset + first_row * row_width(tensor), shape);
  }

  // Norms are optional; a missing weight leaves the norm undefined.
  Norm norm(const std::string& stem) const {
    const TrainableTensor* weight = find(stem + ".weight");
    return {weight == nullptr ? at::Tensor() : leaf(*weight, 0, weight->shape[0]), {}};
  }

  tensor::LinearWeightPtr matrix(const std::string& stem) const {
    const TrainableTensor* weight = find(stem + ".weight");
    core::check(weight != nullptr, "a tensor ", stem);
    return tensor::make_dense_weight(leaf(*weight, 0, weight->shape[0]));
  }

  void fill_layer(const ModelSpec& spec, int64_t index, Layer& layer) const {
    const std::string prefix = fmt::format("blk.{}.", index);
    layer.attention_norm = norm(prefix + "attn_norm");
    layer.key_value_norm = norm(prefix + "attn_kv_norm");
    layer.query_norm = norm(prefix + "attn_q_norm");
    layer.key_norm = norm(prefix + "attn_k_norm");
    layer.attention_branch_norm = norm(prefix + "post_attention_norm");
    layer.feed_forward_norm = norm(prefix + "ffn_norm");
    layer.feed_forward_branch_norm = norm(prefix + "post_ffw_norm");
    for (const TrainableTensor& tensor : tensors_) {
      const LayerStem place = parse_name(tensor.name);
      if (place.layer != index || place.is_bias || !is_layer_matrix(place.stem)) {
        continue;
      }
      const TrainableTensor* bias = find(prefix + place.stem + ".bias");
      int64_t first = 0;
      for (const WeightRows& part : weights_in(spec, place.stem, false)) {
        const auto rows = static_cast<int64_t>(part.rows.size());
        layer.*part.weight = tensor::make_dense_weight(
            leaf(tensor, first, rows), bias == nullptr ? at::Tensor() : leaf(*bias, first, rows));
        first += rows;
      }
    }
  }

  const std::vector<TrainableTensor>& tensors_;
  const at::Tensor& values_;
  const at::Tensor& gradients_;
};

// Normal numbers by place: Box and Muller (1958), two uniform numbers each.
void fill_normal(float* values, int64_t count, double deviation, uint64_t seed, uint64_t stream) {
  const core::Rng rng(seed, stream);
  core::parallel_for(count, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const double radius =
          std::sqrt(-2 * std::log(1 - rng.uniform_at(2 * static_cast<uint64_t>(i))));
      const double angle = 2 * std::numbers::pi * rng.uniform_at(2 * static_cast<uint64_t>(i) + 1);
      values[i] = static_cast<float>(deviation * radius * std::cos(angle));
    }
  });
}

}  // namespace

TrainableModel::TrainableModel(const ModelSpec& spec) {
  spec.validate();
  if (!spec.causal || spec.norm != NormKind::kRms || spec.learned_positions > 0) {
    throw core::error("train", "expected a model that writes text, got {}", spec.architecture);
  }
  model_.spec = spec;
  int64_t end = 0;
  for (const ExpectedTensor& expected : expected_tensors(spec)) {
    TrainableTensor tensor{expected.name, expected.shape, end, 1};
    for (const int64_t size : expected.shape) {
      tensor.count *= size;
    }
    end += (tensor.count + 15) / 16 * 16;
    tensors_.push_back(std::move(tensor));
  }
  values_ = tensor::zero_floats(end);
  gradients_ = tensor::zero_floats(end);
  Assembly(tensors_, values_, gradients_).fill(model_);
}

int64_t TrainableModel::num_parameters() const {
  int64_t sum = 0;
  for (const TrainableTensor& tensor : tensors_) {
    sum += tensor.count;
  }
  return sum;
}

float* TrainableModel::values() const {
  return values_.mutable_data_ptr<float>();
}
float* TrainableModel::gradients() const {
  return gradients_.mutable_data_ptr<float>();
}
int64_t TrainableModel::size() const {
  return values_.numel();
}

void initialise(const TrainableModel& model, uint64_t seed) {
  const double narrow =
      kInitialDeviation / std::sqrt(2 * static_cast<double>(model.model().spec.num_layers));
  uint64_t stream = 0;
  for (const TrainableTensor& tensor : model.tensors()) {
    float* values = model.values() + tensor.offset;
    const std::string stem = parse_name(tensor.name).stem;
    const bool to_residual = stem == "attn_output" || stem == "ffn_down";
    ++stream;
    if (tensor.is_matrix()) {
      fill_normal(values, tensor.count, to_residual ? narrow : kInitialDeviation, seed, stream);
    } else {
      std::fill_n(values, tensor.count, is_norm_weight(tensor.name) ? 1.0F : 0.0F);
    }
  }
}

void read_values(const TrainableModel& model, const Checkpoint& checkpoint) {
  for (const TrainableTensor& tensor : model.tensors()) {
    const formats::StoredTensor& stored = checkpoint.tensor(tensor.name);
    core::check(stored.shape == tensor.shape, "one shape of ", tensor.name);
    const std::vector<int64_t> rows =
        stored_rows(model.model().spec, tensor, checkpoint.alternating_rotary_rows);
    const int64_t width = row_width(tensor);
    float* values = model.values() + tensor.offset;
    if (tensor.is_matrix()) {
      const int64_t bytes = core::row_bytes(stored.type, width);
      core::parallel_for(tensor.shape[0], 16, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          formats::dequantize_row(stored.type,
                                  stored.data.data() + rows[static_cast<size_t>(row)] * bytes,
                                  width,
                                  values + row * width);
        }
      });
      continue;
    }
    std::vector<float> all(static_cast<size_t>(tensor.count));
    formats::dequantize_row(stored.type, stored.data.data(), tensor.count, all.data());
    const float offset = checkpoint.norms_lack_one && is_norm_weight(tensor.name) ? 1.0F : 0.0F;
    for (size_t i = 0; i < all.size(); ++i) {
      values[i] = all[static_cast<size_t>(rows[i])] + offset;
    }
  }
}

void write_model(const TrainableModel& model,
                 core::TensorType type,
                 const std::filesystem::path& tokenizer,
                 const std::filesystem::path& folder,
                 const std::optional<std::string>& chat_template) {
  Checkpoint checkpoint;
  checkpoint.path = tokenizer;
  checkpoint.chat_template = chat_template;
  checkpoint.spec = model.model().spec;
  std::vector<std::vector<float>> stored(model.tensors().size());
  for (size_t i = 0; i < stored.size(); ++i) {
    const TrainableTensor& tensor = model.tensors()[i];
    const std::vector<int64_t> rows = stored_rows(checkpoint.spec, tensor, false);
    const int64_t width = row_width(tensor);
    const float* values = model.values() + tensor.offset;
    std::span<const float> all(values, static_cast<size_t>(tensor.count));
    if (!std::is_sorted(rows.begin(), rows.end())) {
      stored[i].resize(all.size());
      for (size_t row = 0; row < rows.size(); ++row) {
        std::copy_n(values + static_cast<int64_t>(row) * width,
                    width,
                    stored[i].data() + rows[row] * width);
      }
      all = stored[i];
    }
    checkpoint.tensors.push_back(
        {tensor.name, core::TensorType::kF32, tensor.shape, std::as_bytes(all)});
  }
  write_hugging_face_model(checkpoint, type, folder);
}

}  // namespace adze::model
