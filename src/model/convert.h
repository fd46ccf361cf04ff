#pragma once
// A checkpoint written in either format, element types changed where asked. One tensor is in memory
// at a time.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/tensor_type.h"
#include "model/checkpoint.h"

namespace adze::model {

// A tensor that could not have the type that was asked for.
struct TypeFallback {
  std::string tensor;  // GGUF's name
  core::TensorType wanted;
  core::TensorType used;
};

struct ConversionReport {
  std::vector<TypeFallback> fallbacks;
  int64_t tensors = 0;
  int64_t tensor_bytes = 0;
  std::vector<std::string> ignored;  // tensors of the source that have no place in the target
};

// Called before each tensor: tensors done, all tensors, its name.
using ConversionProgress = std::function<void(int64_t, int64_t, const std::string&)>;

// How the target differs from the source, beside types.
struct ModelChange {
  ModelSpec spec;                  // the target's
  std::set<std::string> left_out;  // tensors of the source that the target lacks, GGUF's names
  // Tensors of the target that are the mean of several of the source, all of one shape. Where no
  // type is asked for: the type of these where it is one plain float type, f32 where several, f16
  // where any is quantised.
  std::map<std::string, std::vector<std::string>> means;
};

// The float type that most of the checkpoint's weights have; f16 where they are quantised.
core::TensorType natural_float_type(const Checkpoint& checkpoint);

// mix: a name of formats/quantization_mix.h, "q4_k_m"; empty: the types that the checkpoint has.
// Norms and biases are f32 in any case. Throws core::Error: an unknown mix, a tokenizer that GGUF
// cannot hold, a value that a type cannot, a full disk.
ConversionReport write_gguf_model(const Checkpoint& checkpoint,
                                  const std::string& mix,
                                  const std::filesystem::path& file,
                                  const ConversionProgress& on_tensor = {},
                                  const ModelChange* change = nullptr);

// config.json, generation_config.json, safetensors and tokenizer files that transformers loads.
// type: f32, f16 or bf16. Throws core::Error: what config.json cannot say, a value beyond the type.
ConversionReport write_hugging_face_model(const Checkpoint& checkpoint,
                                          core::TensorType type,
                                          const std::filesystem::path& folder,
                                          const ConversionProgress& on_tensor = {},
                                          const ModelChange* change = nullptr);

}  // namespace adze::model
