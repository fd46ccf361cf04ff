#pragma once
// What a cache setting costs and what it saves: a model reads windows of a text under a grid of
// policies, stores and budgets, beside the full cache in f16.
//
// A window's first half is its prompt. Its second half follows in turns of 32 tokens, each row
// attending to what the cache then holds; policies cut at each turn's end, those of prompts alone
// as well (`reapplied`). Losses are of the second half.

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "infer/loaded_model.h"

namespace adze::eval {

struct CacheLabOptions {
  std::vector<std::string> policies = {"full", "window", "snapkv"};
  std::vector<std::string> stores = {"f16", "int8", "int4"};
  std::vector<double> budgets = {1, 0.5};
  std::vector<std::string> measures = {"perplexity", "agreement", "needle", "speed"};
  int64_t context = 2048;
  int64_t chunks = 8;

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("policies", self.policies, "cache policies, NAME[:key=value,...]");
    visit("stores", self.stores, "cache stores, NAME[:key=value,...]");
    visit("budgets", self.budgets, "shares of the full cache's tokens, above 0, at most 1");
    visit("measures",
          self.measures,
          "what to measure: perplexity, agreement (with the full cache: top-1 and KL), needle, "
          "speed");
    visit("context", self.context, "tokens a window, 128 to the model's context, a multiple of 64");
    visit("chunks", self.chunks, "windows, 1 or more");
  }
};

struct CacheLabRow {
  std::string policy;  // as given
  std::string store;   // as given
  double budget = 1;
  std::string skipped;  // why there is nothing to measure; empty: measured
  bool reapplied = false;
  bool pareto = false;  // no other row has both fewer bytes and a lower perplexity
  std::optional<double> perplexity;
  std::optional<double> top1_agreement;  // share of rows with the full cache's likeliest token
  std::optional<double> kl;              // mean of KL(full || this), nats a row
  std::optional<double> needle_recall;   // share of hidden sentences that are answered
  std::optional<double> cache_bytes_per_token;
  std::optional<double> prefill_tokens_per_second;
  std::optional<double> decode_tokens_per_second;
};

// Called with steps done and steps in all, and what is being measured.
using CacheLabProgress = std::function<void(int64_t, int64_t, const std::string&)>;

// text: tokens of the text, at least chunks * context. Throws core::Error: too short;
// core::UsageError: unknown policy, store, key or measure. A cell that cannot exist is a row with
// `skipped`.
std::vector<CacheLabRow> cache_lab(const infer::LoadedModel& loaded,
                                   std::span<const int32_t> text,
                                   const CacheLabOptions& options,
                                   const CacheLabProgress& on_progress);

}  // namespace adze::eval
