#include "kv/cache_registry.h"

#include <utility>

#include "core/error.h"
#include "kernels/kv_codec/grouped_codec.h"
#include "kv/eviction_policies.h"

namespace adze::kv {

kernels::AttentionShape attention_shape(const model::ModelSpec& spec) {
  return {.heads = spec.heads,
          .kv_heads = spec.kv_heads,
          .head_dim = spec.head_dim,
          .scale = static_cast<float>(spec.score_scale()),
          .softcap = static_cast<float>(spec.attention_softcap)};
}

namespace {

using kernels::PageType;

struct KiviOptions {
  int64_t bits = 4;

  void validate() const {
    if (bits != 2 && bits != 4) {
      throw core::InvalidOption("kv-store kivi: bits", std::to_string(bits), "2 or 4");
    }
  }

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("bits", self.bits, "bits a number, 2 or 4");
  }
};

KvStorePtr make_kivi_store(const KiviOptions& options, const kernels::AttentionShape& shape) {
  return make_coded_store(fmt::format("kivi:bits={}", options.bits),
                          kernels::make_kivi_codec(shape.kv_heads, shape.head_dim, options.bits),
                          shape);
}

StoreEntry plain_store(kernels::PageType raw, kernels::PageType sealed, std::string summary) {
  return {.name = std::string(kernels::page_type_name(sealed)),
          .summary = std::move(summary),
          .defaults = nlohmann::json::object(),
          .help = {},
          .make = [raw, sealed](const model::ModelSpec& spec, const nlohmann::json&) {
            return make_plain_store(raw, sealed, attention_shape(spec));
          }};
}

template <class Entry>
nlohmann::ordered_json entries_json(const std::vector<Entry>& entries) {
  auto list = nlohmann::ordered_json::array();
  for (const Entry& entry : entries) {
    auto keys = nlohmann::ordered_json::array();
    for (const auto& [key, value] : entry.defaults.items()) {
      keys.push_back({{"name", key}, {"default", value}, {"legal", entry.help.at(key)}});
    }
    list.push_back({{"name", entry.name}, {"summary", entry.summary}, {"keys", keys}});
  }
  return list;
}

}  // namespace

nlohmann::ordered_json choices_json() {
  return {{"stores", entries_json(store_entries())}, {"policies", entries_json(policy_entries())}};
}

std::vector<StoreEntry>& store_entries() {
  static std::vector<StoreEntry> entries = {
      plain_store(PageType::kF32, PageType::kF32, "exact, 4 bytes a value"),
      plain_store(PageType::kF16, PageType::kF16, "half precision, 2 bytes a value"),
      plain_store(PageType::kBF16, PageType::kBF16, "8 bits of precision, 2 bytes a value"),
      plain_store(PageType::kF16, PageType::kInt8, "8-bit multiples of a scale a token and head"),
      {.name = "int4",
       .summary = "4-bit steps between a token's extremes in a head",
       .defaults = nlohmann::json::object(),
       .help = {},
       .make =
           [](const model::ModelSpec& spec, const nlohmann::json&) {
             return make_coded_store("int4",
                                     kernels::make_int4_codec(spec.kv_heads, spec.head_dim),
                                     attention_shape(spec));
           }},
      make_store_entry<KiviOptions>(
          "kivi", "steps a channel for keys, a token for values, in groups of 32", make_kivi_store),
  };
  return entries;
}

std::vector<PolicyEntry>& policy_entries() {
  static std::vector<PolicyEntry> entries = {
      {.name = "full",
       .summary = "every token stays",
       .defaults = nlohmann::json::object(),
       .help = {},
       .make = [](const nlohmann::json&) { return make_full_policy(); }},
      make_policy_entry<WindowOptions>(
          "window", "the first and the last tokens stay (attention sinks)", make_window_policy),
      make_policy_entry<H2oOptions>(
          "h2o", "the last tokens and those that received most attention", make_h2o_policy),
      make_policy_entry<SnapKvOptions>("snapkv",
                                       "what the prompt's last tokens look at; answers stay whole",
                                       make_snapkv_policy),
      make_policy_entry<PyramidKvOptions>("pyramidkv",
                                          "as snapkv, more in the first layers than in the last",
                                          make_pyramidkv_policy),
      make_policy_entry<TovaOptions>("tova", "what the newest token looks at", make_tova_policy),
      make_policy_entry<KnormOptions>("knorm", "tokens with short keys", make_knorm_policy),
      make_policy_entry<KeyDiffOptions>(
          "keydiff", "tokens whose keys differ from the rest", make_keydiff_policy),
  };
  return entries;
}

KvStorePtr make_store(std::string_view text, const model::ModelSpec& spec) {
  const auto [entry, values] = core::parse_named("kv-store", text, store_entries());
  return entry->make(spec, values);
}

KvPolicyPtr make_policy(std::string_view text) {
  const auto [entry, values] = core::parse_named("kv-policy", text, policy_entries());
  return entry->make(values);
}

void check_store(std::string_view text) {
  // Keys are judged by themselves; a store may want channels in groups of up to 64.
  model::ModelSpec any;
  any.heads = any.kv_heads = 1;
  any.head_dim = 64;
  make_store(text, any);
}

}  // namespace adze::kv
