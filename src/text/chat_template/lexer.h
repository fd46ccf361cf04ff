#pragma once
// Template source -> tokens, with Jinja's white-space control as chat templates expect it:
// trim_blocks (the line break after a block tag goes), lstrip_blocks (so does the indentation
// before one), "-" and "+" in tags, and no line break at the very end.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace adze::text::chat_template {

struct Token {
  enum class Kind : uint8_t {
    kData,           // text outside tags
    kBlockBegin,     // {%
    kBlockEnd,       // %}
    kVariableBegin,  // {{
    kVariableEnd,    // }}
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };

  Kind kind;
  int line;
  std::string text;  // kString: its value; kEnd: empty

  bool is_operator(std::string_view symbol) const {
    return kind == Kind::kOperator && text == symbol;
  }
  bool is_name(std::string_view name) const { return kind == Kind::kName && text == name; }
};

// The last token is kEnd. Throws core::Error with line number.
std::vector<Token> tokenize(std::string_view source);

}  // namespace adze::text::chat_template
