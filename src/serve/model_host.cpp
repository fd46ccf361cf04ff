#include "serve/model_host.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "model/adapter.h"
#include "model/model.h"
#include "serve/api_error.h"

namespace adze::serve {

ServedModel::ServedModel(infer::LoadedModel loaded,
                         std::vector<model::ModelPtr> adapters,
                         const ModelHostOptions& options,
                         std::mutex& compute)
    : loaded_(std::move(loaded)), compute_(compute) {
  if (!loaded_.model->spec.causal) {
    return;
  }
  std::vector<model::ModelPtr> models = {loaded_.model};
  models.insert(models.end(), adapters.begin(), adapters.end());
  engine_ = std::make_unique<infer::ModelEngine>(
      std::move(models),
      infer::ModelEngineOptions{.cache_bytes = options.cache_bytes, .context = options.context});
  scheduler_ = std::make_unique<infer::Scheduler>(*engine_, options.scheduling);
  use_.budget_bytes = options.cache_bytes;
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

ServedModel::~ServedModel() {
  if (thread_.joinable()) {
    thread_.request_stop();
    scheduler_->wake();
    thread_.join();
  }
}

void ServedModel::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    bool busy = false;
    {
      const std::lock_guard lock(compute_);
      busy = scheduler_->step();
      measure_cache(!busy);
    }
    if (!busy) {
      scheduler_->wait(std::chrono::milliseconds(1000));
    }
  }
}

void ServedModel::measure_cache(bool idle) {
  const kv::PagePool& pool = engine_->pool();
  const infer::PrefixCache& prefixes = engine_->prefixes();
  const std::lock_guard lock(use_mutex_);
  use_.used_bytes = pool.used_bytes();
  use_.prefix_bytes = prefixes.bytes();
  use_.prefix_pages = prefixes.pages() * engine_->num_slots();
  use_.used_pages = pool.used_pages() - use_.prefix_pages;
  if (idle && scheduler_->figures().running + scheduler_->figures().waiting == 0) {
    const kv::PoolAudit audit = pool.audit();
    const bool sound = audit.live_pages == use_.prefix_pages &&
                       audit.live_bytes == use_.prefix_bytes && audit.live_bytes == use_.used_bytes;
    use_.audit_failures += sound ? 0 : 1;
  }
}

std::shared_ptr<const infer::TokenVocabulary> ServedModel::vocabulary() {
  const std::lock_guard lock(vocabulary_mutex_);
  if (!vocabulary_) {
    vocabulary_ = std::make_shared<infer::TokenVocabulary>(loaded_.tokenizer);
  }
  return vocabulary_;
}

CacheUse ServedModel::cache_use() const {
  const std::lock_guard lock(use_mutex_);
  return use_;
}

int64_t ServedModel::resident_bytes() const {
  return loaded_.model->weight_bytes() + cache_use().budget_bytes;
}

ModelHost::ModelHost(std::vector<ModelEntry> models,
                     std::vector<AdapterEntry> adapters,
                     const ModelHostOptions& options)
    : models_(std::move(models)), adapters_(std::move(adapters)), options_(options) {}

NamedModel ModelHost::get(const std::string& name) {
  std::string base = name.empty() ? models_.front().name : name;
  int64_t adapter = 0;
  const auto by_name = [&](const auto& entry) { return entry.name == base; };
  const auto found_adapter = std::find_if(adapters_.begin(), adapters_.end(), by_name);
  if (found_adapter != adapters_.end()) {
    const auto same_base = [&](const AdapterEntry& entry) {
      return entry.base == found_adapter->base;
    };
    adapter = 1 + std::count_if(adapters_.begin(), found_adapter, same_base);
    base = found_adapter->base;
  }
  const auto entry = std::find_if(models_.begin(), models_.end(), by_name);
  if (entry == models_.end()) {
    std::vector<std::string> names;
    for (const ModelListing& listing : list()) {
      names.push_back(listing.name);
    }
    throw ApiError(
        404,
        "invalid_request_error",
        fmt::format(
            "[model] expected one of {}, got {}", fmt::join(names, ", "), name.substr(0, 200)),
        "model",
        "model_not_found");
  }
  const auto find_loaded = [&]() -> std::shared_ptr<ServedModel> {
    const std::lock_guard lock(mutex_);
    const auto found = loaded_.find(base);
    if (found == loaded_.end()) {
      return nullptr;
    }
    std::erase(used_, base);
    used_.push_back(base);
    return found->second;
  };
  std::shared_ptr<ServedModel> model = find_loaded();
  if (!model) {
    const std::lock_guard one_at_a_time(loading_);
    model = find_loaded();
    if (!model) {
      model = load(*entry);
      const std::lock_guard lock(mutex_);
      loaded_[base] = model;
      used_.push_back(base);
    }
  }
  return {std::move(model), adapter};
}

std::shared_ptr<ServedModel> ModelHost::load(const ModelEntry& entry) {
  std::error_code error;
  const auto file_bytes = std::filesystem::is_regular_file(entry.path, error)
                              ? static_cast<int64_t>(std::filesystem::file_size(entry.path, error))
                              : 0;
  make_room(file_bytes + options_.cache_bytes);
  infer::LoadedModel loaded = infer::load_model(entry.path, options_.loading);
  std::vector<model::ModelPtr> adapters;
  for (const AdapterEntry& adapter : adapters_) {
    if (adapter.base == entry.name) {
      adapters.push_back(model::load_adapter(loaded.model, adapter.folder));
    }
  }
  return std::make_shared<ServedModel>(std::move(loaded), std::move(adapters), options_, compute_);
}

// Unloads models that nobody uses, the one that was asked for longest ago first.
void ModelHost::make_room(int64_t bytes) {
  if (options_.memory_bytes == 0) {
    return;
  }
  while (true) {
    std::shared_ptr<ServedModel> victim;  // unloaded outside the lock
    {
      const std::lock_guard lock(mutex_);
      int64_t resident = 0;
      for (const auto& [name, model] : loaded_) {
        resident += model->resident_bytes();
      }
      if (resident + bytes <= options_.memory_bytes) {
        return;
      }
      const auto idle = std::find_if(used_.begin(), used_.end(), [this](const std::string& name) {
        return loaded_.at(name).use_count() == 1;
      });
      if (idle == used_.end()) {
        throw ApiError(503,
                       "server_error",
                       fmt::format("[model] expected {:.1f} GiB of memory for this model, others "
                                   "are busy in it; try again later",
                                   static_cast<double>(bytes) / (1 << 30)),
                       "model",
                       "no_memory");
      }
      victim = std::move(loaded_.at(*idle));
      loaded_.erase(*idle);
      used_.erase(idle);
    }
  }
}

std::vector<ModelListing> ModelHost::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<ModelListing> listings;
  for (const ModelEntry& entry : models_) {
    const auto found = loaded_.find(entry.name);
    listings.push_back(
        {entry.name, std::nullopt, found == loaded_.end() ? nullptr : found->second});
  }
  for (const AdapterEntry& entry : adapters_) {
    const auto found = loaded_.find(entry.base);
    listings.push_back({entry.name, entry.base, found == loaded_.end() ? nullptr : found->second});
  }
  return listings;
}

}  // namespace adze::serve
