#include "serve/model_host.h"

#include <algorithm>
#include <chrono>
#include <iostream>

#include <fmt/format.h>

#include "model/adapter.h"
#include "model/checkpoint.h"
#include "model/model.h"
#include "serve/api_error.h"

namespace adze::serve {
namespace {

double gibibytes(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 30);
}

}  // namespace

ServedModel::ServedModel(infer::LoadedModel loaded,
                         std::vector<model::ModelPtr> adapters,
                         const ModelHostOptions& options,
                         core::TurnLock& compute)
    : loaded_(std::move(loaded)),
      models_(std::move(adapters)),
      compute_(compute),
      default_cache_(options.cache) {
  models_.insert(models_.begin(), loaded_.model);
  if (!loaded_.model->spec.causal) {
    return;
  }
  engine_ = std::make_unique<infer::ModelEngine>(
      models_,
      infer::ModelEngineOptions{.cache_bytes = options.cache_bytes, .context = options.context});
  engine_->check(default_cache_);
  scheduler_ = std::make_unique<infer::Scheduler>(*engine_, options.scheduling);
  use_.budget_bytes = options.cache_bytes;
  thread_ = std::thread([this] { run(); });
}

ServedModel::~ServedModel() {
  stop(std::make_exception_ptr(core::error("model", "has been unloaded")));
}

void ServedModel::stop(const std::exception_ptr& reason) {
  thread_stops_ = true;
  const std::lock_guard one_at_a_time(stopping_);
  if (thread_.joinable()) {
    scheduler_->wake();
    thread_.join();
    scheduler_->fail_all(reason);
  }
}

const model::Model& ServedModel::weights(int64_t adapter) const {
  return *models_[static_cast<size_t>(adapter)];
}

int64_t ServedModel::context() const {
  if (!generates()) {
    return loaded_.model->spec.context_length;
  }
  return std::min(engine_->context(), scheduler_->longest_text(default_cache_));
}

void ServedModel::run() {
  while (!thread_stops_) {
    bool busy = false;
    try {
      const std::lock_guard lock(compute_);
      busy = scheduler_->step();
      measure_cache(!busy);
    } catch (...) {
      // Nobody's fault in particular: all requests end, the server does not.
      scheduler_->fail_all(std::current_exception());
    }
    if (!busy && !thread_stops_) {
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
  int64_t bytes = loaded_.model->weight_bytes() + cache_use().budget_bytes + embedding_bytes_;
  for (const model::ModelPtr& model : models_) {
    bytes += model->weight_bytes() - loaded_.model->weight_bytes();  // an adapter's factors
  }
  return bytes;
}

ModelHost::ModelHost(std::vector<ModelEntry> models,
                     std::vector<AdapterEntry> adapters,
                     const ModelHostOptions& options)
    : models_(std::move(models)), adapters_(std::move(adapters)), options_(options) {
  for (const ModelEntry& entry : models_) {
    const std::optional<ModelFacts>& facts = facts_.emplace_back(read_facts(entry));
    if (facts && options_.memory_bytes > 0 && facts->bytes > options_.memory_bytes) {
      throw core::InvalidOption(
          "memory-gib",
          fmt::format("{:.3f}", gibibytes(options_.memory_bytes)),
          fmt::format(
              "at least {:.3f}, what {} and its cache take", gibibytes(facts->bytes), entry.name));
    }
  }
}

std::optional<ModelFacts> ModelHost::read_facts(const ModelEntry& entry) const {
  try {
    const model::Checkpoint checkpoint = model::open_checkpoint(entry.path);
    ModelFacts facts{.generates = checkpoint.spec.causal,
                     .context = checkpoint.spec.context_length,
                     .layers = checkpoint.spec.num_layers,
                     .bytes = 0};
    for (const formats::StoredTensor& tensor : checkpoint.tensors) {
      facts.bytes += static_cast<int64_t>(tensor.data.size());
    }
    if (facts.generates) {
      facts.context = options_.context > 0 ? options_.context : facts.context;
      facts.bytes += options_.cache_bytes;
    }
    for (const AdapterEntry& adapter : adapters_) {
      std::error_code error;
      const auto file = adapter.folder / "adapter_model.safetensors";
      const auto bytes = std::filesystem::file_size(file, error);
      facts.bytes += adapter.base == entry.name && !error ? static_cast<int64_t>(bytes) : 0;
    }
    return facts;
  } catch (const core::Error&) {
    return std::nullopt;  // whoever asks for it is told why
  }
}

ModelHost::Place ModelHost::find(const std::string& name) const {
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
  return {&*entry, adapter};
}

std::shared_ptr<ServedModel> ModelHost::find_loaded(const ModelEntry& entry) {
  const std::lock_guard lock(mutex_);
  if (stopped_) {
    std::rethrow_exception(stopped_);
  }
  const auto found = loaded_.find(entry.name);
  if (found == loaded_.end()) {
    return nullptr;
  }
  std::erase(used_, entry.name);
  used_.push_back(entry.name);
  return found->second;
}

std::optional<NamedModel> ModelHost::get_loaded(const std::string& name) {
  const Place place = find(name);
  std::shared_ptr<ServedModel> model = find_loaded(*place.entry);
  return model ? std::optional<NamedModel>({std::move(model), place.adapter}) : std::nullopt;
}

NamedModel ModelHost::get(const std::string& name) {
  if (auto loaded = get_loaded(name)) {
    return *loaded;
  }
  const Place place = find(name);
  const std::lock_guard one_at_a_time(loading_);
  std::shared_ptr<ServedModel> model = find_loaded(*place.entry);
  if (!model) {
    model = load(*place.entry);
    const std::lock_guard lock(mutex_);
    if (stopped_) {
      std::rethrow_exception(stopped_);
    }
    loaded_[place.entry->name] = model;
    used_.push_back(place.entry->name);
  }
  return {std::move(model), place.adapter};
}

std::shared_ptr<ServedModel> ModelHost::load(const ModelEntry& entry) {
  const auto& facts = facts_[static_cast<size_t>(&entry - models_.data())];
  make_room(facts ? facts->bytes : 0);
  infer::LoadedModel loaded = infer::load_model(entry.path, options_.loading);
  std::vector<model::ModelPtr> adapters;
  for (const AdapterEntry& adapter : adapters_) {
    if (adapter.base == entry.name) {
      adapters.push_back(model::load_adapter(loaded.model, adapter.folder));
    }
  }
  auto model =
      std::make_shared<ServedModel>(std::move(loaded), std::move(adapters), options_, compute_);
  if (model->generates() && model->context() < model->engine().context()) {
    std::cerr << fmt::format(
        "{}: texts of up to {} tokens; the cache holds no more of the {} of "
        "the context (--cache-gib)\n",
        entry.name,
        model->context(),
        model->engine().context());
  }
  return model;
}

void ModelHost::stop(const std::exception_ptr& reason) {
  std::vector<std::shared_ptr<ServedModel>> models;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = reason;
    for (const auto& [name, model] : loaded_) {
      models.push_back(model);
    }
  }
  for (const auto& model : models) {
    model->stop(reason);
  }
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
                                   gibibytes(bytes)),
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
  const auto add = [&](const std::string& name, std::optional<std::string> parent) {
    const std::string base = parent.value_or(name);
    const auto found = loaded_.find(base);
    const auto entry = std::find_if(models_.begin(), models_.end(), [&](const ModelEntry& model) {
      return model.name == base;
    });
    listings.push_back({name,
                        std::move(parent),
                        found == loaded_.end() ? nullptr : found->second,
                        facts_[static_cast<size_t>(entry - models_.begin())]});
  };
  for (const ModelEntry& entry : models_) {
    add(entry.name, std::nullopt);
  }
  for (const AdapterEntry& entry : adapters_) {
    add(entry.name, entry.base);
  }
  return listings;
}

}  // namespace adze::serve
