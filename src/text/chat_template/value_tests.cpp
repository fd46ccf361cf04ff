#include <array>
#include <optional>

#include "text/chat_template/library.h"
#include "text/chat_template/lookup.h"
#include "text/chat_template/operators.h"
#include "text/chat_template/text_operations.h"

namespace adze::text::chat_template {

namespace {

using Test = bool (*)(Runtime& runtime, const Value& value);

struct Row {
  std::string_view name;
  Test test;
};

bool is_sequence(Runtime& /*runtime*/, const Value& value) {
  return value.is<Text>() || value.is<List*>() || value.is_mapping() || value.is_undefined();
}

bool has_remainder(Runtime& runtime, const Value& value, int64_t divisor, int64_t remainder) {
  const Value modulo = apply_binary(runtime, BinaryOperator::kModulo, value, Value(divisor));
  return equals(runtime, modulo, Value(remainder));
}

constexpr std::array kTests{
    Row{"boolean", [](Runtime&, const Value& value) { return value.is<bool>(); }},
    Row{"callable", [](Runtime&, const Value& value) { return value.is<Callable*>(); }},
    Row{"defined", [](Runtime&, const Value& value) { return !value.is_undefined(); }},
    Row{"even",
        [](Runtime& runtime, const Value& value) { return has_remainder(runtime, value, 2, 0); }},
    Row{"false",
        [](Runtime&, const Value& value) { return value.is<bool>() && !*value.get<bool>(); }},
    Row{"float", [](Runtime&, const Value& value) { return value.is<double>(); }},
    Row{"integer", [](Runtime&, const Value& value) { return value.is<int64_t>(); }},
    Row{"iterable", is_sequence},
    Row{"lower",
        [](Runtime&, const Value& value) {
          return value.is<Text>() && lower_case(value.text()) == value.text() &&
                 upper_case(value.text()) != value.text();
        }},
    Row{"mapping", [](Runtime&, const Value& value) { return value.is_mapping(); }},
    Row{"none", [](Runtime&, const Value& value) { return value.is<None>(); }},
    Row{"number", [](Runtime&, const Value& value) { return value.is_number(); }},
    Row{"odd",
        [](Runtime& runtime, const Value& value) { return has_remainder(runtime, value, 2, 1); }},
    Row{"sequence", is_sequence},
    Row{"string", [](Runtime&, const Value& value) { return value.is<Text>(); }},
    Row{"true",
        [](Runtime&, const Value& value) { return value.is<bool>() && *value.get<bool>(); }},
    Row{"undefined", [](Runtime&, const Value& value) { return value.is_undefined(); }},
    Row{"upper",
        [](Runtime&, const Value& value) {
          return value.is<Text>() && upper_case(value.text()) == value.text() &&
                 lower_case(value.text()) != value.text();
        }},
};

struct ComparisonRow {
  std::string_view name;
  ComparisonOperator operation;
};

constexpr std::array kComparisons{
    ComparisonRow{"!=", ComparisonOperator::kNotEqual},
    ComparisonRow{"<", ComparisonOperator::kLess},
    ComparisonRow{"<=", ComparisonOperator::kLessEqual},
    ComparisonRow{"==", ComparisonOperator::kEqual},
    ComparisonRow{">", ComparisonOperator::kGreater},
    ComparisonRow{">=", ComparisonOperator::kGreaterEqual},
    ComparisonRow{"eq", ComparisonOperator::kEqual},
    ComparisonRow{"equalto", ComparisonOperator::kEqual},
    ComparisonRow{"ge", ComparisonOperator::kGreaterEqual},
    ComparisonRow{"greaterthan", ComparisonOperator::kGreater},
    ComparisonRow{"gt", ComparisonOperator::kGreater},
    ComparisonRow{"in", ComparisonOperator::kIn},
    ComparisonRow{"le", ComparisonOperator::kLessEqual},
    ComparisonRow{"lessthan", ComparisonOperator::kLess},
    ComparisonRow{"lt", ComparisonOperator::kLess},
    ComparisonRow{"ne", ComparisonOperator::kNotEqual},
};

// Identity: of containers the object, of other values type and value.
bool same_as(Runtime& runtime, const Value& left, const Value& right) {
  if (left.is<List*>() && right.is<List*>()) {
    return *left.get<List*>() == *right.get<List*>();
  }
  if (left.is<Mapping*>() && right.is<Mapping*>()) {
    return *left.get<Mapping*>() == *right.get<Mapping*>();
  }
  return std::string_view(left.type_name()) == right.type_name() && equals(runtime, left, right);
}

}  // namespace

bool apply_test(Runtime& runtime,
                const std::string& name,
                const Value& value,
                const Arguments& arguments) {
  runtime.step();
  if (const Row* row = find_named(kTests, name)) {
    expect_no_arguments(runtime, name, arguments);
    if (value.is<Text>() && (name == "lower" || name == "upper")) {
      runtime.step_characters(value.text().size());
    }
    return row->test(runtime, value);
  }
  if (const ComparisonRow* row = find_named(kComparisons, name)) {
    const BoundArguments bound(runtime, name, arguments, {"other"});
    return compare(runtime, row->operation, value, bound.require(0));
  }
  if (name == "sameas") {
    const BoundArguments bound(runtime, name, arguments, {"other"});
    return same_as(runtime, value, bound.require(0));
  }
  if (name == "divisibleby") {
    const BoundArguments bound(runtime, name, arguments, {"num"});
    const auto divisor = bound.integer(0);
    if (!divisor) {
      runtime.fail("divisibleby needs an integer");
    }
    return has_remainder(runtime, value, *divisor, 0);
  }
  runtime.fail("there is no test '{:.80}'", name);
}

}  // namespace adze::text::chat_template
