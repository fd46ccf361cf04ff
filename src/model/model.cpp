#include "model/model.h"

namespace adze::model {
namespace {

int64_t tensor_bytes(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
}

int64_t norm_bytes(const Norm& norm) {
  return tensor_bytes(norm.weight) + tensor_bytes(norm.bias);
}

}  // namespace

std::vector<const tensor::LinearWeight*> Model::matrices(const Layer& layer) {
  std::vector<const tensor::LinearWeight*> found;
  for (const auto* weight : {&layer.query,
                             &layer.key,
                             &layer.value,
                             &layer.attention_output,
                             &layer.gate,
                             &layer.up,
                             &layer.down}) {
    if (*weight != nullptr) {
      found.push_back(weight->get());
    }
  }
  return found;
}

int64_t Model::weight_bytes() const {
  int64_t bytes = embedding->bytes() + tensor_bytes(position_embedding) + norm_bytes(output_norm);
  if (output != nullptr && output != embedding) {
    bytes += output->bytes();
  }
  for (const Layer& layer : layers) {
    for (const Norm* norm : {&layer.attention_norm,
                             &layer.key_value_norm,
                             &layer.query_norm,
                             &layer.key_norm,
                             &layer.attention_branch_norm,
                             &layer.feed_forward_norm,
                             &layer.feed_forward_branch_norm}) {
      bytes += norm_bytes(*norm);
    }
    for (const tensor::LinearWeight* weight : matrices(layer)) {
      bytes += weight->bytes();
    }
  }
  return bytes;
}

}  // namespace adze::model
