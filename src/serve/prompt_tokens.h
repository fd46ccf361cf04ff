#pragma once
// From a request's messages or prompts to tokens.

#include <cstdint>
#include <vector>

#include "infer/loaded_model.h"
#include "serve/completion_request.h"

namespace adze::serve {

// One text for each answer's prompt. `most_tokens`: 0 for no limit; of a text that is longer
// whatever its tokens are, none are looked for. Takes long for long texts. Throws ApiError.
std::vector<std::vector<int32_t>> prompt_tokens(const infer::LoadedModel& loaded,
                                                const CompletionRequest& request,
                                                int64_t most_tokens);

}  // namespace adze::serve
