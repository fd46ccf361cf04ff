#include <algorithm>
#include <array>

#include "text/chat_template/library.h"
#include "text/chat_template/lookup.h"
#include "text/chat_template/operators.h"
#include "text/chat_template/represent.h"
#include "text/chat_template/text_operations.h"

namespace adze::text::chat_template {

namespace {

Value length(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_no_arguments(runtime, "length", arguments);
  return Value(length_of(runtime, input));
}

Value otherwise(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "default", arguments, {"default_value", "boolean"});
  const bool replaced = input.is_undefined() || (bound.truth(1, false) && !input.truth());
  if (!replaced) {
    return input;
  }
  return bound.find(0) == nullptr ? runtime.text("") : *bound.find(0);
}

Value join(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "join", arguments, {"d", "attribute"});
  const std::string separator =
      bound.find(0) == nullptr ? std::string() : printed(runtime, *bound.find(0));
  const Value* attribute = bound.find(1);
  TextBuilder builder(runtime);
  bool first = true;
  for (const Value& item : runtime.iterate(input)->items) {
    runtime.step();
    builder.append(std::exchange(first, false) ? "" : separator);
    append_printed(builder,
                   runtime,
                   attribute == nullptr || attribute->is<None>()
                       ? item
                       : attribute_path(runtime, item, *attribute));
  }
  return builder.finish();
}

List* copy_items(Runtime& runtime, const Value& input) {
  const List* items = runtime.iterate(input);
  List* copy = runtime.list();
  runtime.step(static_cast<int64_t>(items->items.size()));
  for (const Value& item : items->items) {
    runtime.append(*copy, item);
  }
  return copy;
}

Value to_list(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_no_arguments(runtime, "list", arguments);
  return Value(copy_items(runtime, input));
}

Value items_of(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_no_arguments(runtime, "items", arguments);
  if (input.is_undefined()) {
    return Value(runtime.list());
  }
  if (!input.is_mapping()) {
    runtime.fail("items: expected a mapping, got '{}'", input.type_name());
  }
  return mapping_items(runtime, **input.get<Mapping*>());
}

Value first_item(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_no_arguments(runtime, "first", arguments);
  const auto& items = runtime.iterate(input)->items;
  return items.empty() ? runtime.undefined("the first item") : items.front();
}

Value last_item(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_no_arguments(runtime, "last", arguments);
  const auto& items = runtime.iterate(input)->items;
  return items.empty() ? runtime.undefined("the last item") : items.back();
}

Value reverse(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_no_arguments(runtime, "reverse", arguments);
  if (input.is<Text>()) {
    return slice_of(runtime, input, {std::nullopt, std::nullopt, -1});
  }
  const auto& items = runtime.iterate(input)->items;
  List* reversed = runtime.list();
  for (auto item = items.rbegin(); item != items.rend(); ++item) {
    runtime.step();
    runtime.append(*reversed, *item);
  }
  return Value(reversed);
}

// Texts compare without regard to case, as Jinja's sorting filters do unless told.
Value sort_key(Runtime& runtime, const Value& value, bool case_sensitive) {
  if (!value.is<Text>() || case_sensitive) {
    return value;
  }
  runtime.step_characters(value.text().size());
  return runtime.text(lower_case(value.text()));
}

void sort_by_keys(Runtime& runtime, List& list, const std::vector<Value>& keys, bool reversed) {
  std::vector<size_t> order(list.items.size());
  for (size_t index = 0; index < order.size(); ++index) {
    order[index] = index;
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t left, size_t right) {
    return reversed ? less(runtime, keys[right], keys[left])
                    : less(runtime, keys[left], keys[right]);
  });
  std::vector<Value> sorted;
  sorted.reserve(order.size());
  for (const size_t index : order) {
    sorted.push_back(list.items[index]);
  }
  list.items = std::move(sorted);
}

// The value of "a,b" is the pair of both attributes.
Value keys_of(Runtime& runtime, const Value& item, const Value* attribute, bool case_sensitive) {
  if (attribute == nullptr || attribute->is<None>()) {
    return sort_key(runtime, item, case_sensitive);
  }
  if (!attribute->is<Text>()) {
    return sort_key(runtime, attribute_path(runtime, item, *attribute), case_sensitive);
  }
  List* keys = runtime.list();
  for (const std::string_view path : split_text(attribute->text(), ",", -1)) {
    const Value part = runtime.text(std::string(path));
    runtime.append(*keys, sort_key(runtime, attribute_path(runtime, item, part), case_sensitive));
  }
  return Value(keys);
}

Value sort(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(
      runtime, "sort", arguments, {"reverse", "case_sensitive", "attribute"});
  List* items = copy_items(runtime, input);
  std::vector<Value> keys;
  keys.reserve(items->items.size());
  for (const Value& item : items->items) {
    keys.push_back(keys_of(runtime, item, bound.find(2), bound.truth(1, false)));
  }
  sort_by_keys(runtime, *items, keys, bound.truth(0, false));
  return Value(items);
}

Value sort_mapping(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string_view by = bound.text(1).value_or("key");
  if (!input.is_mapping() || (by != "key" && by != "value")) {
    runtime.fail("dictsort: expected a mapping, and 'key' or 'value' to sort by");
  }
  const Value pairs = mapping_items(runtime, **input.get<Mapping*>());
  List* items = *pairs.get<List*>();
  std::vector<Value> keys;
  keys.reserve(items->items.size());
  for (const Value& pair : items->items) {
    const auto& key_and_value = (*pair.get<List*>())->items;
    keys.push_back(sort_key(runtime, key_and_value[by == "key" ? 0 : 1], bound.truth(0, false)));
  }
  sort_by_keys(runtime, *items, keys, bound.truth(2, false));
  return Value(items);
}

Value unique(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "unique", arguments, {"case_sensitive", "attribute"});
  Mapping* seen = runtime.mapping();
  List* kept = runtime.list();
  for (const Value& item : runtime.iterate(input)->items) {
    runtime.step();
    const Value* attribute = bound.find(1);
    const bool whole = attribute == nullptr || attribute->is<None>();
    const Value value = whole ? item : attribute_path(runtime, item, *attribute);
    const Value key = sort_key(runtime, value, bound.truth(0, false));
    if (seen->find(key) == nullptr) {
      runtime.insert(*seen, key, Value(true));
      runtime.append(*kept, item);
    }
  }
  return Value(kept);
}

Value extreme(Runtime& runtime, const Value& input, const Arguments& arguments, bool largest) {
  const BoundArguments bound(
      runtime, largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const auto& items = runtime.iterate(input)->items;
  std::vector<Value> keys;
  keys.reserve(items.size());
  size_t best = 0;
  for (const Value& item : items) {
    keys.push_back(keys_of(runtime, item, bound.find(1), bound.truth(0, false)));
    const Value& key = keys.back();
    if (largest ? less(runtime, keys[best], key) : less(runtime, key, keys[best])) {
      best = keys.size() - 1;
    }
  }
  return items.empty() ? runtime.undefined("the extreme of no items") : items[best];
}

Value smallest(Runtime& runtime, const Value& input, const Arguments& arguments) {
  return extreme(runtime, input, arguments, false);
}

Value largest(Runtime& runtime, const Value& input, const Arguments& arguments) {
  return extreme(runtime, input, arguments, true);
}

Value sum(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "sum", arguments, {"attribute", "start"});
  Value total = bound.find(1) == nullptr ? Value(int64_t{0}) : *bound.find(1);
  const Value* attribute = bound.find(0);
  for (const Value& item : runtime.iterate(input)->items) {
    runtime.step();
    const bool whole = attribute == nullptr || attribute->is<None>();
    total = apply_binary(runtime,
                         BinaryOperator::kAdd,
                         total,
                         whole ? item : attribute_path(runtime, item, *attribute));
  }
  return total;
}

struct Row {
  std::string_view name;
  Filter filter;
};

constexpr std::array kFilters{
    Row{"count", length},
    Row{"d", otherwise},
    Row{"default", otherwise},
    Row{"dictsort", sort_mapping},
    Row{"first", first_item},
    Row{"items", items_of},
    Row{"join", join},
    Row{"last", last_item},
    Row{"length", length},
    Row{"list", to_list},
    Row{"max", largest},
    Row{"min", smallest},
    Row{"reverse", reverse},
    Row{"sort", sort},
    Row{"sum", sum},
    Row{"unique", unique},
};

}  // namespace

Filter find_sequence_filter(std::string_view name) {
  const Row* row = find_named(kFilters, name);
  return row == nullptr ? nullptr : row->filter;
}

}  // namespace adze::text::chat_template
