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

inline constexpr std::string_view kCallOpen = "<tool_call>";
inline constexpr std::string_view kCallClose = "</tool_call>";

// Gives names and arguments out as they come. What is no call of one of the tools is text.
class ToolCallReader {
 public:
  // only_call: the text is one call and nothing else.
  ToolCallReader(const std::vector<Tool>& tools, bool only_call);

  std::vector<AnswerPart> push(std::string_view text);
  std::vector<AnswerPart> finish();
  int64_t calls() const { return calls_; }  // that have begun
  // There are calls, and the last of them has its end.
  bool whole() const { return calls_ > 0 && state_ != State::kArguments; }

 private:
  enum class State { kText, kHead, kArguments, kTail };

  // Each takes what it can of held_; false: more text is needed.
  bool read_text(std::vector<AnswerPart>& parts);
  bool read_head(std::vector<AnswerPart>& parts);
  bool read_arguments(std::vector<AnswerPart>& parts);
  bool read_tail();

  std::vector<std::string> names_;
  bool only_call_;
  State state_;
  std::string held_;
  bool after_call_ = false;  // white space between calls is none of the text
  int64_t depth_ = 0;        // of the arguments' brackets
  bool in_string_ = false;
  bool escaped_ = false;
  int64_t calls_ = 0;
};

// The schema of a call of one of the tools; `name`: of this one, "" for any.
Json call_schema(const std::vector<Tool>& tools, const std::string& name);

// Messages that explain the tools to a model whose template does not.
Json explain_tools(const Json& messages, const Json& definitions);

}  // namespace adze::serve
