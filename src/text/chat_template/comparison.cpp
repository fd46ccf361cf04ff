#include <algorithm>

#include "text/chat_template/operators.h"

namespace adze::text::chat_template {

namespace {

bool equals_at(Runtime& runtime, const Value& left, const Value& right, int depth);

bool lists_equal(Runtime& runtime, const List& left, const List& right, int depth) {
  if (left.tuple != right.tuple || left.items.size() != right.items.size()) {
    return false;
  }
  for (size_t index = 0; index < left.items.size(); ++index) {
    if (!equals_at(runtime, left.items[index], right.items[index], depth + 1)) {
      return false;
    }
  }
  return true;
}

bool mappings_equal(Runtime& runtime, const Mapping& left, const Mapping& right, int depth) {
  if (left.entries.size() != right.entries.size()) {
    return false;
  }
  return std::all_of(left.entries.begin(), left.entries.end(), [&](const auto& entry) {
    const Value* other = right.find(entry.first);
    return other != nullptr && equals_at(runtime, entry.second, *other, depth + 1);
  });
}

bool equals_at(Runtime& runtime, const Value& left, const Value& right, int depth) {
  runtime.step();
  if (depth > kMaxValueDepth) {
    runtime.fail("a comparison of values nested deeper than {} levels", kMaxValueDepth);
  }
  if (left.is_number() && right.is_number()) {
    return left.is_integral() && right.is_integral() ? left.integer() == right.integer()
                                                     : left.number() == right.number();
  }
  if (left.is<Text>() && right.is<Text>()) {
    runtime.step_bytes(std::min(left.text().size(), right.text().size()));
    return left.text() == right.text();
  }
  if (left.is<List*>() && right.is<List*>()) {
    return *left.get<List*>() == *right.get<List*>() ||
           lists_equal(runtime, **left.get<List*>(), **right.get<List*>(), depth);
  }
  if (left.is_mapping() && right.is_mapping()) {
    return *left.get<Mapping*>() == *right.get<Mapping*>() ||
           mappings_equal(runtime, **left.get<Mapping*>(), **right.get<Mapping*>(), depth);
  }
  if (left.is<Mapping*>() && right.is<Mapping*>()) {
    return *left.get<Mapping*>() == *right.get<Mapping*>();
  }
  return (left.is<None>() && right.is<None>()) || (left.is_undefined() && right.is_undefined());
}

bool less_at(Runtime& runtime, const Value& left, const Value& right, int depth) {
  runtime.step();
  if (left.is_number() && right.is_number()) {
    return left.is_integral() && right.is_integral() ? left.integer() < right.integer()
                                                     : left.number() < right.number();
  }
  if (left.is<Text>() && right.is<Text>()) {
    runtime.step_bytes(std::min(left.text().size(), right.text().size()));
    return left.text() < right.text();  // bytes of UTF-8 stand in the order of the characters
  }
  if (!left.is<List*>() || !right.is<List*>() || depth > kMaxValueDepth) {
    runtime.fail("'{}' and '{}' have no order", left.type_name(), right.type_name());
  }
  const auto& first = (*left.get<List*>())->items;
  const auto& second = (*right.get<List*>())->items;
  for (size_t index = 0; index < std::min(first.size(), second.size()); ++index) {
    if (!equals_at(runtime, first[index], second[index], depth + 1)) {
      return less_at(runtime, first[index], second[index], depth + 1);
    }
  }
  return first.size() < second.size();
}

}  // namespace

bool equals(Runtime& runtime, const Value& left, const Value& right) {
  return equals_at(runtime, left, right, 0);
}

bool less(Runtime& runtime, const Value& left, const Value& right) {
  return less_at(runtime, left, right, 0);
}

bool contains(Runtime& runtime, const Value& container, const Value& value) {
  if (container.is<Text>()) {
    if (!value.is<Text>()) {
      runtime.fail("'in' a text needs a text, got '{}'", value.type_name());
    }
    runtime.step_search(container.text().size(), value.text().size());
    return container.text().find(value.text()) != std::string_view::npos;
  }
  if (container.is_mapping()) {
    runtime.step_bytes(value.is<Text>() ? value.text().size() : 0);
    return (*container.get<Mapping*>())->find(value) != nullptr;
  }
  const List& items = *runtime.iterate(container);
  return std::any_of(items.items.begin(), items.items.end(), [&](const Value& item) {
    return equals(runtime, item, value);
  });
}

bool compare(Runtime& runtime,
             ComparisonOperator operation,
             const Value& left,
             const Value& right) {
  const auto ordered = [&](const Value& smaller, const Value& larger) {
    return less(runtime, smaller, larger);
  };
  // NOTE: not "a <= b is not b < a": with NaN both are false.
  const auto ordered_or_equal = [&](const Value& smaller, const Value& larger) {
    return ordered(smaller, larger) || equals(runtime, smaller, larger);
  };
  switch (operation) {
    case ComparisonOperator::kEqual:
      return equals(runtime, left, right);
    case ComparisonOperator::kNotEqual:
      return !equals(runtime, left, right);
    case ComparisonOperator::kLess:
      return ordered(left, right);
    case ComparisonOperator::kLessEqual:
      return ordered_or_equal(left, right);
    case ComparisonOperator::kGreater:
      return ordered(right, left);
    case ComparisonOperator::kGreaterEqual:
      return ordered_or_equal(right, left);
    case ComparisonOperator::kIn:
      return contains(runtime, right, left);
    case ComparisonOperator::kNotIn:
      return !contains(runtime, right, left);
  }
  return false;
}

}  // namespace adze::text::chat_template
