#pragma once
// Expressions, by recursive descent; precedence from weak to strong: if-else, or, and, not,
// comparisons, + -, ~, * / // %, **, signs, and what follows a value (.name, [item], calls,
// filters, tests).

#include "text/chat_template/syntax.h"
#include "text/chat_template/token_reader.h"

namespace adze::text::chat_template {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenReader& reader) : reader_(reader) {}

  ExpressionPointer parse();                // with if-else
  ExpressionPointer parse_unconditional();  // without: in a for statement "if" filters
  // As parse(), but "a, b" without brackets is a tuple.
  ExpressionPointer parse_tuple(bool conditional = true);
  std::vector<Suffix> parse_filters();  // |name(...)|name..., perhaps none
  CallArguments parse_arguments();      // (...)

 private:
  ExpressionPointer parse_logical(bool conjunction);
  ExpressionPointer parse_not();
  ExpressionPointer parse_comparison();
  ExpressionPointer parse_binary(int level);
  ExpressionPointer parse_unary(bool with_filters);
  ExpressionPointer parse_primary();
  ExpressionPointer parse_name();
  ExpressionPointer parse_string();
  ExpressionPointer parse_number();
  ExpressionPointer parse_brackets();
  ExpressionPointer parse_list();
  ExpressionPointer parse_mapping();
  ExpressionPointer parse_suffixes(ExpressionPointer base, bool with_filters);
  bool parse_suffix(std::vector<Suffix>& suffixes, bool with_filters);
  Suffix parse_attribute();
  Suffix parse_item();
  Suffix parse_test();
  bool at_tuple_end() const;

  TokenReader& reader_;
};

}  // namespace adze::text::chat_template
