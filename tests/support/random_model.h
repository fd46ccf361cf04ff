#pragma once
// Tiny random models for tests, made in memory: no file, no network.

#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "core/rng.h"
#include "model/model.h"
#include "tensor/linear_weight.h"
#include "tensor/operations.h"

namespace adze::model {

inline ModelSpec tiny_spec() {
  ModelSpec spec;
  spec.architecture = "llama";
  spec.name = "tiny";
  spec.vocab_size = 40;
  spec.hidden_size = 64;
  spec.intermediate_size = 96;
  spec.num_layers = 4;
  spec.heads = 4;
  spec.kv_heads = 2;
  spec.head_dim = 16;
  spec.context_length = 512;
  spec.kv_source = {0, 1, 2, 3};
  spec.ropes = {{.base = 10000, .dims = 16, .scaling = {}}};
  spec.tied_output = true;
  return spec;
}

inline tensor::LinearWeightPtr random_weight(int64_t outputs, int64_t columns, core::Rng& rng) {
  std::vector<float> values(static_cast<size_t>(outputs * columns));
  const double scale = 2.0 / std::sqrt(static_cast<double>(columns));
  for (float& value : values) {
    value = static_cast<float>((rng.next_uniform() * 2 - 1) * scale);
  }
  std::vector<const std::byte*> rows;
  for (int64_t row = 0; row < outputs; ++row) {
    rows.push_back(reinterpret_cast<const std::byte*>(values.data() + row * columns));
  }
  return tensor::make_packed_weight(
      core::TensorType::kF32, columns, rows, kernels::Arithmetic::kF32);
}

inline at::Tensor random_norm(int64_t columns, core::Rng& rng) {
  at::Tensor weight = tensor::empty_floats(1, columns).view({columns});
  for (int64_t i = 0; i < columns; ++i) {
    weight.mutable_data_ptr<float>()[i] = static_cast<float>(0.5 + rng.next_uniform());
  }
  return weight;
}

inline ModelPtr random_model(const ModelSpec& spec, uint64_t seed = 1) {
  spec.validate();
  core::Rng rng(seed);
  auto model = std::make_shared<Model>();
  model->spec = spec;
  const int64_t width = spec.heads * spec.head_dim;
  model->embedding = random_weight(spec.vocab_size, spec.hidden_size, rng);
  for (int64_t index = 0; index < spec.num_layers; ++index) {
    Layer layer;
    layer.attention_norm.weight = random_norm(spec.hidden_size, rng);
    layer.query = random_weight(width, spec.hidden_size, rng);
    if (spec.kv_source[static_cast<size_t>(index)] == index) {
      layer.key = random_weight(spec.kv_width(), spec.hidden_size, rng);
      layer.value = random_weight(spec.kv_width(), spec.hidden_size, rng);
    }
    layer.attention_output = random_weight(spec.hidden_size, width, rng);
    layer.feed_forward_norm.weight = random_norm(spec.hidden_size, rng);
    layer.gate = random_weight(spec.intermediate_size, spec.hidden_size, rng);
    layer.up = random_weight(spec.intermediate_size, spec.hidden_size, rng);
    layer.down = random_weight(spec.hidden_size, spec.intermediate_size, rng);
    model->layers.push_back(std::move(layer));
  }
  model->output_norm.weight = random_norm(spec.hidden_size, rng);
  model->output = model->embedding;
  return model;
}

inline std::vector<int32_t> random_tokens(int64_t count, int64_t vocab_size, uint64_t seed) {
  core::Rng rng(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) {
    token = static_cast<int32_t>(rng.next_uint64() % static_cast<uint64_t>(vocab_size));
  }
  return tokens;
}

}  // namespace adze::model
