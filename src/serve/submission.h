#pragma once
// From a request to what the scheduler is asked for: tokens, constraint, limits.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "infer/scheduler.h"
#include "serve/completion_request.h"
#include "serve/model_host.h"
#include "serve/session_turn.h"

namespace adze::serve {

// Of every answer, whatever a request asks for.
struct AnswerLimits {
  std::optional<int64_t> max_tokens;
  std::optional<double> timeout_seconds;
};

// Throws ApiError: longer than the server allows.
std::optional<infer::Clock::time_point> answer_deadline(const std::optional<double>& seconds,
                                                        const AnswerLimits& limits,
                                                        infer::Clock::time_point since);

struct Submission {
  std::vector<std::vector<int32_t>> prompts;
  std::vector<int64_t> max_tokens;    // by prompt
  infer::ScheduledRequest scheduled;  // but for these two
  std::vector<std::string> warnings;  // what of the request has no effect
  std::optional<SessionTurn> turn;    // in a session
};

// A request's choice of cache, the server's where it makes none; with the model's adapter, for this
// tenant.
infer::CacheChoice cache_choice(const CompletionRequest& request,
                                const NamedModel& named,
                                const std::string& tenant);

// `tenant`: whose cache this is. `session`: what it goes on with, or null. Takes long for long
// texts, new schemas and models; any thread. Throws ApiError and core::UsageError.
Submission prepare_submission(const CompletionRequest& request,
                              const NamedModel& named,
                              const std::string& tenant,
                              const SessionState* session,
                              const AnswerLimits& limits,
                              infer::Clock::time_point since);

}  // namespace adze::serve
