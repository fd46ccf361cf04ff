#pragma once
// A model whose weights are f32 and have gradients. All values lie in one buffer and all gradients
// in another of the same layout, so that optimisers, norms and exchanges between workers are passes
// over plain memory.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
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

// Low-rank factors (LoRA: Hu et al., arXiv:2106.09685) that are trained instead of the weights.
struct LowRankOptions {
  int64_t rank = 0;  // 0: the weights themselves are trained
  double alpha = 16;
  std::vector<std::string> targets = {"q_proj", "k_proj", "v_proj", "o_proj"};

  void validate() const;  // throws InvalidOption: field, value, legal range

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("lora-rank",
          self.rank,
          "train factors of this rank beside a model's weights; 0: the weights");
    visit("lora-alpha", self.alpha, "factors count alpha / rank times");
    visit("lora-targets",
          self.targets,
          "linear layers that get factors, by the ends of their Hugging Face names, or all-linear");
  }
};

class TrainableModel {
 public:
  // All values zero. Throws core::Error: an encoder, or what spec.validate() finds.
  explicit TrainableModel(const ModelSpec& spec);
  // The base with factors of zero; tensors() are the factors alone. It shares the base's weights,
  // which stay in whatever form they are. Throws core::Error: an encoder, targets that the model
  // lacks.
  TrainableModel(const Model& base, const LowRankOptions& options);

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

// Factors: the first uniform within 1 / sqrt(columns), the second 0, so that the sum is the base.
void initialise_factors(const TrainableModel& model, uint64_t seed);

// Values out of a checkpoint of the same spec, dequantised.
void read_values(const TrainableModel& model, const Checkpoint& checkpoint);

// Factors as an adapter's folder in PEFT's format. base_name: what it says it belongs to.
void write_factors(const TrainableModel& model,
                   const LowRankOptions& options,
                   const std::string& base_name,
                   const std::filesystem::path& folder);

// A Hugging Face folder as write_hugging_face_model makes it. tokenizer: a folder with
// tokenizer.json. chat_template: none: the one in that folder, where it has one.
void write_model(const TrainableModel& model,
                 core::TensorType type,
                 const std::filesystem::path& tokenizer,
                 const std::filesystem::path& folder,
                 const std::optional<std::string>& chat_template = std::nullopt);

}  // namespace adze::model
