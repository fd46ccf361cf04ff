#pragma once
// From a request's response format and tools to what may be sampled.

#include <cstdint>
#include <memory>

#include "infer/scheduler.h"
#include "infer/token_constraint.h"
#include "serve/completion_request.h"
#include "serve/model_host.h"
#include "text/json_schema.h"

namespace adze::serve {

// Null: anything. Takes long the first time for a model. Throws ApiError: a schema that cannot be
// kept to, a tokenizer that cannot write JSON.
std::shared_ptr<const infer::SamplingConstraint> make_constraint(ServedModel& model,
                                                                 const CompletionRequest& request);

// The first `known` of `rows` tokens: a model may have more rows than its tokenizer has tokens.
std::shared_ptr<const infer::SamplingConstraint> known_tokens(int64_t known, int64_t rows);

// Free text in which each <tool_call> is followed by a call that the grammar allows. Not
// `parallel`: the first call ends the answer.
std::shared_ptr<const infer::SamplingConstraint> tool_call_constraint(
    std::shared_ptr<const infer::TokenVocabulary> vocabulary,
    std::shared_ptr<const text::JsonGrammar> grammar,
    std::shared_ptr<const infer::SamplingConstraint> outside,
    int64_t rows,
    bool parallel);

}  // namespace adze::serve
