// The adapter side of TrainableModel: low-rank factors over the linear layers of a model's blocks.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/error.h"
#include "core/rng.h"
#include "formats/safetensors.h"
#include "model/architectures.h"
#include "model/layer_weights.h"
#include "model/tensor_names.h"
#include "model/trainable_model.h"
#include "tensor/leaf.h"

namespace adze::model {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kDown = ".lora_a";  // as GGUF names an adapter's tensors
constexpr std::string_view kUp = ".lora_b";

// A matrix of a layer that factors can stand beside.
struct Target {
  std::string name;    // GGUF's: "blk.3.attn_q.weight"
  std::string module;  // Hugging Face's: "model.layers.3.self_attn.q_proj"
  std::string stem;    // "attn_q"
  int64_t layer;
  int64_t outputs;
  int64_t columns;
};

std::vector<Target> all_targets(const ModelSpec& spec) {
  std::vector<Target> targets;
  for (const ExpectedTensor& tensor : expected_tensors(spec)) {
    if (tensor.layer < 0 || tensor.shape.size() != 2) {
      continue;
    }
    std::string module = *hf_name(architecture(spec.architecture), tensor.name);
    module.resize(module.size() - kWeight.size());
    const size_t stem = tensor.name.find('.', tensor.name.find('.') + 1) + 1;  // after "blk.12."
    targets.push_back({tensor.name,
                       std::move(module),
                       tensor.name.substr(stem, tensor.name.size() - kWeight.size() - stem),
                       tensor.layer,
                       tensor.shape[0],
                       tensor.shape[1]});
  }
  return targets;
}

bool ends_with_name(const std::string& module, const std::string& name) {
  return name == "all-linear" || module == name || module.ends_with("." + name);
}

std::vector<Target> chosen_targets(const ModelSpec& spec, const LowRankOptions& options) {
  const std::vector<Target> all = all_targets(spec);
  for (const std::string& name : options.targets) {
    if (std::none_of(all.begin(), all.end(), [&](const Target& target) {
          return ends_with_name(target.module, name);
        })) {
      throw core::error("train",
                        "lora-targets: expected linear layers in a {} model's blocks, such as {}, "
                        "got {}",
                        spec.architecture,
                        all.front().module,
                        name);
    }
  }
  std::vector<Target> chosen;
  std::copy_if(all.begin(), all.end(), std::back_inserter(chosen), [&](const Target& target) {
    return std::any_of(options.targets.begin(), options.targets.end(), [&](const auto& name) {
      return ends_with_name(target.module, name);
    });
  });
  return chosen;
}

}  // namespace

void LowRankOptions::validate() const {
  if (rank < 0 || rank > 65536) {
    throw core::InvalidOption("lora-rank", std::to_string(rank), "0 to 65536");
  }
  if (!(alpha > 0 && alpha <= 1e6)) {
    throw core::InvalidOption("lora-alpha", fmt::format("{}", alpha), "above 0, up to 1e6");
  }
  if (targets.empty()) {
    throw core::InvalidOption("lora-targets", "none", "one or more");
  }
}

TrainableModel::TrainableModel(const Model& base, const LowRankOptions& options) : model_(base) {
  const ModelSpec& spec = model_.spec;
  if (!spec.causal) {
    throw core::error("train", "expected a model that writes text, got {}", spec.architecture);
  }
  const std::vector<Target> targets = chosen_targets(spec, options);
  int64_t end = 0;
  const auto add = [&](std::string name, int64_t rows, int64_t columns) {
    tensors_.push_back({std::move(name), {rows, columns}, end, rows * columns});
    end += (rows * columns + 15) / 16 * 16;
  };
  for (const Target& target : targets) {
    add(target.name + std::string(kDown), options.rank, target.columns);
    add(target.name + std::string(kUp), target.outputs, options.rank);
  }
  values_ = tensor::zero_floats(end);
  gradients_ = tensor::zero_floats(end);
  const double scale = options.alpha / static_cast<double>(options.rank);
  for (size_t i = 0; i < targets.size(); ++i) {
    const TrainableTensor& down = tensors_[2 * i];
    int64_t offset = tensors_[2 * i + 1].offset;
    Layer& layer = model_.layers[static_cast<size_t>(targets[i].layer)];
    // Parts of a fused matrix share the first factor.
    const at::Tensor down_leaf = tensor::make_leaf(values_, gradients_, down.offset, down.shape);
    for (const WeightRows& part : weights_in(spec, targets[i].stem, false)) {
      const auto rows = static_cast<int64_t>(part.rows.size());
      const std::vector<int64_t> shape = {rows, options.rank};
      tensor::LinearWeightPtr& weight = layer.*part.weight;
      weight = tensor::make_trained_low_rank_weight(
          weight, down_leaf, tensor::make_leaf(values_, gradients_, offset, shape), scale);
      offset += rows * options.rank;
    }
  }
}

void initialise_factors(const TrainableModel& model, uint64_t seed) {
  uint64_t stream = 0;
  for (const TrainableTensor& tensor : model.tensors()) {
    float* values = model.values() + tensor.offset;
    const core::Rng rng(seed, ++stream);
    const double width =
        tensor.name.ends_with(kDown) ? 1 / std::sqrt(static_cast<double>(tensor.shape[1])) : 0;
    for (int64_t i = 0; i < tensor.count; ++i) {
      values[i] = static_cast<float>(width * (2 * rng.uniform_at(static_cast<uint64_t>(i)) - 1));
    }
  }
}

void write_factors(const TrainableModel& model,
                   const LowRankOptions& options,
                   const std::string& base_name,
                   const std::filesystem::path& folder) {
  const ModelSpec& spec = model.model().spec;
  const std::vector<Target> targets = chosen_targets(spec, options);
  std::vector<formats::TensorOutput> outputs;
  for (size_t i = 0; i < model.tensors().size(); ++i) {
    const TrainableTensor& tensor = model.tensors()[i];
    const Target& target = targets[i / 2];
    const bool down = tensor.name.ends_with(kDown);
    // Files have the rows of queries and keys in an order of their own.
    std::vector<int64_t> stored_rows;
    for (const WeightRows& part : weights_in(spec, target.stem, false)) {
      stored_rows.insert(stored_rows.end(), part.rows.begin(), part.rows.end());
    }
    outputs.push_back(
        {.name = fmt::format("base_model.model.{}.lora_{}.weight", target.module, down ? "A" : "B"),
         .type = core::TensorType::kF32,
         .shape = tensor.shape,
         .fill = [&model, &tensor, down, stored_rows](std::span<std::byte> bytes) {
           const float* values = model.values() + tensor.offset;
           const auto row_bytes = static_cast<size_t>(tensor.shape[1]) * sizeof(float);
           for (int64_t row = 0; row < tensor.shape[0]; ++row) {
             const int64_t place = down ? row : stored_rows[static_cast<size_t>(row)];
             std::memcpy(bytes.data() + static_cast<size_t>(place) * row_bytes,
                         values + row * tensor.shape[1],
                         row_bytes);
           }
         }});
  }
  std::filesystem::create_directories(folder);
  formats::write_safetensors(folder, outputs, std::numeric_limits<int64_t>::max());
  std::filesystem::rename(folder / "model.safetensors", folder / "adapter_model.safetensors");
  core::AtomicFile file(folder / "adapter_config.json");
  nlohmann::ordered_json config{{"peft_type", "LORA"},
                                {"task_type", "CAUSAL_LM"},
                                {"base_model_name_or_path", base_name},
                                {"r", options.rank},
                                {"lora_alpha", options.alpha},
                                {"target_modules", options.targets},
                                {"lora_dropout", 0.0},
                                {"bias", "none"},
                                {"inference_mode", true}};
  if (options.targets == std::vector<std::string>{"all-linear"}) {
    config["target_modules"] = "all-linear";
  }
  file.write(config.dump(2) + "\n");
  file.commit();
}

}  // namespace adze::model
