#include "model/forward.h"

#include "core/check.h"
#include "tensor/operations.h"

namespace adze::model {
namespace {

at::Tensor attention(const Layer& layer,
                     int64_t index,
                     const at::Tensor& normed,  // [rows, hidden_size]
                     AttentionContext& context) {
  if (layer.key == nullptr) {  // reads another layer's keys and values
    return context.attend(index, layer.query->apply(normed), {}, {});
  }
  const auto projected =
      tensor::apply_together({layer.query.get(), layer.key.get(), layer.value.get()}, normed);
  return context.attend(index, projected[0], projected[1], projected[2]);
}

at::Tensor feed_forward(const Layer& layer, const at::Tensor& normed) {
  const auto gate_up = tensor::apply_together({layer.gate.get(), layer.up.get()}, normed);
  return layer.down->apply(tensor::swiglu(gate_up[0], gate_up[1]));
}

}  // namespace

at::Tensor forward(const Model& model, const TokenRows& rows, AttentionContext& context) {
  core::check(!rows.sequence_starts.empty() &&
                  rows.sequence_starts.back() == static_cast<int64_t>(rows.tokens.size()),
              "sequence_starts end at the number of rows");
  const double epsilon = model.spec.rms_norm_epsilon;
  // The norm that follows a block adds its output to the residual stream, in place.
  at::Tensor residual = model.embedding->rows(rows.tokens);  // [rows, hidden_size]
  at::Tensor delta;                                          // [rows, hidden_size]
  for (int64_t index = 0; index < model.spec.num_layers; ++index) {
    const Layer& layer = model.layers[static_cast<size_t>(index)];
    at::Tensor normed = index == 0
                            ? tensor::rms_norm(residual, layer.attention_norm, epsilon)
                            : tensor::add_rms_norm(residual, delta, layer.attention_norm, epsilon);
    at::Tensor attended = attention(layer, index, normed, context);
    if (const auto surviving = context.surviving_rows(index)) {
      residual = tensor::take_rows(residual, surviving->rows);
      attended = tensor::take_rows(attended, surviving->rows);
    }
    normed = tensor::add_rms_norm(
        residual, layer.attention_output->apply(attended), layer.feed_forward_norm, epsilon);
    delta = feed_forward(layer, normed);
  }
  return tensor::add_rms_norm(residual, delta, model.output_norm, epsilon);
}

at::Tensor logits(const Model& model, const at::Tensor& hidden) {
  return model.output->apply(hidden);
}

}  // namespace adze::model
