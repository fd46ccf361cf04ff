#include "model/model.h"

namespace adze::model {

int64_t Model::weight_bytes() const {
  int64_t bytes = embedding->bytes() + static_cast<int64_t>(output_norm.nbytes());
  if (output != embedding) {
    bytes += output->bytes();
  }
  for (const Layer& layer : layers) {
    bytes += static_cast<int64_t>(layer.attention_norm.nbytes() + layer.feed_forward_norm.nbytes());
    for (const auto& weight : {layer.query,
                               layer.key,
                               layer.value,
                               layer.attention_output,
                               layer.gate,
                               layer.up,
                               layer.down}) {
      bytes += weight != nullptr ? weight->bytes() : 0;
    }
  }
  return bytes;
}

}  // namespace adze::model
