#include <optional>

#include "text/chat_template/interpreter.h"
#include "text/chat_template/interpreter_level.h"
#include "text/chat_template/library.h"
#include "text/chat_template/operators.h"

namespace adze::text::chat_template {

Value Interpreter::evaluate(const Expression& expression, Frame& frame) {
  const Level level(*this);
  runtime_.set_line(expression.line);
  runtime_.step();
  return std::visit([&](const auto& node) { return evaluate_node(node, frame); }, expression.node);
}

Value Interpreter::evaluate_node(const Literal& node, Frame& /*frame*/) {
  return node.value;
}

Value Interpreter::evaluate_node(const Name& node, Frame& frame) {
  if (const Value* found = frame.find(node.name)) {
    return *found;
  }
  if (is_function(node.name)) {
    return Value(
        runtime_.callable({Callable::Kind::kFunction, node.name, nullptr, nullptr, Value()}));
  }
  return runtime_.undefined("'" + node.name + "'");
}

Value Interpreter::evaluate_node(const ListLiteral& node, Frame& frame) {
  List* list = runtime_.list(node.tuple);
  for (const ExpressionPointer& item : node.items) {
    runtime_.append(*list, evaluate(*item, frame));
  }
  return Value(list);
}

Value Interpreter::evaluate_node(const MappingLiteral& node, Frame& frame) {
  Mapping* mapping = runtime_.mapping();
  for (const auto& [key, value] : node.entries) {
    const Value evaluated = evaluate(*key, frame);
    runtime_.insert(*mapping, evaluated, evaluate(*value, frame));
  }
  return Value(mapping);
}

Value Interpreter::evaluate_node(const BinaryChain& node, Frame& frame) {
  Value value = evaluate(*node.first, frame);
  for (const auto& [operation, operand] : node.rest) {
    const Value right = evaluate(*operand, frame);
    value = apply_binary(runtime_, operation, value, right);
  }
  return value;
}

Value Interpreter::evaluate_node(const Comparison& node, Frame& frame) {
  Value left = evaluate(*node.first, frame);
  for (const auto& [operation, operand] : node.rest) {
    Value right = evaluate(*operand, frame);
    if (!compare(runtime_, operation, left, right)) {
      return Value(false);
    }
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::evaluate_node(const Logical& node, Frame& frame) {
  Value value;
  for (const ExpressionPointer& operand : node.operands) {
    value = evaluate(*operand, frame);
    if (value.truth() != node.conjunction) {
      break;
    }
  }
  return value;
}

Value Interpreter::evaluate_node(const Unary& node, Frame& frame) {
  Value value = evaluate(*node.operand, frame);
  switch (node.operation) {
    case Unary::Operator::kNot:
      return Value(!value.truth());
    case Unary::Operator::kMinus:
      return negate(runtime_, value);
    case Unary::Operator::kPlus:
      break;
  }
  if (!value.is_number()) {
    runtime_.fail("'+' does not work on '{}'", value.type_name());
  }
  return value.is<bool>() ? Value(value.integer()) : value;
}

Value Interpreter::evaluate_node(const Conditional& node, Frame& frame) {
  if (evaluate(*node.condition, frame).truth()) {
    return evaluate(*node.if_true, frame);
  }
  return node.if_false == nullptr ? runtime_.undefined("an 'if' without 'else'")
                                  : evaluate(*node.if_false, frame);
}

Value Interpreter::evaluate_node(const Suffixed& node, Frame& frame) {
  return evaluate_suffixes(node, node.suffixes.size(), frame);
}

Value Interpreter::evaluate_suffixes(const Suffixed& node, size_t count, Frame& frame) {
  Value value = evaluate(*node.base, frame);
  for (size_t index = 0; index < count; ++index) {
    const Suffix& suffix = node.suffixes[index];
    runtime_.set_line(suffix.line);
    runtime_.step();
    // A method that is called at once needs no function value of its own.
    const bool called = index + 1 < count && node.suffixes[index + 1].kind == Suffix::Kind::kCall;
    if (called && suffix.kind == Suffix::Kind::kAttribute && is_method(value, suffix.name)) {
      const Arguments arguments = evaluate_arguments(node.suffixes[++index].arguments, frame);
      value = call_method(runtime_, value, suffix.name, arguments);
    } else {
      value = apply_suffix(value, suffix, frame);
    }
  }
  return value;
}

Value Interpreter::apply_suffix(const Value& value, const Suffix& suffix, Frame& frame) {
  switch (suffix.kind) {
    case Suffix::Kind::kAttribute:
      return attribute_of(runtime_, value, suffix.name);
    case Suffix::Kind::kItem:
      return item_of(runtime_, value, evaluate(*suffix.item, frame));
    case Suffix::Kind::kSlice:
      return apply_slice(value, suffix, frame);
    case Suffix::Kind::kCall:
      return call(value, evaluate_arguments(suffix.arguments, frame));
    case Suffix::Kind::kFilter:
      return apply_filter(
          runtime_, suffix.name, value, evaluate_arguments(suffix.arguments, frame));
    case Suffix::Kind::kTest:
    case Suffix::Kind::kNegatedTest:
      break;
  }
  const bool passed =
      apply_test(runtime_, suffix.name, value, evaluate_arguments(suffix.arguments, frame));
  return Value(passed == (suffix.kind == Suffix::Kind::kTest));
}

Value Interpreter::apply_slice(const Value& value, const Suffix& suffix, Frame& frame) {
  const auto bound = [&](const ExpressionPointer& expression) -> std::optional<int64_t> {
    const Value given = expression == nullptr ? Value(None{}) : evaluate(*expression, frame);
    if (given.is<None>()) {
      return std::nullopt;
    }
    if (!given.is_integral()) {
      runtime_.fail("a slice needs integers, got '{}'", given.type_name());
    }
    return given.integer();
  };
  SliceBounds bounds;
  bounds.start = bound(suffix.slice[0]);
  bounds.stop = bound(suffix.slice[1]);
  bounds.step = bound(suffix.slice[2]);
  return slice_of(runtime_, value, bounds);
}

Arguments Interpreter::evaluate_arguments(const CallArguments& arguments, Frame& frame) {
  Arguments evaluated;
  for (const ExpressionPointer& argument : arguments.positional) {
    evaluated.positional.push_back(evaluate(*argument, frame));
  }
  for (const auto& [name, argument] : arguments.named) {
    evaluated.named.emplace_back(name, evaluate(*argument, frame));
  }
  return evaluated;
}

Value Interpreter::call(const Value& function, const Arguments& arguments) {
  if (const auto* undefined = function.get<Undefined>()) {
    runtime_.fail("{} is undefined and cannot be called",
                  undefined->hint ? *undefined->hint : "the value");
  }
  const auto* callable = function.get<Callable*>();
  if (callable == nullptr) {
    runtime_.fail("'{}' cannot be called", function.type_name());
  }
  switch ((*callable)->kind) {
    case Callable::Kind::kFunction:
      return call_function(runtime_, (*callable)->name, arguments);
    case Callable::Kind::kMethod:
      return call_method(runtime_, (*callable)->self, (*callable)->name, arguments);
    case Callable::Kind::kMacro:
      break;
  }
  return call_macro(**callable, arguments);
}

}  // namespace adze::text::chat_template
