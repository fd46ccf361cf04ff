#include "text/chat_template/expression_parser.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "text/chat_template/runtime.h"

namespace adze::text::chat_template {

namespace {

using Kind = Token::Kind;

template <class Node>
ExpressionPointer make(int line, Node node) {
  return std::make_unique<Expression>(Expression{line, std::move(node)});
}

Value constant_text(std::string text) {
  return Value(std::make_shared<const std::string>(std::move(text)));
}

struct BinarySymbol {
  std::string_view symbol;
  int level;
  BinaryOperator operation;
};

constexpr int kStrongestBinary = 3;
constexpr std::array kBinarySymbols{
    BinarySymbol{"+", 0, BinaryOperator::kAdd},
    BinarySymbol{"-", 0, BinaryOperator::kSubtract},
    BinarySymbol{"~", 1, BinaryOperator::kConcatenate},
    BinarySymbol{"*", 2, BinaryOperator::kMultiply},
    BinarySymbol{"/", 2, BinaryOperator::kDivide},
    BinarySymbol{"//", 2, BinaryOperator::kFloorDivide},
    BinarySymbol{"%", 2, BinaryOperator::kModulo},
    BinarySymbol{"**", kStrongestBinary, BinaryOperator::kPower},
};

struct ComparisonSymbol {
  std::string_view symbol;
  ComparisonOperator operation;
};

constexpr std::array kComparisonSymbols{
    ComparisonSymbol{"==", ComparisonOperator::kEqual},
    ComparisonSymbol{"!=", ComparisonOperator::kNotEqual},
    ComparisonSymbol{"<", ComparisonOperator::kLess},
    ComparisonSymbol{"<=", ComparisonOperator::kLessEqual},
    ComparisonSymbol{">", ComparisonOperator::kGreater},
    ComparisonSymbol{">=", ComparisonOperator::kGreaterEqual},
};

std::optional<ComparisonOperator> take_comparison(TokenReader& reader) {
  if (reader.skip_name("in")) {
    return ComparisonOperator::kIn;
  }
  if (reader.peek().is_name("not") && reader.peek(1).is_name("in")) {
    reader.next();
    reader.next();
    return ComparisonOperator::kNotIn;
  }
  for (const ComparisonSymbol& candidate : kComparisonSymbols) {
    if (reader.skip_operator(candidate.symbol)) {
      return candidate.operation;
    }
  }
  return std::nullopt;
}

std::optional<BinaryOperator> take_binary(TokenReader& reader, int level) {
  for (const BinarySymbol& candidate : kBinarySymbols) {
    if (candidate.level == level && reader.skip_operator(candidate.symbol)) {
      return candidate.operation;
    }
  }
  return std::nullopt;
}

}  // namespace

ExpressionPointer ExpressionParser::parse() {
  const TokenReader::Level level(reader_);
  ExpressionPointer value = parse_unconditional();
  while (reader_.peek().is_name("if")) {
    const int line = reader_.next().line;
    Conditional conditional;
    conditional.if_true = std::move(value);
    conditional.condition = parse_unconditional();
    if (reader_.skip_name("else")) {
      conditional.if_false = parse();
    }
    value = make(line, std::move(conditional));
  }
  return value;
}

ExpressionPointer ExpressionParser::parse_unconditional() {
  return parse_logical(false);
}

bool ExpressionParser::at_tuple_end() const {
  const Token& token = reader_.peek();
  return token.kind == Kind::kBlockEnd || token.kind == Kind::kVariableEnd ||
         token.is_operator(")") || token.is_name("if") || token.kind == Kind::kEnd;
}

ExpressionPointer ExpressionParser::parse_tuple(bool conditional) {
  const int line = reader_.line();
  ListLiteral tuple{{}, true};
  do {
    if (at_tuple_end() && !tuple.items.empty()) {
      break;  // a comma at the end
    }
    tuple.items.push_back(conditional ? parse() : parse_unconditional());
    if (tuple.items.size() == 1 && !reader_.peek().is_operator(",")) {
      return std::move(tuple.items.front());
    }
  } while (reader_.skip_operator(","));
  return make(line, std::move(tuple));
}

ExpressionPointer ExpressionParser::parse_logical(bool conjunction) {
  const int line = reader_.line();
  Logical logical{conjunction, {}};
  do {
    logical.operands.push_back(conjunction ? parse_not() : parse_logical(true));
  } while (reader_.skip_name(conjunction ? "and" : "or"));
  return logical.operands.size() == 1 ? std::move(logical.operands.front())
                                      : make(line, std::move(logical));
}

ExpressionPointer ExpressionParser::parse_not() {
  if (!reader_.peek().is_name("not")) {
    return parse_comparison();
  }
  const TokenReader::Level level(reader_);
  const int line = reader_.next().line;
  return make(line, Unary{Unary::Operator::kNot, parse_not()});
}

ExpressionPointer ExpressionParser::parse_comparison() {
  const int line = reader_.line();
  Comparison comparison{parse_binary(0), {}};
  while (true) {
    const auto operation = take_comparison(reader_);
    if (!operation) {
      break;
    }
    comparison.rest.emplace_back(*operation, parse_binary(0));
  }
  return comparison.rest.empty() ? std::move(comparison.first) : make(line, std::move(comparison));
}

ExpressionPointer ExpressionParser::parse_binary(int level) {
  const auto operand = [&] {
    return level == kStrongestBinary ? parse_unary(true) : parse_binary(level + 1);
  };
  const int line = reader_.line();
  BinaryChain chain{operand(), {}};
  while (true) {
    const auto operation = take_binary(reader_, level);
    if (!operation) {
      break;
    }
    chain.rest.emplace_back(*operation, operand());
  }
  return chain.rest.empty() ? std::move(chain.first) : make(line, std::move(chain));
}

ExpressionPointer ExpressionParser::parse_unary(bool with_filters) {
  const int line = reader_.line();
  const bool minus = reader_.peek().is_operator("-");
  ExpressionPointer value;
  if (minus || reader_.peek().is_operator("+")) {
    const TokenReader::Level level(reader_);
    reader_.next();
    value = make(
        line, Unary{minus ? Unary::Operator::kMinus : Unary::Operator::kPlus, parse_unary(false)});
  } else {
    value = parse_primary();
  }
  return parse_suffixes(std::move(value), with_filters);
}

ExpressionPointer ExpressionParser::parse_primary() {
  const Token& token = reader_.peek();
  switch (token.kind) {
    case Kind::kName:
      return parse_name();
    case Kind::kString:
      return parse_string();
    case Kind::kInteger:
    case Kind::kFloat:
      return parse_number();
    default:
      break;
  }
  if (token.is_operator("(")) {
    return parse_brackets();
  }
  if (token.is_operator("[")) {
    return parse_list();
  }
  if (token.is_operator("{")) {
    return parse_mapping();
  }
  reader_.fail_unexpected("an expression");
}

ExpressionPointer ExpressionParser::parse_name() {
  const Token token = reader_.next();
  if (token.text == "true" || token.text == "True") {
    return make(token.line, Literal{Value(true)});
  }
  if (token.text == "false" || token.text == "False") {
    return make(token.line, Literal{Value(false)});
  }
  if (token.text == "none" || token.text == "None") {
    return make(token.line, Literal{Value(None{})});
  }
  return make(token.line, Name{token.text});
}

ExpressionPointer ExpressionParser::parse_string() {
  Token token = reader_.next();
  while (reader_.peek().kind == Kind::kString) {  // neighbours join
    token.text += reader_.next().text;
  }
  return make(token.line, Literal{constant_text(std::move(token.text))});
}

ExpressionPointer ExpressionParser::parse_number() {
  const Token token = reader_.next();
  const char* end = token.text.data() + token.text.size();
  if (token.kind == Kind::kFloat) {
    double number = 0.0;
    std::from_chars(token.text.data(), end, number);
    return make(token.line, Literal{Value(number)});
  }
  int64_t number = 0;
  if (std::from_chars(token.text.data(), end, number).ec != std::errc()) {
    fail_at(token.line, "an integer beyond 64 bits: {:.40}", token.text);
  }
  return make(token.line, Literal{Value(number)});
}

ExpressionPointer ExpressionParser::parse_brackets() {
  const int line = reader_.next().line;
  if (reader_.skip_operator(")")) {
    return make(line, ListLiteral{{}, true});
  }
  ExpressionPointer value = parse_tuple();
  reader_.expect_operator(")");
  return value;
}

ExpressionPointer ExpressionParser::parse_list() {
  const int line = reader_.next().line;
  ListLiteral list{{}, false};
  while (!reader_.peek().is_operator("]")) {
    list.items.push_back(parse());
    if (!reader_.skip_operator(",")) {
      break;
    }
  }
  reader_.expect_operator("]");
  return make(line, std::move(list));
}

ExpressionPointer ExpressionParser::parse_mapping() {
  const int line = reader_.next().line;
  MappingLiteral mapping;
  while (!reader_.peek().is_operator("}")) {
    ExpressionPointer key = parse();
    reader_.expect_operator(":");
    mapping.entries.emplace_back(std::move(key), parse());
    if (!reader_.skip_operator(",")) {
      break;
    }
  }
  reader_.expect_operator("}");
  return make(line, std::move(mapping));
}

ExpressionPointer ExpressionParser::parse_suffixes(ExpressionPointer base, bool with_filters) {
  const int line = base->line;
  std::vector<Suffix> suffixes;
  while (parse_suffix(suffixes, with_filters)) {
  }
  return suffixes.empty() ? std::move(base)
                          : make(line, Suffixed{std::move(base), std::move(suffixes)});
}

bool ExpressionParser::parse_suffix(std::vector<Suffix>& suffixes, bool with_filters) {
  const Token& token = reader_.peek();
  if (token.is_operator(".")) {
    suffixes.push_back(parse_attribute());
  } else if (token.is_operator("[")) {
    suffixes.push_back(parse_item());
  } else if (token.is_operator("(")) {
    Suffix call{Suffix::Kind::kCall, token.line, {}, {}, {}, {}};
    call.arguments = parse_arguments();
    suffixes.push_back(std::move(call));
  } else if (with_filters && token.is_operator("|")) {
    for (Suffix& filter : parse_filters()) {
      suffixes.push_back(std::move(filter));
    }
  } else if (with_filters && token.is_name("is")) {
    suffixes.push_back(parse_test());
  } else {
    return false;
  }
  return true;
}

Suffix ExpressionParser::parse_attribute() {
  Suffix suffix{Suffix::Kind::kAttribute, reader_.next().line, {}, {}, {}, {}};
  if (reader_.peek().kind == Kind::kInteger) {
    suffix.kind = Suffix::Kind::kItem;
    suffix.item = parse_number();
  } else {
    suffix.name = reader_.expect_identifier();
  }
  return suffix;
}

Suffix ExpressionParser::parse_item() {
  Suffix suffix{Suffix::Kind::kItem, reader_.next().line, {}, {}, {}, {}};
  const auto at_end_of_part = [&] {
    return reader_.peek().is_operator(":") || reader_.peek().is_operator("]");
  };
  if (!at_end_of_part()) {
    suffix.item = parse();
  }
  if (reader_.peek().is_operator(":")) {
    suffix.kind = Suffix::Kind::kSlice;
    suffix.slice.push_back(std::move(suffix.item));
    while (suffix.slice.size() < 3 && reader_.skip_operator(":")) {
      suffix.slice.push_back(at_end_of_part() ? nullptr : parse());
    }
    suffix.slice.resize(3);
  } else if (suffix.item == nullptr) {
    reader_.fail_unexpected("an index");
  }
  reader_.expect_operator("]");
  return suffix;
}

std::vector<Suffix> ExpressionParser::parse_filters() {
  std::vector<Suffix> filters;
  while (reader_.skip_operator("|")) {
    Suffix filter{Suffix::Kind::kFilter, reader_.line(), {}, {}, {}, {}};
    filter.name = reader_.expect_identifier();
    if (reader_.peek().is_operator("(")) {
      filter.arguments = parse_arguments();
    }
    filters.push_back(std::move(filter));
  }
  return filters;
}

Suffix ExpressionParser::parse_test() {
  Suffix test{Suffix::Kind::kTest, reader_.next().line, {}, {}, {}, {}};
  if (reader_.skip_name("not")) {
    test.kind = Suffix::Kind::kNegatedTest;
  }
  test.name = reader_.expect_identifier();
  const Token& token = reader_.peek();
  if (token.is_operator("(")) {
    test.arguments = parse_arguments();
    return test;
  }
  // One argument may follow without brackets: "is divisibleby 3".
  const bool is_operand = token.kind == Kind::kString || token.kind == Kind::kInteger ||
                          token.kind == Kind::kFloat || token.is_operator("[") ||
                          token.is_operator("{");
  constexpr std::array<std::string_view, 7> kNoOperands{
      "else", "or", "and", "if", "is", "in", "not"};
  const bool is_name =
      token.kind == Kind::kName &&
      std::find(kNoOperands.begin(), kNoOperands.end(), token.text) == kNoOperands.end();
  if (is_operand || is_name) {
    const TokenReader::Level level(reader_);
    test.arguments.positional.push_back(parse_suffixes(parse_primary(), false));
  }
  return test;
}

CallArguments ExpressionParser::parse_arguments() {
  reader_.expect_operator("(");
  CallArguments arguments;
  while (!reader_.peek().is_operator(")")) {
    if (reader_.peek().is_operator("*") || reader_.peek().is_operator("**")) {
      fail_at(reader_.line(), "arguments from a list ('*') are not supported");
    }
    if (reader_.peek().kind == Kind::kName && reader_.peek(1).is_operator("=")) {
      std::string name = reader_.next().text;
      reader_.next();
      arguments.named.emplace_back(std::move(name), parse());
    } else if (arguments.named.empty()) {
      arguments.positional.push_back(parse());
    } else {
      reader_.fail_unexpected("a named argument after another");
    }
    if (!reader_.skip_operator(",")) {
      break;
    }
  }
  reader_.expect_operator(")");
  return arguments;
}

}  // namespace adze::text::chat_template
