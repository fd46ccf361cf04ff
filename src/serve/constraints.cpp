#include "serve/constraints.h"

#include "core/error.h"
#include "infer/token_constraint.h"
#include "serve/tool_calls.h"

namespace adze::serve {
namespace {

class JsonConstraint : public infer::SamplingConstraint {
 public:
  JsonConstraint(std::shared_ptr<const infer::TokenVocabulary> vocabulary,
                 std::shared_ptr<const text::JsonGrammar> grammar,
                 int64_t vocab_size)
      : constraint_(std::move(vocabulary), std::move(grammar)),
        bits_((static_cast<size_t>(vocab_size) + 63) / 64) {}

  std::unique_ptr<SamplingConstraint> clone() const override {
    return std::make_unique<JsonConstraint>(*this);
  }
  std::span<const uint64_t> allowed() override {
    constraint_.allowed(bits_);
    return bits_;
  }
  void accept(int32_t token) override { constraint_.accept(token); }

 private:
  infer::TokenConstraint constraint_;
  std::vector<uint64_t> bits_;  // of the model's vocabulary, which may be larger
};

// The schema's error as one of the field that holds it.
std::shared_ptr<const text::JsonGrammar> compile(const Json& schema, const std::string& field) {
  try {
    return text::JsonGrammar::from_schema(schema);
  } catch (const core::Error& error) {
    throw bad_request(field, fmt::format("[{}] {}", field, error.what()), "unsupported");
  }
}

}  // namespace

std::shared_ptr<const infer::SamplingConstraint> make_constraint(ServedModel& model,
                                                                 const CompletionRequest& request) {
  std::shared_ptr<const text::JsonGrammar> grammar;
  if (request.tool_choice.kind != ToolChoice::Kind::kNone) {
    // Checked even where the model is free not to call.
    grammar = compile(call_schema(request.tools, request.tool_choice.name), "tools");
    if (request.tool_choice.kind == ToolChoice::Kind::kAuto) {
      grammar = nullptr;
    }
  }
  if (request.format.kind == ResponseFormat::Kind::kJsonSchema) {
    grammar = compile(request.format.schema, "response_format.json_schema.schema");
  } else if (request.format.kind == ResponseFormat::Kind::kJsonObject) {
    grammar = text::JsonGrammar::any_object();
  }
  if (!grammar) {
    return nullptr;
  }
  return std::make_shared<JsonConstraint>(
      model.vocabulary(), std::move(grammar), model.loaded().model->spec.vocab_size);
}

}  // namespace adze::serve
