#include "serve/constraints.h"

namespace adze::serve {

std::shared_ptr<const infer::SamplingConstraint> make_constraint(ServedModel&,
                                                                 const CompletionRequest& request) {
  if (request.format.kind != ResponseFormat::Kind::kText ||
      request.tool_choice.kind == ToolChoice::Kind::kRequired) {
    throw bad_request("response_format", "[response_format] expected text", "unsupported");
  }
  return nullptr;
}

}  // namespace adze::serve
