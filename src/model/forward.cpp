#include "model/forward.h"

#include <utility>

#include "core/check.h"
#include "tensor/operations.h"
#include "tensor/recompute.h"

namespace adze::model {
namespace {

tensor::NormOptions norm_options(const ModelSpec& spec) {
  return {.layer_norm = spec.norm == NormKind::kLayer, .epsilon = spec.norm_epsilon};
}

at::Tensor normed(const ModelSpec& spec, const Norm& norm, const at::Tensor& x) {
  return tensor::norm(x, norm.weight, norm.bias, norm_options(spec));
}

// key_value_input [rows, hidden_size]: undefined where it is x.
at::Tensor attention(const ModelSpec& spec,
                     const Layer& layer,
                     int64_t index,
                     const at::Tensor& x,  // [rows, hidden_size]
                     const at::Tensor& key_value_input,
                     AttentionContext& context) {
  std::vector<at::Tensor> projected;
  if (layer.key == nullptr) {  // reads another layer's keys and values: [05 §2.2]
    projected = {layer.query->apply(x), {}, {}};
  } else if (key_value_input.defined()) {
    projected = tensor::apply_together({layer.key.get(), layer.value.get()}, key_value_input);
    projected.insert(projected.begin(), layer.query->apply(x));
  } else {
    projected = tensor::apply_together({layer.query.get(), layer.key.get(), layer.value.get()}, x);
  }
  if (spec.query_key_norm) {
    projected[0] = normed(spec, layer.query_norm, projected[0]);
    if (projected[1].defined()) {
      projected[1] = normed(spec, layer.key_norm, projected[1]);
    }
  }
  return context.attend(index, projected[0], projected[1], projected[2]);
}

at::Tensor feed_forward(const ModelSpec& spec, const Layer& layer, const at::Tensor& x) {
  if (!spec.gated) {
    return layer.down->apply(tensor::activate(spec.activation, layer.up->apply(x), {}));
  }
  const auto gate_up = tensor::apply_together({layer.gate.get(), layer.up.get()}, x);
  return layer.down->apply(tensor::activate(spec.activation, gate_up[0], gate_up[1]));
}

// Row of each token within its sequence.
std::vector<int64_t> places(const TokenRows& rows) {
  std::vector<int64_t> result;
  for (size_t i = 0; i + 1 < rows.sequence_starts.size(); ++i) {
    for (int64_t row = rows.sequence_starts[i]; row < rows.sequence_starts[i + 1]; ++row) {
      result.push_back(row - rows.sequence_starts[i]);
    }
  }
  return result;
}

at::Tensor embed(const Model& model, const TokenRows& rows) {
  at::Tensor embedded = model.embedding->rows(rows.tokens);
  if (model.position_embedding.defined()) {
    tensor::add(embedded, tensor::take_rows(model.position_embedding, places(rows)));
  }
  if (model.spec.embedding_scale != 1) {
    tensor::scale(embedded, model.spec.embedding_scale);
  }
  return embedded;
}

// The rows between blocks. A block reads `input` and gives a delta; the next one's norm takes it
// in.
class Residual {
 public:
  Residual(const ModelSpec& spec, at::Tensor rows) : spec_(spec), rows_(std::move(rows)) {}

  void add(at::Tensor delta) { delta_ = std::move(delta); }
  at::Tensor next_input(const Norm& norm) {
    at::Tensor input =
        delta_.defined()
            ? tensor::add_norm(rows_, delta_, norm.weight, norm.bias, norm_options(spec_))
            : normed(spec_, norm, rows_);
    if (spec_.residual_is_normed) {
      rows_ = input;
    }
    return input;
  }
  // The same rows as the last next_input, by another norm.
  at::Tensor same_input(const Norm& norm) const {
    return norm.weight.defined() ? normed(spec_, norm, rows_) : at::Tensor();
  }
  void keep(const std::vector<int64_t>& rows) { rows_ = tensor::take_rows(rows_, rows); }

  tensor::Tensors state() const { return {rows_, delta_}; }
  void resume(const tensor::Tensors& state) {
    rows_ = state[0];
    delta_ = state[1];
  }

 private:
  const ModelSpec& spec_;
  at::Tensor rows_;   // [rows, hidden_size]
  at::Tensor delta_;  // [rows, hidden_size]; undefined before the first block
};

void run_layer(const Model& model, int64_t index, Residual& residual, AttentionContext& context) {
  const ModelSpec& spec = model.spec;
  const Layer& layer = model.layers[static_cast<size_t>(index)];
  const at::Tensor input = residual.next_input(layer.attention_norm);
  at::Tensor attended =
      attention(spec, layer, index, input, residual.same_input(layer.key_value_norm), context);
  if (const auto surviving = context.surviving_rows(index)) {
    residual.keep(surviving->rows);
    attended = tensor::take_rows(attended, surviving->rows);
  }
  at::Tensor delta = layer.attention_output->apply(attended);
  residual.add(spec.branch_norms ? normed(spec, layer.attention_branch_norm, delta) : delta);
  delta = feed_forward(spec, layer, residual.next_input(layer.feed_forward_norm));
  residual.add(spec.branch_norms ? normed(spec, layer.feed_forward_branch_norm, delta) : delta);
}

// Layers behind the unit that begins with `first`.
int64_t end_of_unit(const ModelSpec& spec, int64_t first) {
  int64_t end = first + 1;
  for (int64_t index = end; index < spec.num_layers; ++index) {
    if (spec.kv_source[static_cast<size_t>(index)] < end) {
      end = index + 1;
    }
  }
  return end;
}

}  // namespace

at::Tensor forward(const Model& model,
                   const TokenRows& rows,
                   AttentionContext& context,
                   Activations activations) {
  core::check(!rows.sequence_starts.empty() &&
                  rows.sequence_starts.back() == static_cast<int64_t>(rows.tokens.size()),
              "sequence_starts end at the number of rows");
  const ModelSpec& spec = model.spec;
  Residual residual(spec, embed(model, rows));
  for (int64_t first = 0; first < spec.num_layers;) {
    if (activations == Activations::kKept) {
      run_layer(model, first++, residual, context);
      continue;
    }
    const int64_t end = end_of_unit(spec, first);
    residual.resume(tensor::recomputed(
        residual.state(), [&model, &context, first, end](const tensor::Tensors& state) {
          Residual within(model.spec, state[0]);
          within.resume(state);
          for (int64_t index = first; index < end; ++index) {
            run_layer(model, index, within, context);
          }
          return within.state();
        }));
    first = end;
  }
  return residual.next_input(model.output_norm);
}

at::Tensor logits(const Model& model, const at::Tensor& hidden) {
  core::check(model.output != nullptr, "a model that writes text");
  at::Tensor result = model.output->apply(hidden);
  if (model.spec.output_softcap > 0) {
    tensor::soft_cap(result, model.spec.output_softcap);
  }
  return result;
}

}  // namespace adze::model
