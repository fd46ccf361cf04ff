#pragma once
// What the routes of /v1/sessions say and take.

#include <string>
#include <string_view>

#include "infer/swap_space.h"
#include "serve/completion_request.h"
#include "serve/model_host.h"
#include "serve/session.h"

namespace adze::serve {

std::string session_of(std::string_view path);  // /v1/sessions/ID and what follows
Json session_json(const Session& session, const SessionLimits& limits);

// What a request leaves out is as the session has it. Throws ApiError (409): it names another
// model, which is not loaded to say so.
void keep_choices(const Session& session, CompletionRequest& request);

// The state of a file that is for this model, its cache checked and put on disk. Takes long; any
// thread. Throws ApiError: 400 another model or damaged; infer::QueueFull: no room. Leaves the
// binding in the file.
SessionState check_session(SessionFile&& file, const NamedModel& named, infer::SwapSpace* swap);

}  // namespace adze::serve
