#pragma once
// Answers of /v1/embeddings.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "serve/completion_request.h"
#include "serve/http_server.h"
#include "serve/model_host.h"
#include "serve/submission.h"
#include "serve/workers.h"

namespace adze::serve {

struct EmbeddingRequest {
  std::string model;
  std::vector<Prompt> texts;
  bool base64 = false;
  std::optional<int64_t> dimensions;
  std::optional<double> timeout_seconds;
};

struct EmbeddingContext {
  boost::asio::io_context& io;
  Workers& workers;    // that compute
  Workers& preparers;  // that tokenise
  const AnswerLimits& limits;
  int64_t& waiting;  // requests for embeddings, those that are computed included
  int64_t most_waiting;
  infer::Clock::time_point since;  // when the request came
};

// Throws ApiError naming the field.
EmbeddingRequest read_embedding_request(const Json& body);

// Throws ApiError and core::Error.
boost::asio::awaitable<void> answer_embedding(const EmbeddingContext& context,
                                              Exchange& exchange,
                                              const EmbeddingRequest& request,
                                              NamedModel named);

}  // namespace adze::serve
