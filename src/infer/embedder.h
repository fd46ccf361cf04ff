#pragma once
// Texts -> vectors of length 1 whose products say how alike the texts are.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace adze::model {
struct Model;
}

namespace adze::infer {

using Embedding = std::vector<float>;  // [hidden_size], of length 1

// Tokens of a text with the marks that the model puts around it.
std::vector<int32_t> embedding_tokens(const text::Tokenizer& tokenizer, std::string_view text);

// Longest text in tokens.
int64_t longest_embedded_text(const model::Model& model);

// Rows of the last layer, pooled as the model was trained (spec.pooling; the mean where it was not
// trained to embed), then scaled to length 1. An embedding does not depend on the other texts.
class Embedder {
 public:
  // The model must outlive it. Throws core::Error: a text without tokens or longer than the model's
  // context.
  Embedder(const model::Model& model, std::vector<std::vector<int32_t>> texts);
  ~Embedder();
  Embedder(const Embedder&) = delete;
  Embedder& operator=(const Embedder&) = delete;

  // One forward pass of up to 1,024 tokens; false: nothing was left to do.
  bool step();
  const std::vector<Embedding>& embeddings() const;  // of the texts that are done
  int64_t cache_bytes() const;                       // for keys and values, at most

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

// All at once. on_text: texts done.
std::vector<Embedding> embed(const model::Model& model,
                             std::span<const std::vector<int32_t>> texts,
                             const std::function<void(int64_t)>& on_text = {});

}  // namespace adze::infer
