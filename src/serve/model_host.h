#pragma once
// The models that a server offers by name: loaded when first asked for, each with its scheduler on
// a thread of its own. One of them computes at a time.

#include <atomic>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/turn_lock.h"
#include "infer/loaded_model.h"
#include "infer/model_engine.h"
#include "infer/scheduler.h"
#include "infer/token_constraint.h"

namespace adze::serve {

struct ModelEntry {
  std::string name;
  std::filesystem::path path;
};
struct AdapterEntry {
  std::string name;
  std::filesystem::path folder;
  std::string base;  // name of a model
};

struct ModelHostOptions {
  infer::LoadOptions loading;
  infer::SchedulerOptions scheduling;
  int64_t context = 0;       // 0: each model's own
  int64_t cache_bytes = 0;   // of each model
  int64_t memory_bytes = 0;  // of all models and their caches; beyond it the idle ones go
  infer::CacheChoice cache;  // store and policy of requests that name none
};

// Cache figures of one model at one moment.
struct CacheUse {
  int64_t budget_bytes = 0;
  int64_t used_bytes = 0;    // live pages
  int64_t prefix_bytes = 0;  // of these, kept for later texts
  int64_t used_pages = 0;    // of texts, those they share with the prefix cache left out
  int64_t prefix_pages = 0;
  int64_t audit_failures = 0;  // counts at idle that found pages nobody refers to
};

class ServedModel {
 public:
  // Throws core::UsageError: this model cannot have the default cache.
  ServedModel(infer::LoadedModel loaded,
              std::vector<model::ModelPtr> adapters,
              const ModelHostOptions& options,
              core::TurnLock& compute);
  ~ServedModel();
  ServedModel(const ServedModel&) = delete;
  ServedModel& operator=(const ServedModel&) = delete;

  const infer::LoadedModel& loaded() const { return loaded_; }
  bool generates() const { return scheduler_ != nullptr; }
  infer::Scheduler& scheduler() { return *scheduler_; }  // of a model that generates
  const infer::ModelEngine& engine() const { return *engine_; }
  const model::Model& weights(int64_t adapter) const;  // NamedModel's
  core::TurnLock& compute() { return compute_; }       // held for one pass at a time
  const infer::CacheChoice& default_cache() const { return default_cache_; }
  int64_t context() const;  // of a text in the default cache: the model's, or what the cache holds
  // Any thread: computes nothing more; whoever waits is told so. Also when destroyed.
  void stop(const std::exception_ptr& reason);
  bool stopping() const { return thread_stops_; }
  // Made when first asked for, by any thread. Throws core::Error: a tokenizer without the tokens
  // that JSON needs.
  std::shared_ptr<const infer::TokenVocabulary> vocabulary();
  CacheUse cache_use() const;  // as of the last step
  int64_t resident_bytes() const;
  // Bytes that an embedding holds outside the cache, while it runs.
  std::atomic<int64_t>& embedding_bytes() { return embedding_bytes_; }

 private:
  void run();
  void measure_cache(bool idle);

  infer::LoadedModel loaded_;
  std::vector<model::ModelPtr> models_;  // the model, then its adapters
  core::TurnLock& compute_;
  infer::CacheChoice default_cache_;
  std::unique_ptr<infer::ModelEngine> engine_;
  std::unique_ptr<infer::Scheduler> scheduler_;
  std::mutex vocabulary_mutex_;
  std::shared_ptr<const infer::TokenVocabulary> vocabulary_;
  mutable std::mutex use_mutex_;
  CacheUse use_;
  std::atomic<int64_t> embedding_bytes_ = 0;
  std::atomic<bool> thread_stops_ = false;
  std::mutex stopping_;
  std::thread thread_;
};

// A model as requests name it.
struct NamedModel {
  std::shared_ptr<ServedModel> model;
  int64_t adapter = 0;
};

// What a model's files say about it; not loaded for that.
struct ModelFacts {
  bool generates = false;
  int64_t context = 0;
  int64_t layers = 0;
  int64_t bytes = 0;  // in memory, with its adapters and its cache
};

struct ModelListing {
  std::string name;
  std::optional<std::string> parent;   // of an adapter
  std::shared_ptr<ServedModel> model;  // null: not loaded
  std::optional<ModelFacts> facts;     // none: its files are damaged
};

class ModelHost {
 public:
  ModelHost(std::vector<ModelEntry> models,
            std::vector<AdapterEntry> adapters,
            const ModelHostOptions& options);

  // Any thread; takes as long as loading does. "": the first. Throws ApiError: 404 unknown name,
  // 503 no memory for it now; core::Error: damaged files.
  NamedModel get(const std::string& name);
  // Does not block; none: it is to be loaded. Throws ApiError: unknown name.
  std::optional<NamedModel> get_loaded(const std::string& name);
  std::vector<ModelListing> list() const;
  const ModelHostOptions& options() const { return options_; }
  // Any thread: no model computes or is loaded any more; whoever waits for one is told the reason.
  void stop(const std::exception_ptr& reason);

 private:
  struct Place {
    const ModelEntry* entry;
    int64_t adapter;
  };
  Place find(const std::string& name) const;
  std::shared_ptr<ServedModel> find_loaded(const ModelEntry& entry);
  std::optional<ModelFacts> read_facts(const ModelEntry& entry) const;
  std::shared_ptr<ServedModel> load(const ModelEntry& entry);
  void make_room(int64_t bytes);

  std::vector<ModelEntry> models_;
  std::vector<AdapterEntry> adapters_;
  ModelHostOptions options_;
  std::vector<std::optional<ModelFacts>> facts_;  // by model
  core::TurnLock compute_;

  std::mutex loading_;        // one at a time
  mutable std::mutex mutex_;  // what follows
  std::map<std::string, std::shared_ptr<ServedModel>> loaded_;
  std::vector<std::string> used_;  // names of loaded models, the newest last
  std::exception_ptr stopped_;     // the reason
};

}  // namespace adze::serve
