#pragma once
// Which element type each tensor of a GGUF file gets.

#include <optional>
#include <string>

#include "formats/quantization_mix.h"
#include "model/checkpoint.h"

namespace adze::model {

class TensorTypes {
 public:
  // mix: a name of formats/quantization_mix.h; empty: the types of the checkpoint.
  TensorTypes(const Checkpoint& checkpoint, const std::string& mix);

  core::TensorType wanted(const formats::StoredTensor& stored) const;
  // The same, or what stands in for it where the tensor's rows are not whole blocks.
  core::TensorType possible(const formats::StoredTensor& stored) const;
  int64_t file_type() const;  // general.file_type

 private:
  core::TensorType of_shape(const formats::StoredTensor& stored,
                            const std::vector<int64_t>& shape) const;

  const Checkpoint& checkpoint_;
  std::optional<formats::QuantizationMix> mix_;
};

}  // namespace adze::model
