#pragma once
// Names of stores and policies, with their options: "window:sinks=4,window=1020". Methods add
// theirs in methods/register_methods.cpp, explicitly, before anything is looked up.

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/named_options.h"
#include "kv/kv_policy.h"
#include "kv/kv_store.h"
#include "model/model_spec.h"

namespace adze::kv {

kernels::AttentionShape attention_shape(const model::ModelSpec& spec);

struct StoreEntry {
  std::string name;
  std::string summary;
  nlohmann::json defaults;                  // every key with its default
  std::map<std::string, std::string> help;  // of every key
  std::function<KvStorePtr(const model::ModelSpec&, const nlohmann::json& options)> make;
};

struct PolicyEntry {
  std::string name;
  std::string summary;
  nlohmann::json defaults;
  std::map<std::string, std::string> help;
  std::function<KvPolicyPtr(const nlohmann::json& options)> make;
};

// Entries whose keys are the fields of Options.
template <class Options>
PolicyEntry make_policy_entry(std::string name,
                              std::string summary,
                              KvPolicyPtr (*make)(const Options&)) {
  return {.name = std::move(name),
          .summary = std::move(summary),
          .defaults = core::option_defaults<Options>(),
          .help = core::option_help<Options>(),
          .make = [make](const nlohmann::json& values) {
            return make(core::read_options<Options>(values));
          }};
}
template <class Options>
StoreEntry make_store_entry(std::string name,
                            std::string summary,
                            KvStorePtr (*make)(const Options&, const kernels::AttentionShape&)) {
  return {.name = std::move(name),
          .summary = std::move(summary),
          .defaults = core::option_defaults<Options>(),
          .help = core::option_help<Options>(),
          .make = [make](const model::ModelSpec& spec, const nlohmann::json& values) {
            return make(core::read_options<Options>(values), attention_shape(spec));
          }};
}

std::vector<StoreEntry>& store_entries();
std::vector<PolicyEntry>& policy_entries();

// {stores, policies}, each [{name, summary, keys: [{name, default, legal}]}].
nlohmann::ordered_json choices_json();

// Throws core::UsageError: unknown name or key (with the nearest), a value out of range.
KvStorePtr make_store(std::string_view text, const model::ModelSpec& spec);
KvPolicyPtr make_policy(std::string_view text);
// Where there is no model yet. Throws as make_store() does.
void check_store(std::string_view text);

}  // namespace adze::kv
