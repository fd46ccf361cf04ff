#pragma once
// One request's answer on its way from events to JSON: whole, or in chunks.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "serve/answer_stream.h"
#include "serve/completion_json.h"
#include "serve/completion_request.h"
#include "serve/metrics.h"
#include "serve/tool_calls.h"

namespace adze::serve {

class Answer {
 public:
  // All of these outlive it. `prompts`: their tokens.
  Answer(const CompletionRequest& request,
         const text::Tokenizer& tokenizer,
         const std::vector<std::vector<int32_t>>& prompts,
         const std::vector<std::string>& warnings,
         Metrics& metrics);

  bool finished() const { return open_ == 0; }
  // Takes an event in; returns the chunks that it makes. Throws what a failure holds.
  std::vector<Json> take(AnswerEvent event);
  Json whole() const;
  Json usage_chunk() const;
  // Of the first choice, when it is finished: all that the model has said, calls included.
  const std::string& said() const { return choices_.front().said; }
  const infer::FinishReport& finish() const { return *choices_.front().finish; }

 private:
  // What one choice has said so far.
  struct Choice {
    explicit Choice(ToolCallReader reader) : calls(std::move(reader)) {}

    ToolCallReader calls;
    std::string said;  // in a session
    std::string text;
    std::vector<infer::SampledToken> tokens;
    EchoedTokens echoed;  // of these, or of the next that are said
    Json tool_calls = Json::array();
    int64_t generated = 0;
    std::optional<infer::FinishReport> finish;
    int64_t text_offset = 0;  // characters, of log-probabilities
  };
  struct PromptFigures {
    int64_t tokens = 0;
    int64_t cached = 0;
  };

  Json head(std::string_view object) const;
  Json usage() const;
  Json chunk(size_t index, Json delta, const std::string& text, Json logprobs, Json reason) const;
  Json message(const Choice& choice) const;
  void take_prompt(const AnswerEvent& event, std::vector<Json>& chunks);
  void take_text(const AnswerEvent& event, std::vector<Json>& chunks);
  void take_parts(size_t index,
                  const std::vector<AnswerPart>& parts,
                  const std::vector<infer::SampledToken>& tokens,
                  std::vector<Json>& chunks);
  Json add_to_call(Choice& choice, const AnswerPart& part) const;
  void say(size_t index,
           const std::string& text,
           const std::vector<infer::SampledToken>& tokens,
           std::vector<Json>& chunks);
  Json timings(const AnswerEvent& event) const;
  Json figures(const AnswerEvent& event) const;
  std::string_view chunk_object() const {
    return request_.chat ? "chat.completion.chunk" : "text_completion";
  }

  const CompletionRequest& request_;
  const text::Tokenizer& tokenizer_;
  const std::vector<std::vector<int32_t>>& prompts_;
  const std::vector<std::string>& warnings_;
  Metrics& metrics_;
  std::string id_;
  int64_t created_;
  std::vector<PromptFigures> figures_;  // by prompt
  std::vector<Choice> choices_;         // prompt by prompt
  size_t open_;
  Json last_figures_;
};

// "chatcmpl-" and the like before random letters; any thread.
std::string random_id(std::string_view prefix);

}  // namespace adze::serve
