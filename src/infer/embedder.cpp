#include "infer/embedder.h"

#include <algorithm>
#include <cmath>
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

class Embedder {
 public:
  explicit Embedder(const model::Model& model, int64_t longest)
      : model_(model),
        layout_(kv::make_cache_layout(model.spec)),
        store_(kv::make_store("f32", model.spec)),
        policy_(kv::make_policy("full")),
        pool_(pool_bytes(std::max(longest, kStepRows))),
        rotation_(model.spec, longest) {}

  // All texts in one pass, whole: rows of an encoder see each other.
  std::vector<Embedding> embed_together(std::span<const std::vector<int32_t>> texts) {
    std::vector<kv::Sequence> sequences;
    sequences.reserve(texts.size());
    std::vector<kv::StepRows> step;
    model::TokenRows rows{.tokens = {}, .sequence_starts = {0}};
    for (const auto& text : texts) {
      sequences.push_back(new_sequence());
      step.push_back({&sequences.back(), static_cast<int64_t>(text.size())});
      rows.tokens.insert(rows.tokens.end(), text.begin(), text.end());
      rows.sequence_starts.push_back(static_cast<int64_t>(rows.tokens.size()));
    }
    kv::CachedAttention context(model_.spec, rotation_, step);
    const at::Tensor hidden = model::forward(model_, rows, context);
    std::vector<Embedding> result;
    for (size_t i = 0; i < texts.size(); ++i) {
      Pool pool(model_.spec.pooling, hidden.size(1));
      pool.add(hidden.const_data_ptr<float>() + rows.sequence_starts[i] * hidden.size(1),
               step[i].rows);
      result.push_back(pool.normalised());
    }
    return result;
  }

  Embedding embed_in_chunks(const std::vector<int32_t>& text) {
    kv::Sequence sequence = new_sequence();
    Pool pool(model_.spec.pooling, model_.spec.hidden_size);
    append_tokens(
        model_, rotation_, sequence, text, kStepRows, [&](int64_t, const at::Tensor& hidden) {
          pool.add(hidden.const_data_ptr<float>(), hidden.size(0));
        });
    return pool.normalised();
  }

 private:
  int64_t pool_bytes(int64_t rows) const {
    // A text may fill a page with one token.
    const int64_t pages = layout_->num_slots * (rows / kv::kPageTokens + kStepRows + 1);
    return pages * std::max(store_->raw_page_bytes(), store_->sealed_page_bytes());
  }
  kv::Sequence new_sequence() { return {pool_, store_, policy_, layout_}; }

  const model::Model& model_;
  kv::CacheLayoutPtr layout_;
  kv::KvStorePtr store_;
  kv::KvPolicyPtr policy_;
  kv::PagePool pool_;
  kv::Rotation rotation_;
};

}  // namespace

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
  Embedder embedder(model, longest);
  std::vector<Embedding> result;
  for (size_t first = 0; first < texts.size();) {
    size_t end = first + 1;
    if (model.spec.causal) {
      result.push_back(embedder.embed_in_chunks(texts[first]));
    } else {
      size_t rows = texts[first].size();
      while (end < texts.size() && rows + texts[end].size() <= kStepRows) {
        rows += texts[end++].size();
      }
      for (Embedding& embedding : embedder.embed_together(texts.subspan(first, end - first))) {
        result.push_back(std::move(embedding));
      }
    }
    first = end;
    if (on_text) {
      on_text(static_cast<int64_t>(first));
    }
  }
  return result;
}

}  // namespace adze::infer
