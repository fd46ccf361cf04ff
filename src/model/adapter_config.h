#pragma once
// adapter_config.json of PEFT's LoRA adapters (LoraConfig,
// https://huggingface.co/docs/peft/package_reference/lora): which linear layers have factors, of
// what rank, and how their product is scaled.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/model_spec.h"
#include "text/regular_expression.h"

namespace adze::model {

// A linear layer under its name in Hugging Face's class, "model.layers.3.self_attn.q_proj", and
// under its name in the adapter's file, where classes with more than a language model add prefixes.
struct AdapterModule {
  std::string name;
  std::string name_in_file;  // empty: not in the file
  int64_t layer = 0;
};

// target_modules or exclude_modules: ends of names, or an expression of whole names.
struct ModuleSelection {
  std::vector<std::string> names;
  std::optional<text::RegularExpression> expression;
  bool all = false;

  bool has(const AdapterModule& module) const;
};

// rank_pattern or alpha_pattern: values of modules whose names end as an expression says.
struct ModulePatterns {
  struct Entry {
    text::RegularExpression expression;
    double value;
  };
  std::string where;  // file and field
  std::vector<Entry> entries;

  // Throws core::Error where two entries with other values match.
  double value(const AdapterModule& module, double otherwise) const;
};

struct AdapterConfig {
  ModuleSelection targets;
  ModuleSelection excluded;
  std::optional<std::vector<int64_t>> layers;  // layers_to_transform; none: all
  int64_t default_rank = 0;                    // "r"
  double default_alpha = 0;                    // lora_alpha
  bool by_root_of_rank = false;                // use_rslora
  ModulePatterns ranks;
  ModulePatterns alphas;

  bool adapts(const AdapterModule& module) const;
  struct Factors {
    int64_t rank;  // 1 to 65536
    double scale;  // alpha / rank, or alpha / sqrt(rank)
  };
  Factors factors(const AdapterModule& module) const;  // throws core::Error
};

// Throws core::Error that names file, field, value and legal range. What the arithmetic here lacks
// is refused, and so is a field of an unknown name unless it is null, false or empty.
AdapterConfig read_adapter_config(const std::filesystem::path& file, const ModelSpec& spec);

}  // namespace adze::model
