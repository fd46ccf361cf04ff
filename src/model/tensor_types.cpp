#include "model/tensor_types.h"

#include <string_view>
#include <vector>

#include "core/error.h"
#include "model/convert.h"

namespace adze::model {
namespace {

const formats::QuantizationMix& find_mix(const std::string& name) {
  const formats::QuantizationMix* found = formats::find_quantization_mix(name);
  if (found == nullptr) {
    std::vector<std::string_view> names;
    for (const formats::QuantizationMix& mix : formats::quantization_mixes()) {
      names.push_back(mix.name);
    }
    throw core::InvalidOption("type", name, fmt::format("one of {}", fmt::join(names, ", ")));
  }
  return *found;
}

}  // namespace

TensorTypes::TensorTypes(const Checkpoint& checkpoint, const std::string& mix)
    : checkpoint_(checkpoint) {
  if (!mix.empty()) {
    mix_ = find_mix(mix);
  }
}

core::TensorType TensorTypes::possible(const formats::StoredTensor& stored) const {
  return of_shape(stored, stored.shape);
}

core::TensorType TensorTypes::wanted(const formats::StoredTensor& stored) const {
  // As if its rows were whole blocks of every type.
  constexpr int64_t kLargestBlock = 256;
  std::vector<int64_t> shape = stored.shape;
  if (shape.size() > 1) {
    shape.back() = (shape.back() + kLargestBlock - 1) / kLargestBlock * kLargestBlock;
  }
  return of_shape(stored, shape);
}

core::TensorType TensorTypes::of_shape(const formats::StoredTensor& stored,
                                       const std::vector<int64_t>& shape) const {
  if (mix_) {
    return formats::tensor_type_for(*mix_,
                                    {.name = stored.name,
                                     .shape = shape,
                                     .num_layers = checkpoint_.spec.num_layers,
                                     .tied_output = checkpoint_.spec.tied_output});
  }
  return shape.size() < 2 ? core::TensorType::kF32 : stored.type;
}

int64_t TensorTypes::file_type() const {
  if (mix_) {
    return mix_->file_type;
  }
  if (checkpoint_.gguf) {
    if (const auto kept = checkpoint_.gguf->find_integer("general.file_type")) {
      return *kept;
    }
  }
  const auto name = core::info(natural_float_type(checkpoint_)).name;
  return find_mix(std::string(name)).file_type;
}

}  // namespace adze::model
