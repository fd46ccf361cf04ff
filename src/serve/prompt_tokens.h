#pragma once
// From a request's messages or prompts to tokens.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "infer/loaded_model.h"
#include "serve/completion_request.h"
#include "serve/text_mark.h"

namespace adze::serve {

// A chat as its template writes it. Texts of strangers carry `mark` wherever they would be taken
// for a control token: for Tokenizer::encode_protected().
struct RenderedChat {
  std::string text;
  std::string mark;
};

// `messages` with the request's tools, up to where the answer begins. `mark` to begin with: another
// is made where a text contains it. Throws ApiError: no template, or what the template refuses.
RenderedChat render_request(const infer::LoadedModel& loaded,
                            const CompletionRequest& request,
                            const Json& messages,
                            std::string mark,
                            int64_t most_tokens);

// One text for each answer's prompt. `most_tokens`: 0 for no limit; of a text that is longer
// whatever its tokens are, none are looked for. Takes long for long texts. Throws ApiError.
std::vector<std::vector<int32_t>> prompt_tokens(const infer::LoadedModel& loaded,
                                                const CompletionRequest& request,
                                                int64_t most_tokens);

}  // namespace adze::serve
