#pragma once
// Names of stores and policies, with their options: "window:sinks=4,window=1020". Methods add
// theirs in app/, explicitly, before anything is looked up.

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/options.h"
#include "kv/kv_policy.h"
#include "kv/kv_store.h"
#include "model/model_spec.h"

namespace adze::kv {

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

std::vector<StoreEntry>& store_entries();
std::vector<PolicyEntry>& policy_entries();

// Throws core::UsageError: unknown name or key (with the nearest), a value out of range.
KvStorePtr make_store(std::string_view text, const model::ModelSpec& spec);
KvPolicyPtr make_policy(std::string_view text);

}  // namespace adze::kv
