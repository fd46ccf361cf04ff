#include "model/adapter_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "formats/quote_untrusted.h"
#include "model/config_fields.h"

namespace adze::model {
namespace {

using formats::quote_untrusted;

constexpr int64_t kMaxRank = 65536;
constexpr double kLargestAlpha = 1e6;
constexpr size_t kMaxPatterns = 4096;

// What reading looks at, and what has no effect on a trained adapter's product.
constexpr std::array<std::string_view, 27> kKnownFields = {"peft_type",
                                                           "r",
                                                           "lora_alpha",
                                                           "use_rslora",
                                                           "target_modules",
                                                           "exclude_modules",
                                                           "layers_to_transform",
                                                           "layers_pattern",
                                                           "rank_pattern",
                                                           "alpha_pattern",
                                                           "bias",
                                                           "init_lora_weights",
                                                           "auto_mapping",
                                                           "base_model_name_or_path",
                                                           "corda_config",
                                                           "eva_config",
                                                           "inference_mode",
                                                           "loftq_config",
                                                           "lora_dropout",
                                                           "lora_ga_config",
                                                           "megatron_core",
                                                           "peft_version",
                                                           "qalora_group_size",
                                                           "revision",
                                                           "runtime_config",
                                                           "task_type",
                                                           "ensure_weight_tying"};

// False, null or empty: what stands there where a feature is not in use.
bool is_unused(const nlohmann::json& value) {
  return value.is_null() || value == false || value == "" ||
         (value.is_structured() && value.empty());
}

void refuse_unknown(const nlohmann::json& root, const std::string& file) {
  for (const auto& [key, value] : root.items()) {
    if (std::find(kKnownFields.begin(), kKnownFields.end(), key) == kKnownFields.end() &&
        !is_unused(value)) {
      throw core::error("model",
                        "{}: {}: expected null, false or an empty value, got {}",
                        file,
                        quote_untrusted(key),
                        quote_untrusted(value.dump()));
    }
  }
}

text::RegularExpression compiled(const std::string& where,
                                 std::string_view prefix,
                                 const std::string& expression) {
  try {
    return text::RegularExpression(fmt::format("\\A{}(?:{})\\z", prefix, expression));
  } catch (const core::Error& failure) {
    throw core::error("model", "{}: expected a regular expression, got {}", where, failure.what());
  }
}

bool matches(const text::RegularExpression& expression, const AdapterModule& module) {
  static thread_local text::RegularExpression::Workspace workspace;
  const auto found = [&](const std::string& name) {
    text::RegularExpression::Match match{};
    workspace.begin(name.size());
    return !name.empty() && expression.find(name, 0, workspace, match);
  };
  return found(module.name) || (module.name_in_file != module.name && found(module.name_in_file));
}

ModuleSelection read_selection(const nlohmann::json& root,
                               const ConfigFields& config,
                               const std::string& file,
                               const char* key) {
  ModuleSelection selection;
  const auto value = root.find(key);
  if (value == root.end() || !value->is_string()) {
    selection.names = config.texts(key).value_or(std::vector<std::string>());
    return selection;
  }
  const auto text = value->get<std::string>();
  selection.all = text == "all-linear";
  if (!selection.all) {
    selection.expression = compiled(file + ": " + key, "", text);
  }
  return selection;
}

ModulePatterns read_patterns(const nlohmann::json& root,
                             const ConfigFields& config,
                             const std::string& file,
                             const char* key) {
  ModulePatterns patterns{.where = file + ": " + key, .entries = {}};
  if (!config.object(key)) {
    return patterns;
  }
  const nlohmann::json& object = root.at(key);
  if (object.size() > kMaxPatterns) {
    throw core::error("model",
                      "{}: expected up to {} entries, got {}",
                      patterns.where,
                      kMaxPatterns,
                      object.size());
  }
  for (const auto& [expression, value] : object.items()) {
    if (!value.is_number() || !(std::abs(value.get<double>()) <= kLargestAlpha)) {
      config.fail(key, fmt::format("numbers of magnitude up to {}", kLargestAlpha));
    }
    patterns.entries.push_back(
        {compiled(patterns.where, "(?:.*\\.)?", expression), value.get<double>()});
  }
  return patterns;
}

std::optional<std::vector<int64_t>> read_layers(const nlohmann::json& root,
                                                const ConfigFields& config,
                                                int64_t num_layers) {
  constexpr const char* kKey = "layers_to_transform";
  if (!config.has(kKey)) {
    return std::nullopt;
  }
  // What stands before a layer's number, in names of all our classes.
  const auto pattern = root.find("layers_pattern");
  const nlohmann::json usual = {nullptr, "", "layers", "layer"};
  if (pattern != root.end() && !pattern->empty() &&
      std::find(usual.begin(), usual.end(), pattern->is_array() ? pattern->front() : *pattern) ==
          usual.end()) {
    config.fail("layers_pattern", "null or \"layers\"");
  }
  const nlohmann::json& value = root.at(kKey);
  std::vector<int64_t> layers;
  for (const auto& entry : value.is_array() ? value : nlohmann::json::array({value})) {
    const auto layer = entry.is_number_integer() ? entry.get<int64_t>() : -1;
    if (layer < 0 || layer >= num_layers) {
      config.fail(kKey, fmt::format("layers from 0 to {}", num_layers - 1));
    }
    layers.push_back(layer);
  }
  return layers;
}

// Where the first values were taken from the base's weights, the base was changed as well.
void check_start(const nlohmann::json& root, const ConfigFields& config) {
  const auto start = root.find("init_lora_weights");
  const std::set<std::string> harmless = {"gaussian", "eva", "orthogonal"};
  if (start != root.end() && !start->is_null() && !start->is_boolean() &&
      !(start->is_string() && harmless.contains(start->get<std::string>()))) {
    config.fail("init_lora_weights",
                "true, false, gaussian, eva or orthogonal (others change the base's weights)");
  }
}

}  // namespace

bool ModuleSelection::has(const AdapterModule& module) const {
  const auto ends = [&](const std::string& end) {
    return module.name == end || module.name.ends_with("." + end) || module.name_in_file == end;
  };
  return all || (expression && matches(*expression, module)) ||
         std::any_of(names.begin(), names.end(), ends);
}

double ModulePatterns::value(const AdapterModule& module, double otherwise) const {
  std::optional<double> found;
  for (const Entry& entry : entries) {
    if (!matches(entry.expression, module)) {
      continue;
    }
    if (found && *found != entry.value) {
      throw core::error("model",
                        "{}: expected one value for {}, got {} and {}",
                        where,
                        module.name,
                        *found,
                        entry.value);
    }
    found = entry.value;
  }
  return found.value_or(otherwise);
}

bool AdapterConfig::adapts(const AdapterModule& module) const {
  const bool in_layer =
      !layers || std::find(layers->begin(), layers->end(), module.layer) != layers->end();
  return in_layer && targets.has(module) && !excluded.has(module);
}

AdapterConfig::Factors AdapterConfig::factors(const AdapterModule& module) const {
  const double rank = ranks.value(module, static_cast<double>(default_rank));
  if (!(rank >= 1 && rank <= static_cast<double>(kMaxRank) && rank == std::floor(rank))) {
    throw core::error("model",
                      "{}: expected whole numbers from 1 to {}, got {} for {}",
                      ranks.where,
                      kMaxRank,
                      rank,
                      module.name);
  }
  const double alpha = alphas.value(module, default_alpha);
  return {static_cast<int64_t>(rank), alpha / (by_root_of_rank ? std::sqrt(rank) : rank)};
}

AdapterConfig read_adapter_config(const std::filesystem::path& path, const ModelSpec& spec) {
  const nlohmann::json root = read_config(path);
  const std::string file = path.string();
  const ConfigFields fields(root, file);
  if (fields.text("peft_type") != "LORA") {
    fields.fail("peft_type", "\"LORA\"");
  }
  if (fields.text("bias").value_or("none") != "none") {
    fields.fail("bias", "\"none\"");
  }
  check_start(root, fields);
  refuse_unknown(root, file);

  AdapterConfig config;
  config.default_rank = fields.required_integer("r");
  if (config.default_rank < 1 || config.default_rank > kMaxRank) {
    fields.fail("r", fmt::format("1 to {}", kMaxRank));
  }
  const auto alpha = fields.number("lora_alpha");
  if (!alpha || std::abs(*alpha) > kLargestAlpha) {
    fields.fail("lora_alpha", fmt::format("a number of magnitude up to {}", kLargestAlpha));
  }
  config.default_alpha = *alpha;
  config.by_root_of_rank = fields.boolean("use_rslora").value_or(false);
  config.targets = read_selection(root, fields, file, "target_modules");
  config.excluded = read_selection(root, fields, file, "exclude_modules");
  config.layers = read_layers(root, fields, spec.num_layers);
  config.ranks = read_patterns(root, fields, file, "rank_pattern");
  config.alphas = read_patterns(root, fields, file, "alpha_pattern");
  return config;
}

}  // namespace adze::model
