#include "serve/embedding_work.h"

#include <algorithm>
#include <mutex>

#include "model/model.h"
#include "serve/api_error.h"

namespace adze::serve {

int64_t longest_embedded_text(const ServedModel& model) {
  const int64_t longest = infer::longest_embedded_text(*model.loaded().model);
  return model.generates() ? std::min(longest, model.context()) : longest;
}

void EmbeddingWork::run() {
  try {
    compute();
  } catch (...) {
    failure_ = std::current_exception();
  }
}

void EmbeddingWork::compute() {
  ServedModel& model = *named_.model;
  const size_t count = texts_.size();
  infer::Embedder embedder(model.weights(named_.adapter), std::move(texts_));
  model.embedding_bytes() += embedder.cache_bytes();
  const auto leave = [&](ServedModel* served) {
    served->embedding_bytes() -= embedder.cache_bytes();
  };
  const std::unique_ptr<ServedModel, decltype(leave)> counted(&model, leave);
  for (bool more = true; more && !cancelled_;) {
    if (model.stopping()) {
      throw ApiError(503, "server_error", "[server] is shutting down", "", "draining");
    }
    if (deadline_ && *deadline_ <= infer::Clock::now()) {
      throw infer::DeadlinePassed(
          fmt::format("[timeout_seconds] expected the embeddings in time, got {} of {} texts",
                      embedder.embeddings().size(),
                      count));
    }
    const std::lock_guard turn(model.compute());
    more = embedder.step();
  }
  embeddings_ = embedder.embeddings();
}

const std::vector<infer::Embedding>& EmbeddingWork::embeddings() const {
  if (failure_) {
    std::rethrow_exception(failure_);
  }
  return embeddings_;
}

}  // namespace adze::serve
