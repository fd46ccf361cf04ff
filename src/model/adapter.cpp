#include "model/adapter.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "formats/quote_untrusted.h"
#include "formats/safetensors.h"
#include "model/adapter_config.h"
#include "model/architectures.h"
#include "model/layer_weights.h"
#include "model/tensor_names.h"

namespace adze::model {
namespace {

using formats::quote_untrusted;
using formats::StoredTensor;

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kDown = ".lora_A.weight";
constexpr std::string_view kUp = ".lora_B.weight";
constexpr std::string_view kWeight = ".weight";

// A matrix of a layer, as the base's files have it, and what the adapter has for it.
struct Target {
  AdapterModule module;
  std::string stem;  // "attn_q"
  int64_t outputs = 0;
  int64_t columns = 0;
  const StoredTensor* down = nullptr;  // lora_A [rank, columns]
  const StoredTensor* up = nullptr;    // lora_B [outputs, rank]
};
using Targets = std::map<std::string, Target>;  // by GGUF's name

Targets targets_of(const ModelSpec& spec) {
  const Architecture& entry = architecture(spec.architecture);
  Targets targets;
  for (const ExpectedTensor& tensor : expected_tensors(spec)) {
    if (tensor.layer < 0 || tensor.shape.size() != 2) {
      continue;
    }
    std::string name = *hf_name(entry, tensor.name);
    name.resize(name.size() - kWeight.size());
    const size_t stem = tensor.name.find('.', tensor.name.find('.') + 1) + 1;  // after "blk.12."
    targets[tensor.name] = {
        .module = {.name = std::move(name), .name_in_file = {}, .layer = tensor.layer},
        .stem = tensor.name.substr(stem, tensor.name.size() - kWeight.size() - stem),
        .outputs = tensor.shape[0],
        .columns = tensor.shape[1]};
  }
  return targets;
}

class Adapter {
 public:
  Adapter(const Model& base, const std::filesystem::path& folder)
      : base_(base),
        config_path_((folder / "adapter_config.json").string()),
        config_(read_adapter_config(config_path_, base.spec)),
        file_(folder / "adapter_model.safetensors"),
        targets_(targets_of(base.spec)) {
    check_names();
    for (const StoredTensor& tensor : file_.tensors()) {
      place(tensor);
    }
    if (!file_.skipped().empty()) {
      refuse(file_.skipped().front().name);
    }
    check_complete();
  }

  void apply_to(Model& model) const {
    for (const auto& [name, target] : targets_) {
      if (target.down != nullptr) {
        adapt(target, model.layers[static_cast<size_t>(target.module.layer)]);
      }
    }
  }

 private:
  [[noreturn]] void refuse(std::string_view tensor) const {
    throw core::error("model",
                      "{}: tensor {}: expected lora_A and lora_B of linear layers in a {} model's "
                      "blocks",
                      file_.path().string(),
                      quote_untrusted(tensor),
                      base_.spec.architecture);
  }

  // PEFT leaves out names that are nowhere; here each has to be somewhere.
  void check_names() const {
    for (const std::string& name : config_.targets.names) {
      const ModuleSelection one{.names = {name}, .expression = {}};
      if (std::none_of(targets_.begin(), targets_.end(), [&](const auto& target) {
            return one.has(target.second.module);
          })) {
        throw core::error("model",
                          "{}: target_modules: expected linear layers in a {} model's blocks, such "
                          "as {}, got {}",
                          config_path_,
                          base_.spec.architecture,
                          targets_.begin()->second.module.name,
                          quote_untrusted(name));
      }
    }
  }

  void place(const StoredTensor& tensor) {
    const std::string_view name = tensor.name;
    const bool down = name.ends_with(kDown);
    if (!name.starts_with(kPrefix) || !(down || name.ends_with(kUp)) ||
        name.size() <= kPrefix.size() + kDown.size()) {
      refuse(name);
    }
    const std::string module(
        name.substr(kPrefix.size(), name.size() - kPrefix.size() - kDown.size()));
    const auto known =
        gguf_name(architecture(base_.spec.architecture), module + std::string(kWeight));
    const auto found = known ? targets_.find(*known) : targets_.end();
    if (found == targets_.end()) {
      refuse(name);
    }
    Target& target = found->second;
    const StoredTensor*& factor = down ? target.down : target.up;
    if (factor != nullptr ||
        (!target.module.name_in_file.empty() && target.module.name_in_file != module)) {
      throw core::error("model",
                        "{}: tensor {}: expected one tensor for {}, got two",
                        file_.path().string(),
                        quote_untrusted(name),
                        *known);
    }
    target.module.name_in_file = module;
    factor = &tensor;
  }

  void check_complete() const {
    bool any = false;
    for (const auto& [name, target] : targets_) {
      const bool wanted = config_.adapts(target.module);
      any = any || wanted;
      if (!wanted && (target.down != nullptr || target.up != nullptr)) {
        throw core::error("model",
                          "{}: target_modules: expected to take in {}, which has tensors in the "
                          "file",
                          config_path_,
                          target.module.name);
      }
      if (wanted) {
        const int64_t rank = config_.factors(target.module).rank;
        check_factor(target, target.down, kDown, {rank, target.columns});
        check_factor(target, target.up, kUp, {target.outputs, rank});
      }
    }
    if (!any) {
      throw core::error(
          "model", "{}: target_modules: expected at least one layer, got none", config_path_);
    }
  }

  void check_factor(const Target& target,
                    const StoredTensor* factor,
                    std::string_view suffix,
                    const std::vector<int64_t>& shape) const {
    const std::string expected = fmt::format("{}: tensor {}{}{}: expected shape [{}]",
                                             file_.path().string(),
                                             kPrefix,
                                             target.module.name,
                                             suffix,
                                             fmt::join(shape, ", "));
    if (factor == nullptr) {
      throw core::error("model", "{}, got no such tensor", expected);
    }
    if (factor->shape != shape) {
      throw core::error("model", "{}, got [{}]", expected, fmt::join(factor->shape, ", "));
    }
  }

  void adapt(const Target& target, Layer& layer) const {
    const auto [rank, scale] = config_.factors(target.module);
    tensor::StoredRows down{target.down->type, {}};
    const int64_t down_bytes = core::row_bytes(down.type, target.columns);
    for (int64_t row = 0; row < rank; ++row) {
      down.rows.push_back(target.down->data.data() + row * down_bytes);
    }
    const int64_t up_bytes = core::row_bytes(target.up->type, rank);
    // Of a fused matrix each part gets a copy of `down`, which is small.
    for (const WeightRows& part : weights_in(base_.spec, target.stem, false)) {
      tensor::LinearWeightPtr& weight = layer.*part.weight;
      tensor::StoredRows up{target.up->type, {}};
      for (const int64_t row : part.rows) {
        up.rows.push_back(target.up->data.data() + row * up_bytes);
      }
      weight = tensor::make_low_rank_weight(weight, down, up, scale);
    }
  }

  const Model& base_;
  std::string config_path_;
  AdapterConfig config_;
  formats::SafetensorsFolder file_;
  Targets targets_;
};

}  // namespace

ModelPtr load_adapter(ModelPtr base, const std::filesystem::path& folder) {
  auto model = std::make_shared<Model>(*base);
  Adapter(*base, folder).apply_to(*model);
  model->spec.name +=
      " + " +
      std::filesystem::absolute(folder / "").lexically_normal().parent_path().filename().string();
  return model;
}

}  // namespace adze::model
