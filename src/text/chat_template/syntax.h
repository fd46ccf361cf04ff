#pragma once
// The syntax tree of a template. Chains of operators, suffixes and branches are lists, not nested
// nodes, so that the depth of the tree is the nesting of the source, which the parser limits.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/chat_template/value.h"

namespace adze::text::chat_template {

struct Expression;
using ExpressionPointer = std::unique_ptr<Expression>;

struct CallArguments {
  std::vector<ExpressionPointer> positional;
  std::vector<std::pair<std::string, ExpressionPointer>> named;
};

struct Literal {
  Value value;
};

struct Name {
  std::string name;
};

struct ListLiteral {
  std::vector<ExpressionPointer> items;
  bool tuple;
};

struct MappingLiteral {
  std::vector<std::pair<ExpressionPointer, ExpressionPointer>> entries;
};

enum class BinaryOperator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kConcatenate,  // ~
};

// first op operand op operand ..., from the left, operators of one precedence.
struct BinaryChain {
  ExpressionPointer first;
  std::vector<std::pair<BinaryOperator, ExpressionPointer>> rest;
};

enum class ComparisonOperator : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

// a < b < c means a < b and b < c, with b evaluated once.
struct Comparison {
  ExpressionPointer first;
  std::vector<std::pair<ComparisonOperator, ExpressionPointer>> rest;
};

struct Logical {     // the value of the operand that decides
  bool conjunction;  // and; otherwise or
  std::vector<ExpressionPointer> operands;
};

struct Unary {
  enum class Operator : uint8_t { kNot, kMinus, kPlus };
  Operator operation;
  ExpressionPointer operand;
};

struct Conditional {
  ExpressionPointer condition;
  ExpressionPointer if_true;
  ExpressionPointer if_false;  // may be null: undefined
};

// What may follow a value: .name, [index], [a:b:c], (arguments), |filter(...), is test(...).
struct Suffix {
  enum class Kind : uint8_t { kAttribute, kItem, kSlice, kCall, kFilter, kTest, kNegatedTest };

  Kind kind;
  int line;
  std::string name;                      // kAttribute, kFilter, kTest
  ExpressionPointer item;                // kItem
  std::vector<ExpressionPointer> slice;  // kSlice: start, stop, step; null where left out
  CallArguments arguments;               // kCall, kFilter, kTest
};

struct Suffixed {
  ExpressionPointer base;
  std::vector<Suffix> suffixes;
};

struct Expression {
  int line;
  std::variant<Literal,
               Name,
               ListLiteral,
               MappingLiteral,
               BinaryChain,
               Comparison,
               Logical,
               Unary,
               Conditional,
               Suffixed>
      node;
};

struct Statement;
using Block = std::vector<Statement>;

// What `set` and `for` assign to: names, or attributes of a namespace.
struct Target {
  std::vector<std::string> names;  // several: the value is unpacked
  bool unpack = false;             // (x,) unpacks too
  std::string attribute;           // not empty: names[0].attribute
};

struct OutputText {
  std::string text;
};

struct OutputValue {
  ExpressionPointer value;
};

struct If {
  struct Branch {
    ExpressionPointer condition;  // null: else
    Block body;
  };
  std::vector<Branch> branches;
};

struct For {
  Target target;
  ExpressionPointer sequence;
  ExpressionPointer filter;  // may be null
  Block body;
  Block otherwise;
};

struct Set {
  Target target;
  ExpressionPointer value;
};

struct SetBlock {  // the rendered body, filtered
  Target target;
  std::vector<Suffix> filters;
  Block body;
};

struct Parameter {
  std::string name;
  ExpressionPointer otherwise;  // default; may be null
};

struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  Block body;
};

struct Macro {
  std::unique_ptr<MacroDefinition> definition;  // its address names the macro while rendering
};

struct CallBlock {  // the body is what caller() gives within the called macro
  std::unique_ptr<MacroDefinition> caller;
  ExpressionPointer call;
};

struct FilterBlock {
  std::vector<Suffix> filters;
  Block body;
};

struct With {  // a scope of its own
  std::vector<std::pair<Target, ExpressionPointer>> assignments;
  Block body;
};

struct Break {};
struct Continue {};

struct Statement {
  int line;
  std::variant<OutputText,
               OutputValue,
               If,
               For,
               Set,
               SetBlock,
               Macro,
               CallBlock,
               FilterBlock,
               With,
               Break,
               Continue>
      node;
};

}  // namespace adze::text::chat_template
