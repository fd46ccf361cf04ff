#include "infer/model_engine.h"

#include <algorithm>

#include "core/check.h"
#include "core/error.h"
#include "infer/prompt_lookup.h"
#include "infer/surprisal.h"
#include "kv/cache_registry.h"
#include "kv/cached_attention.h"
#include "model/forward.h"
#include "tensor/operations.h"

namespace adze::infer {
namespace {

// Consecutive numbers as ranges.
std::vector<PositionRange> ranges(const kv::SlotPages& slot) {
  if (slot.positions.empty()) {
    return slot.length == 0 ? std::vector<PositionRange>()
                            : std::vector<PositionRange>{{0, slot.length}};
  }
  // Where heads differ, a position counts that any head keeps.
  std::vector<int32_t> positions = slot.positions;
  std::sort(positions.begin(), positions.end());
  std::vector<PositionRange> result;
  for (const int32_t position : positions) {
    if (!result.empty() && position <= result.back().second) {
      result.back().second = std::max<int64_t>(result.back().second, position + 1);
    } else {
      result.emplace_back(position, position + 1);
    }
  }
  return result;
}

int64_t whole_pages(int64_t tokens) {
  return (tokens + kv::kPageTokens - 1) / kv::kPageTokens;
}

}  // namespace

class ModelEngine::Text : public CachedText {
 public:
  Text(const model::ModelSpec& spec, CacheChoice choice, kv::Sequence sequence)
      : spec_(spec), choice_(std::move(choice)), sequence_(std::move(sequence)) {}

  int64_t length() const override { return sequence_.num_tokens(); }
  int64_t rows_before_cut() const override { return sequence_.rows_before_cut(); }
  int64_t rows_at_once() const override { return sequence_.rows_at_once(); }
  int64_t bytes_to_append(int64_t rows) const override {
    return sequence_.bytes_to_append(std::min(rows, rows_before_cut()));
  }
  std::unique_ptr<CachedText> fork() const override {
    return std::make_unique<Text>(spec_, choice_, sequence_.fork());
  }
  void begin_turn(int64_t incoming, int64_t reserved) override {
    sequence_.begin_turn(incoming, reserved);
  }
  int64_t rows_to_guess() const override {
    if (sequence_.policy().evicts()) {
      return 0;
    }
    // Where sealing loses bits, rows that would open a new page could not be taken back.
    return sequence_.store().sealed_is_raw() ? kMostGuesses
                                             : kv::kPageTokens - 1 - length() % kv::kPageTokens;
  }
  void truncate(int64_t length) override { sequence_.truncate(length); }
  bool recomputable() const override { return sequence_.policy().recomputable(); }
  void save(core::StateWriter& writer) const override { sequence_.save(writer); }
  CacheFigures figures() const override {
    CacheFigures figures;
    figures.store = sequence_.store().name();
    figures.policy = sequence_.policy().name();
    figures.tokens = sequence_.num_tokens();
    for (int64_t slot = 0; slot < sequence_.num_slots(); ++slot) {
      figures.kept_tokens = std::max(figures.kept_tokens, sequence_.cached_tokens(slot));
    }
    figures.bytes = sequence_.bytes();
    figures.full_bytes = whole_pages(figures.tokens) * kv::kPageTokens * sequence_.num_slots() *
                         spec_.kv_width() * 2 * static_cast<int64_t>(sizeof(uint16_t));
    return figures;
  }
  std::vector<std::vector<PositionRange>> kept() const override {
    std::vector<std::vector<PositionRange>> layers;
    for (const int64_t slot : sequence_.layout().slot_of_layer) {
      layers.push_back(ranges(sequence_.slot(slot)));
    }
    return layers;
  }

  const CacheChoice& choice() const { return choice_; }
  kv::Sequence& sequence() { return sequence_; }
  const kv::Sequence& sequence() const { return sequence_; }

 private:
  const model::ModelSpec& spec_;
  CacheChoice choice_;
  kv::Sequence sequence_;
};

ModelEngine::ModelEngine(std::vector<model::ModelPtr> models, const ModelEngineOptions& options)
    : models_(std::move(models)),
      context_(options.context > 0 ? options.context : models_.front()->spec.context_length),
      layout_(kv::make_cache_layout(models_.front()->spec)),
      pool_(options.cache_bytes),
      rotation_(models_.front()->spec, context_) {
  if (!models_.front()->spec.causal) {
    throw core::error("model",
                      "expected a model that writes text, got the encoder {}",
                      models_.front()->spec.name);
  }
}

ModelEngine::~ModelEngine() = default;

int64_t ModelEngine::most_bytes(const CacheChoice& choice, int64_t tokens) const {
  const kv::KvStorePtr store = kv::make_store(choice.store, models_.front()->spec);
  const kv::KvPolicyPtr policy = kv::make_policy(choice.policy);
  const kv::Needs needs = policy->needs();
  const model::ModelSpec& spec = models_.front()->spec;
  // A step's pages are raw and sealed for a while, those of a prompt in one step to its last token;
  // an evicting policy packs pages anew beside the old.
  const int64_t raw_pages = store->first_pages() + (needs.whole_prompt ? whole_pages(tokens) : 0);
  const int64_t slot = store->most_slot_bytes(policy->most_cached(tokens) + kv::kPageTokens) +
                       raw_pages * store->raw_page_bytes();
  int64_t queries = 0;
  if (needs.queries) {
    const int64_t window = policy->query_window({.tokens = 0, .cached = 0, .turn_end = tokens});
    queries = spec.num_layers * kv::RecentQueries::page_bytes(window, spec.heads, spec.head_dim);
  }
  return layout_->num_slots * slot * (policy->evicts() ? 2 : 1) + queries;
}

bool ModelEngine::evicts(const CacheChoice& choice) const {
  const kv::KvPolicyPtr policy = kv::make_policy(choice.policy);
  if (policy->endless() && policy->most_cached(context_ + 1) > context_) {
    throw core::InvalidOption(
        "kv_policy", choice.policy, fmt::format("at most {} cached tokens, the context", context_));
  }
  return policy->endless();
}

void ModelEngine::check(const CacheChoice& choice) const {
  kv::make_store(choice.store, models_.front()->spec);
  evicts(choice);
}

CacheChoice ModelEngine::spelt_out(CacheChoice choice) const {
  choice.store = kv::make_store(choice.store, models_.front()->spec)->name();
  choice.policy = kv::make_policy(choice.policy)->name();
  return choice;
}

void ModelEngine::check_saved(const CacheChoice& choice,
                              core::StateReader& reader,
                              int64_t tokens) const {
  if (tokens < 0 || (!evicts(choice) && tokens > context_)) {
    throw core::error(
        "state", "{}: expected 0 to {} tokens, got {}", reader.source(), context_, tokens);
  }
  if (most_bytes(choice, tokens) > cache_bytes()) {
    throw core::error("state", "{}: expected a text that fits the cache", reader.source());
  }
  kv::PagePool pool(cache_bytes());  // pages are allocated as the bytes for them are there
  kv::Sequence sequence(pool,
                        kv::make_store(choice.store, models_.front()->spec),
                        kv::make_policy(choice.policy),
                        layout_);
  sequence.load(reader);
  if (!reader.at_end() || sequence.num_tokens() != tokens) {
    throw core::error("state",
                      "{}: expected {} tokens and the end of the text, got {} and more",
                      reader.source(),
                      tokens,
                      sequence.num_tokens());
  }
}

std::optional<int64_t> ModelEngine::whole_prompt(const CacheChoice& choice) const {
  const kv::KvPolicyPtr policy = kv::make_policy(choice.policy);
  return policy->needs().whole_prompt ? std::optional(policy->most_whole_prompt()) : std::nullopt;
}

bool ModelEngine::recomputable(const CacheChoice& choice) const {
  return kv::make_policy(choice.policy)->recomputable();
}

kv::KvStorePtr ModelEngine::store(const std::string& name) {
  kv::KvStorePtr made = kv::make_store(name, models_.front()->spec);
  return stores_.emplace(made->name(), made).first->second;
}

kv::KvPolicyPtr ModelEngine::policy(const std::string& name) {
  kv::KvPolicyPtr made = kv::make_policy(name);
  return policies_.emplace(made->name(), made).first->second;
}

std::unique_ptr<ModelEngine::Text> ModelEngine::new_text(const CacheChoice& choice) {
  return std::make_unique<Text>(
      models_.front()->spec,
      choice,
      kv::Sequence(pool_, store(choice.store), policy(choice.policy), layout_));
}

std::string ModelEngine::prefix_key(const CacheChoice& choice, const kv::Sequence& sequence) const {
  // The tenant comes last: it may hold any byte.
  return fmt::format("{}|{}|{}|{}",
                     choice.adapter,
                     sequence.store().name(),
                     sequence.policy().needs().rank_positions ? "unrotated" : "rotated",
                     choice.tenant);
}

std::unique_ptr<CachedText> ModelEngine::open(const CacheChoice& choice,
                                              std::span<const int32_t> tokens,
                                              int64_t reserved,
                                              bool reuses) {
  auto text = new_text(choice);
  kv::Sequence& sequence = text->sequence();
  sequence.begin_turn(static_cast<int64_t>(tokens.size()), reserved);
  if (!reuses || sequence.policy().needs().every_row()) {
    return text;  // what a policy has to know of every row comes with computing it
  }
  // A page that ends where the policy cuts is left out: the cut would be missed. The rows whose
  // queries a policy looks at are computed.
  const auto prompt = static_cast<int64_t>(tokens.size());
  const int64_t queries = std::max<int64_t>(sequence.policy().query_window(sequence.place()), 1);
  const int64_t most = std::min(prompt - queries, text->rows_before_cut() - 1);
  prefixes_.restore(prefix_key(choice, sequence), tokens, most, sequence);
  return text;
}

std::unique_ptr<CachedText> ModelEngine::load(const CacheChoice& choice,
                                              core::StateReader& reader) {
  auto text = new_text(choice);
  text->sequence().load(reader);
  return text;
}

void ModelEngine::publish(const CachedText& text, std::span<const int32_t> tokens) {
  const auto& own = static_cast<const Text&>(text);
  prefixes_.publish(prefix_key(own.choice(), own.sequence()), tokens, own.sequence());
}

void ModelEngine::reclaim(int64_t bytes) {
  prefixes_.drop_unused([&] { return free_bytes() >= bytes; });
}

std::vector<const float*> ModelEngine::step(std::span<const StepPart> parts) {
  std::vector<const float*> result(parts.size(), nullptr);
  logits_.clear();
  for (size_t adapter = 0; adapter < models_.size(); ++adapter) {
    const model::Model& model = *models_[adapter];
    std::vector<size_t> members;
    model::TokenRows rows{.tokens = {}, .sequence_starts = {0}};
    std::vector<kv::StepRows> step;
    std::vector<int64_t> wanted;  // rows of the hidden states whose logits are asked for
    for (size_t i = 0; i < parts.size(); ++i) {
      auto& text = static_cast<Text&>(*parts[i].text);
      if (text.choice().adapter != static_cast<int64_t>(adapter)) {
        continue;
      }
      members.push_back(i);
      rows.tokens.insert(rows.tokens.end(), parts[i].tokens.begin(), parts[i].tokens.end());
      const auto count = static_cast<int64_t>(rows.tokens.size());
      rows.sequence_starts.push_back(count);
      step.push_back({&text.sequence(), static_cast<int64_t>(parts[i].tokens.size())});
    }
    if (members.empty()) {
      continue;
    }
    kv::CachedAttention context(model.spec, rotation_, step);
    const at::Tensor hidden = model::forward(model, rows, context);
    // A narrowed prompt has fewer rows left, its last one among them.
    int64_t end = 0;
    const std::vector<int64_t> left = context.rows_left();
    for (size_t i = 0; i < left.size(); ++i) {
      end += left[i];
      rows.sequence_starts[i + 1] = end;
      for (int64_t row = end - parts[members[i]].wanted; row < end; ++row) {
        wanted.push_back(row);
      }
    }
    for (size_t i = 0; i < step.size(); ++i) {
      const std::span<const int32_t> tokens = parts[members[i]].tokens;
      const int64_t first = rows.sequence_starts[i];
      step[i].sequence->end_step(
          step[i].rows,
          step[i].sequence->policy().needs().surprisal
              ? step_surprisals(
                    model, *step[i].sequence, tokens, hidden.narrow(0, first, step[i].rows))
              : std::vector<float>());
    }
    if (wanted.empty()) {
      continue;
    }
    logits_.push_back(model::logits(model, tensor::take_rows(hidden, wanted)));
    const auto* next = logits_.back().const_data_ptr<float>();
    for (const size_t member : members) {
      if (parts[member].wanted > 0) {
        result[member] = next;
        next += parts[member].wanted * vocab_size();
        keep_last_logits(
            static_cast<Text&>(*parts[member].text).sequence(), next - vocab_size(), vocab_size());
      }
    }
  }
  return result;
}

}  // namespace adze::infer
