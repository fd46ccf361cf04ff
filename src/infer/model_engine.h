#pragma once
// The engine behind the scheduler: one model and its adapters, one page pool, one prefix cache.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "infer/prefix_cache.h"
#include "infer/step_engine.h"
#include "kv/rotation.h"
#include "kv/sequence.h"
#include "model/model.h"

namespace adze::infer {

struct ModelEngineOptions {
  int64_t cache_bytes = 0;
  int64_t context = 0;  // 0: the model's
};

class ModelEngine : public StepEngine {
 public:
  // models: the model, then its adapters (CacheChoice::adapter).
  ModelEngine(std::vector<model::ModelPtr> models, const ModelEngineOptions& options);
  ~ModelEngine() override;

  int64_t vocab_size() const override { return models_.front()->spec.vocab_size; }
  int64_t context() const override { return context_; }
  int64_t cache_bytes() const override { return pool_.budget_bytes(); }
  int64_t most_bytes(const CacheChoice& choice, int64_t tokens) const override;
  bool evicts(const CacheChoice& choice) const override;
  // Any thread. Throws core::UsageError: not with this model and context.
  void check(const CacheChoice& choice) const;
  // Store and policy with all their keys, so that equal ones are spelt alike. Any thread.
  CacheChoice spelt_out(CacheChoice choice) const;
  // Any thread: whether load() would take a text of so many tokens. Throws core::Error.
  void check_saved(const CacheChoice& choice, core::StateReader& reader, int64_t tokens) const;
  bool recomputable(const CacheChoice& choice) const override;

  std::optional<int64_t> whole_prompt(const CacheChoice& choice) const override;
  std::unique_ptr<CachedText> open(const CacheChoice& choice,
                                   std::span<const int32_t> tokens,
                                   int64_t reserved,
                                   bool reuses) override;
  std::unique_ptr<CachedText> load(const CacheChoice& choice, core::StateReader& reader) override;
  void publish(const CachedText& text, std::span<const int32_t> tokens) override;
  std::vector<const float*> step(std::span<const StepPart> parts) override;
  int64_t free_bytes() const override { return pool_.budget_bytes() - pool_.used_bytes(); }
  void reclaim(int64_t bytes) override;
  int64_t reclaimable_bytes() const override { return prefixes_.unused_bytes(); }

  int64_t num_slots() const { return layout_->num_slots; }
  const kv::PagePool& pool() const { return pool_; }
  const PrefixCache& prefixes() const { return prefixes_; }

 private:
  class Text;

  kv::KvStorePtr store(const std::string& name);
  kv::KvPolicyPtr policy(const std::string& name);
  std::unique_ptr<Text> new_text(const CacheChoice& choice);
  std::string prefix_key(const CacheChoice& choice, const kv::Sequence& sequence) const;

  std::vector<model::ModelPtr> models_;
  int64_t context_;
  kv::CacheLayoutPtr layout_;
  kv::PagePool pool_;
  kv::Rotation rotation_;
  PrefixCache prefixes_;
  // One of each name, so that texts of a store attend in one call.
  std::map<std::string, kv::KvStorePtr> stores_;
  std::map<std::string, kv::KvPolicyPtr> policies_;
  std::vector<at::Tensor> logits_;  // of the last step
};

}  // namespace adze::infer
