#pragma once
// Answers of /v1/chat/completions and /v1/completions: a request in, JSON or events out.

#include <string>

#include <boost/asio/awaitable.hpp>

#include "serve/completion_request.h"
#include "serve/http_server.h"
#include "serve/metrics.h"
#include "serve/model_host.h"
#include "serve/session.h"
#include "serve/submission.h"
#include "serve/workers.h"

namespace adze::serve {

struct CompletionContext {
  boost::asio::io_context& io;
  Workers& workers;
  Metrics& metrics;
  const AnswerLimits& limits;
  std::string tenant;              // whose cache this is
  Sessions::Lease* session;        // that the request goes on with, or null
  infer::Clock::time_point since;  // when it came
};

// Throws ApiError and core::Error as long as nothing has been sent.
boost::asio::awaitable<void> answer_completion(const CompletionContext& context,
                                               Exchange& exchange,
                                               const CompletionRequest& request,
                                               NamedModel named);

}  // namespace adze::serve
