#include <algorithm>
#include <charconv>
#include <limits>

#include "text/chat_template/library.h"
#include "text/chat_template/operators.h"
#include "text/chat_template/text_operations.h"

namespace adze::text::chat_template {

namespace {

[[noreturn]] void fail_undefined(Runtime& runtime, const Value& value, std::string_view wanted) {
  const Undefined& undefined = *value.get<Undefined>();
  runtime.fail("{} is undefined and has no '{:.80}'",
               undefined.hint ? *undefined.hint : "the value",
               wanted);
}

Value loop_attribute(Runtime& runtime, const Loop& loop, std::string_view name) {
  const auto length = static_cast<int64_t>(loop.items->items.size());
  const auto item = [&](int64_t index) {
    return index >= 0 && index < length ? loop.items->items[static_cast<size_t>(index)]
                                        : runtime.undefined(name);
  };
  if (name == "index") {
    return Value(loop.index + 1);
  }
  if (name == "index0") {
    return Value(loop.index);
  }
  if (name == "revindex") {
    return Value(length - loop.index);
  }
  if (name == "revindex0") {
    return Value(length - loop.index - 1);
  }
  if (name == "first") {
    return Value(loop.index == 0);
  }
  if (name == "last") {
    return Value(loop.index + 1 == length);
  }
  if (name == "length") {
    return Value(length);
  }
  if (name == "previtem") {
    return item(loop.index - 1);
  }
  if (name == "nextitem") {
    return item(loop.index + 1);
  }
  if (name == "depth" || name == "depth0") {
    return Value(int64_t{name == "depth" ? 1 : 0});  // of recursive loops, which there are not
  }
  return runtime.undefined(name);
}

std::optional<size_t> position_in(int64_t index, int64_t length) {
  const int64_t position = index < 0 ? index + length : index;
  return position >= 0 && position < length ? std::optional(static_cast<size_t>(position))
                                            : std::nullopt;
}

Value character_at(Runtime& runtime, std::string_view text, int64_t index) {
  runtime.step_characters(text.size());
  const auto position = position_in(index, count_characters(text));
  if (!position) {
    return runtime.undefined("the character");
  }
  const size_t begin = byte_offset(text, static_cast<int64_t>(*position));
  const size_t length = byte_offset(text.substr(begin), 1);
  return runtime.text(std::string(text.substr(begin, length)));
}

// Start, stop and step as Python fills them in for a sequence of `length`.
struct Range {
  int64_t start;
  int64_t stop;
  int64_t step;
};

Range resolve(Runtime& runtime, const SliceBounds& bounds, int64_t length) {
  const int64_t step = bounds.step.value_or(1);
  if (step == 0) {
    runtime.fail("a slice with step 0");
  }
  const int64_t lowest = step < 0 ? -1 : 0;
  const int64_t highest = step < 0 ? length - 1 : length;
  const auto clamp = [&](std::optional<int64_t> bound, int64_t otherwise) {
    if (!bound) {
      return otherwise;
    }
    return *bound < 0 ? std::max(*bound < -length ? lowest : *bound + length, lowest)
                      : std::min(*bound, highest);
  };
  return {clamp(bounds.start, step < 0 ? highest : lowest),
          clamp(bounds.stop, step < 0 ? lowest : highest),
          step};
}

template <class Visit>
void visit_range(const Range& range, Visit&& visit) {
  int64_t index = range.start;
  while (range.step > 0 ? index < range.stop : index > range.stop) {
    visit(static_cast<size_t>(index));
    if (__builtin_add_overflow(index, range.step, &index)) {
      break;
    }
  }
}

Value slice_text(Runtime& runtime, std::string_view text, const SliceBounds& bounds) {
  runtime.step_characters(text.size());
  const Range range = resolve(runtime, bounds, count_characters(text));
  TextBuilder builder(runtime);
  if (range.step == 1) {
    if (range.start < range.stop) {
      const std::string_view from = text.substr(byte_offset(text, range.start));
      builder.append(from.substr(0, byte_offset(from, range.stop - range.start)));
    }
    return builder.finish();
  }
  std::vector<std::string_view> characters;
  runtime.step(static_cast<int64_t>(text.size()));
  while (!text.empty()) {
    characters.push_back(text.substr(0, byte_offset(text, 1)));
    text.remove_prefix(characters.back().size());
  }
  visit_range(range, [&](size_t index) { builder.append(characters[index]); });
  return builder.finish();
}

}  // namespace

int64_t length_of(Runtime& runtime, const Value& value) {
  if (value.is<Text>()) {
    runtime.step_characters(value.text().size());
    return count_characters(value.text());
  }
  if (const auto* list = value.get<List*>()) {
    return static_cast<int64_t>((*list)->items.size());
  }
  if (value.is_mapping()) {
    return static_cast<int64_t>((*value.get<Mapping*>())->entries.size());
  }
  if (value.is_undefined()) {
    return 0;
  }
  runtime.fail("'{}' has no length", value.type_name());
}

Value item_of(Runtime& runtime, const Value& value, const Value& key) {
  if (value.is_undefined()) {
    fail_undefined(runtime, value, key.is<Text>() ? key.text() : "item");
  }
  if (value.is_mapping()) {
    runtime.step_bytes(key.is<Text>() ? key.text().size() : 0);
    if (const Value* found = (*value.get<Mapping*>())->find(key)) {
      return *found;
    }
  } else if (const auto* list = value.get<List*>(); list != nullptr && key.is_integral()) {
    const auto& items = (*list)->items;
    const auto position = position_in(key.integer(), static_cast<int64_t>(items.size()));
    return position ? items[*position] : runtime.undefined("the list item");
  } else if (value.is<Text>() && key.is_integral()) {
    return character_at(runtime, value.text(), key.integer());
  }
  return key.is<Text>() ? attribute_of(runtime, value, std::string(key.text()))
                        : runtime.undefined("the item");
}

Value attribute_of(Runtime& runtime, const Value& value, const std::string& name) {
  if (value.is_undefined()) {
    fail_undefined(runtime, value, name);
  }
  if (const auto* loop = value.get<Loop*>()) {
    return is_method(value, name)
               ? Value(runtime.callable({Callable::Kind::kMethod, name, nullptr, nullptr, value}))
               : loop_attribute(runtime, **loop, name);
  }
  if (is_method(value, name)) {
    return Value(runtime.callable({Callable::Kind::kMethod, name, nullptr, nullptr, value}));
  }
  if (const auto* mapping = value.get<Mapping*>()) {
    if (const Value* found = (*mapping)->find(name)) {
      return *found;
    }
  }
  return runtime.undefined("'" + name + "'");
}

Value attribute_path(Runtime& runtime,
                     const Value& value,
                     const Value& path,
                     const Value* otherwise) {
  const auto replaced = [&](const Value& found) {
    return otherwise != nullptr && found.is_undefined() ? *otherwise : found;
  };
  if (path.is_integral()) {
    return replaced(item_of(runtime, value, path));
  }
  if (!path.is<Text>()) {
    runtime.fail("an attribute must be a text or an integer, got '{}'", path.type_name());
  }
  runtime.step_bytes(path.text().size());
  Value current = value;
  for (const std::string_view part : split_text(path.text(), ".", -1)) {
    runtime.step();
    int64_t index = 0;
    const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool integer = failure == std::errc() && end == part.data() + part.size();
    const Value key = integer ? Value(index) : runtime.text(std::string(part));
    current = replaced(item_of(runtime, current, key));
  }
  return current;
}

Value slice_of(Runtime& runtime, const Value& value, const SliceBounds& bounds) {
  if (value.is<Text>()) {
    return slice_text(runtime, value.text(), bounds);
  }
  if (value.is_undefined()) {
    fail_undefined(runtime, value, "slice");
  }
  const auto* list = value.get<List*>();
  if (list == nullptr) {
    runtime.fail("'{}' cannot be sliced", value.type_name());
  }
  List* part = runtime.list((*list)->tuple);
  const Range range = resolve(runtime, bounds, static_cast<int64_t>((*list)->items.size()));
  visit_range(range, [&](size_t index) {
    runtime.step();
    runtime.append(*part, (*list)->items[index]);
  });
  return Value(part);
}

}  // namespace adze::text::chat_template
