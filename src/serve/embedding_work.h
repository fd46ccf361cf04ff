#pragma once
// One request for embeddings, computed on a worker: a pass at a time, in turn with the models that
// write, until it is done, its client has gone, or its time is over.

#include <atomic>
#include <exception>
#include <optional>
#include <vector>

#include "infer/embedder.h"
#include "infer/scheduler.h"
#include "serve/model_host.h"

namespace adze::serve {

class EmbeddingWork {
 public:
  EmbeddingWork(NamedModel named,
                std::vector<std::vector<int32_t>> texts,
                std::optional<infer::Clock::time_point> deadline)
      : named_(std::move(named)), texts_(std::move(texts)), deadline_(deadline) {}

  void run();                           // a worker; never throws
  void cancel() { cancelled_ = true; }  // any thread

  // When run() has returned. Throws what it met: DeadlinePassed, ApiError, core::Error.
  const std::vector<infer::Embedding>& embeddings() const;

 private:
  void compute();

  NamedModel named_;
  std::vector<std::vector<int32_t>> texts_;
  std::optional<infer::Clock::time_point> deadline_;
  std::atomic<bool> cancelled_ = false;
  std::vector<infer::Embedding> embeddings_;
  std::exception_ptr failure_;
};

// The longest text, in tokens, that a served model embeds.
int64_t longest_embedded_text(const ServedModel& model);

}  // namespace adze::serve
