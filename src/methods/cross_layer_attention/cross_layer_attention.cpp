#include "methods/cross_layer_attention/cross_layer_attention.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "model/architectures.h"
#include "model/kv_sharing.h"

namespace adze::methods {
namespace {

constexpr const char* kOption = "cla";

// The whole text as a number.
std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = code == std::errc() && stop == text.data() + text.size();
  return whole ? std::optional(value) : std::nullopt;
}

// nullopt: not in this form.
std::optional<std::vector<int64_t>> factor_layout(std::string_view text, int64_t num_layers) {
  constexpr std::string_view kFirst = ":remainder=first";
  constexpr std::string_view kLast = ":remainder=last";
  std::string_view digits = text;
  const bool last = digits.ends_with(kLast);
  if (last || digits.ends_with(kFirst)) {
    digits.remove_suffix(last ? kLast.size() : kFirst.size());
  }
  const auto factor = number(digits);
  if (!factor) {
    return std::nullopt;
  }
  if (*factor < 1 || *factor > num_layers) {
    throw core::InvalidOption(kOption, text, fmt::format("a factor from 1 to {}", num_layers));
  }
  return model::grouped_kv_sources(
      num_layers, *factor, last ? model::ShortGroup::kLast : model::ShortGroup::kFirst);
}

std::optional<std::vector<int64_t>> listed_layout(std::string_view text, int64_t num_layers) {
  std::vector<int64_t> sources;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const auto source = number(text.substr(begin, end - begin));
    if (!source) {
      return std::nullopt;
    }
    sources.push_back(*source);
    begin = end + 1;
  }
  if (std::cmp_not_equal(sources.size(), num_layers)) {
    throw core::InvalidOption(kOption, text, fmt::format("{} owners, one a layer", num_layers));
  }
  return sources;
}

// Which tensors of a layer make its keys and values.
std::vector<std::string> key_value_tensors(const model::ModelSpec& spec, int64_t layer) {
  std::vector<std::string> stems = {"attn_k.weight", "attn_v.weight"};
  if (spec.query_key_value_bias) {
    stems.insert(stems.end(), {"attn_k.bias", "attn_v.bias"});
  }
  if (spec.query_key_norm) {
    stems.emplace_back("attn_k_norm.weight");
  }
  if (spec.key_value_norm) {
    stems.emplace_back("attn_kv_norm.weight");
  }
  for (std::string& stem : stems) {
    stem = fmt::format("blk.{}.{}", layer, stem);
  }
  return stems;
}

void refuse_unsuitable(const model::ModelSpec& spec) {
  if (!spec.causal) {
    throw core::error(kOption, "expected a model that writes text, got {}", spec.architecture);
  }
  if (model::architecture(spec.architecture).fused_projections) {
    throw core::error(kOption,
                      "expected a model with key and value matrices of their own, got {}",
                      spec.architecture);
  }
  if (spec.kv_source != model::own_kv_sources(spec.num_layers)) {
    throw core::error(kOption,
                      "expected a model whose layers all own keys and values, got groups {}",
                      model::kv_groups_text(spec.kv_source));
  }
}

}  // namespace

// [05 §2.3] KeepEnds. DEVIATION: of an odd number of layers, layer 1 stands alone too; the paper
// has 20.
std::vector<int64_t> keep_ends_layout(int64_t num_layers) {
  core::check(num_layers >= 2, "2 layers or more, got ", num_layers);
  std::vector<int64_t> sources = {0};
  for (const int64_t inner :
       model::grouped_kv_sources(num_layers - 2, 2, model::ShortGroup::kFirst)) {
    sources.push_back(inner + 1);
  }
  sources.push_back(num_layers - 1);
  return sources;
}

// [05 §2.3] DenseFront
std::vector<int64_t> dense_front_layout(int64_t num_layers) {
  core::check(num_layers >= 2, "2 layers or more, got ", num_layers);
  std::vector<int64_t> sources = model::own_kv_sources(num_layers);
  for (int64_t layer = num_layers / 2; layer < num_layers - 1; ++layer) {
    sources[static_cast<size_t>(layer)] = num_layers / 2 - 1;
  }
  return sources;
}

// [05 §2.3] DenseBack, read so that 20 layers have 11 owners.
std::vector<int64_t> dense_back_layout(int64_t num_layers) {
  core::check(num_layers >= 2, "2 layers or more, got ", num_layers);
  std::vector<int64_t> sources = model::own_kv_sources(num_layers);
  for (int64_t layer = 2; layer <= num_layers / 2; ++layer) {
    sources[static_cast<size_t>(layer)] = 1;
  }
  return sources;
}

std::vector<int64_t> kv_layout(std::string_view text, int64_t num_layers) {
  if (auto layout = factor_layout(text, num_layers)) {
    return *layout;
  }
  using Layout = std::vector<int64_t> (*)(int64_t);
  const std::pair<std::string_view, Layout> named[] = {{"keep-ends", keep_ends_layout},
                                                       {"dense-front", dense_front_layout},
                                                       {"dense-back", dense_back_layout}};
  for (const auto& [name, layout] : named) {
    if (text == name && num_layers < 2) {
      throw core::InvalidOption(kOption, text, "a factor where the model has one layer");
    }
    if (text == name) {
      return layout(num_layers);
    }
  }
  if (auto layout = listed_layout(text, num_layers)) {
    return *layout;
  }
  throw core::InvalidOption(kOption, text, kKvLayoutForms);
}

// [05 §6.9] the start of uptraining
model::ModelChange sharing_copy(const model::Checkpoint& checkpoint,
                                const std::vector<int64_t>& kv_source) {
  refuse_unsuitable(checkpoint.spec);
  model::ModelChange change{.spec = checkpoint.spec, .left_out = {}, .means = {}};
  change.spec.kv_source = kv_source;
  change.spec.validate();
  for (int64_t layer = 0; layer < change.spec.num_layers; ++layer) {
    const int64_t owner = kv_source[static_cast<size_t>(layer)];
    const auto names = key_value_tensors(checkpoint.spec, layer);
    const auto owner_names = key_value_tensors(checkpoint.spec, owner);
    for (size_t i = 0; i < names.size(); ++i) {
      if (layer == owner) {
        continue;
      }
      std::vector<std::string>& parts = change.means[owner_names[i]];
      if (parts.empty()) {
        parts.push_back(owner_names[i]);
      }
      parts.push_back(names[i]);
      change.left_out.insert(names[i]);
    }
  }
  return change;
}

}  // namespace adze::methods
