#pragma once
// A model whose weights are f32 and have gradients. All values lie in one buffer and all gradients
// in another of the same layout, so that optimisers, norms and exchanges between workers are passes
// over plain memory.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor_type.h"
#include "model/checkpoint.h"
#include "model/model.h"

namespace adze::model {

// A tensor as files store it; its rows in the order of our weights.
struct TrainableTensor {
  std::string name;  // GGUF's
  std::vector<int64_t> shape;
  int64_t offset = 0;  // of the first value in both buffers, a multiple of 16
  int64_t count = 0;

  bool is_matrix() const { return shape.size() == 2; }
  bool is_embedding() const { return name == "token_embd.weight"; }
};

class TrainableModel {
 public:
  // All values zero. Throws core::Error: an encoder, or what spec.validate() finds.
  explicit TrainableModel(const ModelSpec& spec);

  const Model& model() const { return model_; }
  const std::vector<TrainableTensor>& tensors() const { return tensors_; }
  int64_t num_parameters() const;  // without the gaps of alignment

  // [size()] f32; gaps between tensors stay zero.
  float* values() const;
  float* gradients() const;
  int64_t size() const;

 private:
  Model model_;
  std::vector<TrainableTensor> tensors_;
  at::Tensor values_;
  at::Tensor gradients_;
};

// Norms are 1, biases 0, matrices normal with standard deviation 0.02, those that write to the
// residual stream 0.02 / sqrt(2 layers) (Radford et al. 2019, section 2.3). A value depends on seed
// and place alone.
void initialise(const TrainableModel& model, uint64_t seed);

// Values out of a checkpoint of the same spec, dequantised.
void read_values(const TrainableModel& model, const Checkpoint& checkpoint);

// A Hugging Face folder as write_hugging_face_model makes it. tokenizer: a folder with
// tokenizer.json.
void write_model(const TrainableModel& model,
                 core::TensorType type,
                 const std::filesystem::path& tokenizer,
                 const std::filesystem::path& folder);

}  // namespace adze::model
