#pragma once
// From a request's response format and tools to what may be sampled.

#include <memory>

#include "infer/scheduler.h"
#include "serve/completion_request.h"
#include "serve/model_host.h"

namespace adze::serve {

// Null: anything. Throws ApiError: a schema that cannot be kept to.
std::shared_ptr<const infer::SamplingConstraint> make_constraint(ServedModel& model,
                                                                 const CompletionRequest& request);

}  // namespace adze::serve
