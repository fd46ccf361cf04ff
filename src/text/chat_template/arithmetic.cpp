#include <cmath>
#include <limits>

#include "text/chat_template/operators.h"
#include "text/chat_template/represent.h"

namespace adze::text::chat_template {

namespace {

[[noreturn]] void fail_operands(Runtime& runtime,
                                std::string_view symbol,
                                const Value& left,
                                const Value& right) {
  for (const Value* operand : {&left, &right}) {
    if (const auto* undefined = operand->get<Undefined>()) {
      runtime.fail("'{}' needs values: {} is undefined",
                   symbol,
                   undefined->hint ? *undefined->hint : "an operand");
    }
  }
  runtime.fail("'{}' does not work on '{}' and '{}'", symbol, left.type_name(), right.type_name());
}

template <class Operation>
Value checked(Runtime& runtime, Operation&& operation, int64_t left, int64_t right) {
  int64_t result = 0;
  if (operation(left, right, &result)) {
    runtime.fail("an integer beyond 64 bits");
  }
  return Value(result);
}

Value add(Runtime& runtime, const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    const auto sum = [](int64_t a, int64_t b, int64_t* c) {
      return __builtin_add_overflow(a, b, c);
    };
    return checked(runtime, sum, left.integer(), right.integer());
  }
  if (left.is_number() && right.is_number()) {
    return Value(left.number() + right.number());
  }
  if (left.is<Text>() && right.is<Text>()) {
    TextBuilder builder(runtime);
    builder.append(left.text());
    builder.append(right.text());
    return builder.finish();
  }
  const auto* first = left.get<List*>();
  const auto* second = right.get<List*>();
  if (first == nullptr || second == nullptr || (*first)->tuple != (*second)->tuple) {
    fail_operands(runtime, "+", left, right);
  }
  List* sum = runtime.list((*first)->tuple);
  for (const List* part : {*first, *second}) {
    runtime.step(static_cast<int64_t>(part->items.size()));
    for (const Value& item : part->items) {
      runtime.append(*sum, item);
    }
  }
  return Value(sum);
}

Value subtract(Runtime& runtime, const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    const auto difference = [](int64_t a, int64_t b, int64_t* c) {
      return __builtin_sub_overflow(a, b, c);
    };
    return checked(runtime, difference, left.integer(), right.integer());
  }
  if (!left.is_number() || !right.is_number()) {
    fail_operands(runtime, "-", left, right);
  }
  return Value(left.number() - right.number());
}

Value repeat(Runtime& runtime, const Value& value, int64_t count) {
  if (value.is<Text>()) {
    TextBuilder builder(runtime);
    const int64_t times = value.text().empty() ? 0 : count;
    for (int64_t index = 0; index < times; ++index) {
      runtime.step();
      builder.append(value.text());
    }
    return builder.finish();
  }
  const List& list = **value.get<List*>();
  List* repeated = runtime.list(list.tuple);
  const std::vector<Value> items = list.items;
  for (int64_t index = 0; index < count && !items.empty(); ++index) {
    runtime.step(static_cast<int64_t>(items.size()));
    for (const Value& item : items) {
      runtime.append(*repeated, item);
    }
  }
  return Value(repeated);
}

Value multiply(Runtime& runtime, const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    const auto product = [](int64_t a, int64_t b, int64_t* c) {
      return __builtin_mul_overflow(a, b, c);
    };
    return checked(runtime, product, left.integer(), right.integer());
  }
  if (left.is_number() && right.is_number()) {
    return Value(left.number() * right.number());
  }
  const auto repeats = [](const Value& value) { return value.is<Text>() || value.is<List*>(); };
  if (repeats(left) && right.is_integral()) {
    return repeat(runtime, left, right.integer());
  }
  if (left.is_integral() && repeats(right)) {
    return repeat(runtime, right, left.integer());
  }
  fail_operands(runtime, "*", left, right);
}

// Python rounds quotients down, and the remainder has the divisor's sign.
Value divide_down(Runtime& runtime, const Value& left, const Value& right, bool remainder) {
  if (!left.is_number() || !right.is_number()) {
    fail_operands(runtime, remainder ? "%" : "//", left, right);
  }
  if (right.number() == 0.0) {
    runtime.fail("division by zero");
  }
  if (left.is_integral() && right.is_integral()) {
    const int64_t dividend = left.integer();
    const int64_t divisor = right.integer();
    if (divisor == -1) {  // the one case that could overflow
      return remainder ? Value(int64_t{0}) : negate(runtime, Value(dividend));
    }
    const bool adjust = dividend % divisor != 0 && (dividend % divisor < 0) != (divisor < 0);
    return Value(remainder ? dividend % divisor + (adjust ? divisor : 0)
                           : dividend / divisor - (adjust ? 1 : 0));
  }
  const double divisor = right.number();
  double modulo = std::fmod(left.number(), divisor);
  if (modulo != 0.0 && (modulo < 0) != (divisor < 0)) {
    modulo += divisor;
  }
  return Value(remainder ? modulo : std::floor((left.number() - modulo) / divisor + 0.5));
}

Value power(Runtime& runtime, const Value& left, const Value& right) {
  if (!left.is_number() || !right.is_number()) {
    fail_operands(runtime, "**", left, right);
  }
  if (!left.is_integral() || !right.is_integral() || right.integer() < 0) {
    if (left.number() == 0.0 && right.number() < 0.0) {
      runtime.fail("division by zero");
    }
    return Value(std::pow(left.number(), right.number()));
  }
  Value result(int64_t{1});
  const int64_t base = left.integer();
  // Any base but these overflows after 63 factors, so the loop is short.
  const bool stays_small = base == 0 || base == 1 || base == -1;
  const int64_t exponent =
      stays_small && right.integer() > 2 ? 2 - right.integer() % 2 : right.integer();
  for (int64_t index = 0; index < exponent; ++index) {
    result = multiply(runtime, result, Value(base));
  }
  return result;
}

}  // namespace

Value apply_binary(Runtime& runtime,
                   BinaryOperator operation,
                   const Value& left,
                   const Value& right) {
  switch (operation) {
    case BinaryOperator::kAdd:
      return add(runtime, left, right);
    case BinaryOperator::kSubtract:
      return subtract(runtime, left, right);
    case BinaryOperator::kMultiply:
      return multiply(runtime, left, right);
    case BinaryOperator::kDivide:
      if (!left.is_number() || !right.is_number()) {
        fail_operands(runtime, "/", left, right);
      }
      if (right.number() == 0.0) {
        runtime.fail("division by zero");
      }
      return Value(left.number() / right.number());
    case BinaryOperator::kFloorDivide:
      return divide_down(runtime, left, right, false);
    case BinaryOperator::kModulo:
      if (left.is<Text>()) {
        runtime.fail("'%' on a text (formatting) is not supported");
      }
      return divide_down(runtime, left, right, true);
    case BinaryOperator::kPower:
      return power(runtime, left, right);
    case BinaryOperator::kConcatenate:
      break;
  }
  TextBuilder builder(runtime);
  append_printed(builder, runtime, left);
  append_printed(builder, runtime, right);
  return builder.finish();
}

Value negate(Runtime& runtime, const Value& value) {
  if (value.is_integral()) {
    if (value.integer() == std::numeric_limits<int64_t>::min()) {
      runtime.fail("an integer beyond 64 bits");
    }
    return Value(-value.integer());
  }
  if (!value.is<double>()) {
    runtime.fail("'-' does not work on '{}'", value.type_name());
  }
  return Value(-value.number());
}

}  // namespace adze::text::chat_template
