#include "infer/embedder.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "core/error.h"
#include "infer/append_tokens.h"
#include "infer/loaded_model.h"
#include "kv/cache_registry.h"
#include "kv/cached_attention.h"
#include "kv/sequence.h"
#include "model/forward.h"

namespace adze::infer {
namespace {

constexpr int64_t kStepRows = 1024;

// Sums rows as they come, so that a long text needs no more memory than a chunk.
class Pool {
 public:
  Pool(model::Pooling pooling, int64_t width)
      : first_only_(pooling == model::Pooling::kFirst), sums_(static_cast<size_t>(width)) {}

  void add(const float* rows, int64_t count) {
    for (int64_t row = 0; row < count && !(first_only_ && seen_ > 0); ++row, ++seen_) {
      for (double& sum : sums_) {
        sum += static_cast<double>(*rows++);
      }
    }
  }

  // The direction of the sum is that of the mean.
  Embedding normalised() const {
    double squares = 0;
    for (const double sum : sums_) {
      squares += sum * sum;
    }
    if (!(squares > 0) || !std::isfinite(squares)) {
      throw core::error("embed", "expected finite rows of the model, got others; is it damaged?");
    }
    Embedding result;
    for (const double sum : sums_) {
      result.push_back(static_cast<float>(sum / std::sqrt(squares)));
    }
    return result;
  }

 private:
  bool first_only_;
  int64_t seen_ = 0;
  std::vector<double> sums_;  // [hidden_size]
};

// Throws core::Error; else the longest text's tokens.
int64_t check_texts(const model::Model& model, std::span<const std::vector<int32_t>> texts) {
  const int64_t limit = longest_embedded_text(model);
  int64_t longest = 1;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto length = static_cast<int64_t>(texts[i].size());
    if (length == 0 || length > limit) {
      throw core::error("embed",
                        "text {}: expected 1 to {} tokens, got {}; --truncate cuts longer ones",
                        i + 1,
                        limit,
                        length);
    }
    for (const int32_t token : texts[i]) {
      if (token < 0 || token >= model.spec.vocab_size) {
        throw core::error("embed",
                          "text {}: expected token ids from 0 to {}, got {}",
                          i + 1,
                          model.spec.vocab_size - 1,
                          token);
      }
    }
    longest = std::max(longest, length);
  }
  return longest;
}

}  // namespace

struct Embedder::Implementation {
  Implementation(const model::Model& m, std::vector<std::vector<int32_t>> t)
      : model(m),
        texts(std::move(t)),
        longest(check_texts(model, texts)),
        layout(kv::make_cache_layout(model.spec)),
        store(kv::make_store("f32", model.spec)),
        policy(kv::make_policy("full")),
        pool(pool_bytes(std::max(longest, kStepRows))),
        rotation(model.spec, longest) {}

  int64_t pool_bytes(int64_t rows) const {
    // A text may fill a page with one token.
    const int64_t pages = layout->num_slots * (rows / kv::kPageTokens + kStepRows + 1);
    return pages * std::max(store->raw_page_bytes(), store->sealed_page_bytes());
  }
  kv::Sequence new_sequence() { return {pool, store, policy, layout}; }

  // The next texts in one pass, whole: rows of an encoder see each other.
  void embed_together() {
    const size_t first = embeddings.size();
    size_t end = first;
    std::vector<kv::Sequence> sequences;
    sequences.reserve(texts.size() - first);
    std::vector<kv::StepRows> step;
    model::TokenRows rows{.tokens = {}, .sequence_starts = {0}};
    do {
      const std::vector<int32_t>& text = texts[end++];
      sequences.push_back(new_sequence());
      step.push_back({&sequences.back(), static_cast<int64_t>(text.size())});
      rows.tokens.insert(rows.tokens.end(), text.begin(), text.end());
      rows.sequence_starts.push_back(static_cast<int64_t>(rows.tokens.size()));
    } while (end < texts.size() &&
             static_cast<int64_t>(rows.tokens.size() + texts[end].size()) <= kStepRows);
    kv::CachedAttention context(model.spec, rotation, step);
    const at::Tensor hidden = model::forward(model, rows, context);
    for (size_t i = 0; i < step.size(); ++i) {
      Pool pooled(model.spec.pooling, hidden.size(1));
      pooled.add(hidden.const_data_ptr<float>() + rows.sequence_starts[i] * hidden.size(1),
                 step[i].rows);
      embeddings.push_back(pooled.normalised());
    }
  }

  void embed_chunk() {
    const std::vector<int32_t>& text = texts[embeddings.size()];
    if (!sequence) {
      sequence.emplace(new_sequence());
      rows_seen.emplace(model.spec.pooling, model.spec.hidden_size);
    }
    const auto chunk = std::span(text).subspan(static_cast<size_t>(sequence->num_tokens()));
    append_tokens(model,
                  rotation,
                  *sequence,
                  chunk.first(std::min(chunk.size(), static_cast<size_t>(kStepRows))),
                  kStepRows,
                  [&](int64_t, const at::Tensor& hidden) {
                    rows_seen->add(hidden.const_data_ptr<float>(), hidden.size(0));
                  });
    if (sequence->num_tokens() == static_cast<int64_t>(text.size())) {
      embeddings.push_back(rows_seen->normalised());
      sequence.reset();
      rows_seen.reset();
    }
  }

  const model::Model& model;
  std::vector<std::vector<int32_t>> texts;
  int64_t longest;
  kv::CacheLayoutPtr layout;
  kv::KvStorePtr store;
  kv::KvPolicyPtr policy;
  kv::PagePool pool;
  kv::Rotation rotation;
  std::vector<Embedding> embeddings;
  std::optional<kv::Sequence> sequence;  // of a text that takes several passes
  std::optional<Pool> rows_seen;         // of it
};

Embedder::Embedder(const model::Model& model, std::vector<std::vector<int32_t>> texts)
    : implementation_(std::make_unique<Implementation>(model, std::move(texts))) {}

Embedder::~Embedder() = default;

bool Embedder::step() {
  Implementation& self = *implementation_;
  if (self.embeddings.size() == self.texts.size()) {
    return false;
  }
  if (self.model.spec.causal) {
    self.embed_chunk();
  } else {
    self.embed_together();
  }
  return true;
}

const std::vector<Embedding>& Embedder::embeddings() const {
  return implementation_->embeddings;
}

int64_t Embedder::cache_bytes() const {
  return implementation_->pool.budget_bytes();
}

std::vector<int32_t> embedding_tokens(const text::Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens = tokenizer.encode(text, text::SpecialTokens::kPlain);
  add_begin_of_text(tokenizer, tokens);
  const text::TokenizerSpec& spec = tokenizer.spec();
  if (const auto closing = text::closing_token(spec); spec.add_end_of_text && closing) {
    tokens.push_back(*closing);
  }
  return tokens;
}

int64_t longest_embedded_text(const model::Model& model) {
  const int64_t trained = model.spec.embedded_tokens;
  return trained > 0 ? trained : model.spec.context_length;
}

std::vector<Embedding> embed(const model::Model& model,
                             std::span<const std::vector<int32_t>> texts,
                             const std::function<void(int64_t)>& on_text) {
  Embedder embedder(model, {texts.begin(), texts.end()});
  while (embedder.step()) {
    if (on_text) {
      on_text(static_cast<int64_t>(embedder.embeddings().size()));
    }
  }
  return embedder.embeddings();
}

}  // namespace adze::infer
