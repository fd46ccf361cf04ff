#pragma once
// What the operators of expressions do to values, as in Python. Integers have 64 bits; a result
// beyond them is an error, never a wrong number.

#include <compare>
#include <optional>

#include "text/chat_template/runtime.h"
#include "text/chat_template/syntax.h"
#include "text/chat_template/value.h"

namespace adze::text::chat_template {

Value apply_binary(Runtime& runtime,
                   BinaryOperator operation,
                   const Value& left,
                   const Value& right);
Value negate(Runtime& runtime, const Value& value);

bool equals(Runtime& runtime, const Value& left, const Value& right);
// Fails for values without an order between them.
bool less(Runtime& runtime, const Value& left, const Value& right);
bool compare(Runtime& runtime, ComparisonOperator operation, const Value& left, const Value& right);
bool contains(Runtime& runtime, const Value& container, const Value& value);

// value[key]: an item; where there is none, what `undefined` is in a template.
Value item_of(Runtime& runtime, const Value& value, const Value& key);
// value.name: a method, or an item of that name.
Value attribute_of(Runtime& runtime, const Value& value, const std::string& name);
// "a.b.0", as filters take it. Each part that is undefined becomes `otherwise`, if that is given.
Value attribute_path(Runtime& runtime,
                     const Value& value,
                     const Value& path,
                     const Value* otherwise = nullptr);

struct SliceBounds {
  std::optional<int64_t> start;
  std::optional<int64_t> stop;
  std::optional<int64_t> step;
};
Value slice_of(Runtime& runtime, const Value& value, const SliceBounds& bounds);

int64_t length_of(Runtime& runtime, const Value& value);

}  // namespace adze::text::chat_template
