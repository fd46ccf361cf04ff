#pragma once
// Calls of functions in what a model writes: <tool_call>{"name": ..., "arguments": ...}</tool_call>
// where it is free to call, the object alone where it has to.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "serve/completion_request.h"

namespace adze::serve {

// What a piece of an answer adds to it.
struct AnswerPart {
  enum class Kind { kText, kCall, kArguments };
  Kind kind = Kind::kText;
  int64_t call = 0;  // kCall, kArguments: number of the call
  std::string text;  // kText, kArguments
  std::string name;  // kCall
};

class ToolCallReader {
 public:
  // only_call: the text is one call and nothing else.
  explicit ToolCallReader(bool only_call) : only_call_(only_call) {}

  std::vector<AnswerPart> push(std::string_view text);
  std::vector<AnswerPart> finish();
  int64_t calls() const { return calls_; }

 private:
  void read_tagged(std::vector<AnswerPart>& parts);
  void read_call(std::vector<AnswerPart>& parts);
  bool add_call(std::string_view json, std::vector<AnswerPart>& parts);

  bool only_call_;
  bool inside_ = false;  // tags, or arguments
  std::string held_;
  int64_t calls_ = 0;
};

// The schema of a call of one of the tools; `name`: of this one, "" for any.
Json call_schema(const std::vector<Tool>& tools, const std::string& name);

// Messages that explain the tools to a model whose template does not.
Json explain_tools(const Json& messages, const std::vector<Tool>& tools);

}  // namespace adze::serve
