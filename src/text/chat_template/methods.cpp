#include <algorithm>
#include <array>

#include "text/chat_template/library.h"
#include "text/chat_template/lookup.h"
#include "text/chat_template/operators.h"
#include "text/chat_template/represent.h"
#include "text/chat_template/text_operations.h"

namespace adze::text::chat_template {

namespace {

using Method = Value (*)(Runtime& runtime, const Value& self, const Arguments& arguments);

struct Row {
  std::string_view name;
  Method method;
};

template <std::string_view (*operation)(std::string_view, std::optional<std::string_view>)>
Value strip_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, "strip", arguments, {"chars"});
  step_strip(runtime, self.text(), bound.text(0));
  return runtime.text(std::string(operation(self.text(), bound.text(0))));
}

template <std::string (*convert)(std::string_view)>
Value convert_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  expect_no_arguments(runtime, "a method of texts", arguments);
  runtime.step_characters(self.text().size());
  return runtime.text(convert(self.text()));
}

std::string title_of(std::string_view text) {
  return title_case(text);
}

Value text_list(Runtime& runtime, const std::vector<std::string_view>& parts) {
  List* list = runtime.list();
  for (const std::string_view part : parts) {
    runtime.step();
    runtime.append(*list, runtime.text(std::string(part)));
  }
  return Value(list);
}

using Split = std::vector<std::string_view> (*)(std::string_view, std::string_view, int64_t);

template <Split split>
Value split_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, "split", arguments, {"sep", "maxsplit"});
  const auto separator = bound.text(0);
  if (separator && separator->empty()) {
    runtime.fail("split: an empty separator");
  }
  runtime.step_characters(self.text().size());
  runtime.step_search(self.text().size(), separator.value_or("").size());
  return text_list(runtime,
                   split(self.text(), separator.value_or(""), bound.integer(1).value_or(-1)));
}

Value split_lines_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, "splitlines", arguments, {"keepends"});
  runtime.step_characters(self.text().size());
  return text_list(runtime, split_lines(self.text(), bound.truth(0, false)));
}

template <bool at_end>
Value affix_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, at_end ? "endswith" : "startswith", arguments, {"affix"});
  const auto matches = [&](const Value& affix) {
    if (!affix.is<Text>()) {
      runtime.fail("startswith and endswith need texts, got '{}'", affix.type_name());
    }
    runtime.step_bytes(affix.text().size());
    return at_end ? self.text().ends_with(affix.text()) : self.text().starts_with(affix.text());
  };
  const Value& affix = bound.require(0);
  const auto* several = affix.get<List*>();
  if (several != nullptr && (*several)->tuple) {
    return Value(std::any_of((*several)->items.begin(), (*several)->items.end(), matches));
  }
  return Value(matches(affix));
}

template <bool at_end>
Value remove_affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(
      runtime, at_end ? "removesuffix" : "removeprefix", arguments, {"affix"});
  const std::string_view affix = bound.require_text(0);
  std::string_view text = self.text();
  if (!at_end && text.starts_with(affix)) {
    text.remove_prefix(affix.size());
  } else if (at_end && text.ends_with(affix)) {
    text.remove_suffix(affix.size());
  }
  return runtime.text(std::string(text));
}

Value replace_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, "replace", arguments, {"old", "new", "count"});
  return replace_text(runtime,
                      self.text(),
                      bound.require_text(0),
                      bound.require_text(1),
                      bound.integer(2).value_or(-1));
}

template <bool from_right>
Value find_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, from_right ? "rfind" : "find", arguments, {"sub"});
  const std::string_view wanted = bound.require_text(0);
  runtime.step_search(self.text().size(), wanted.size());
  runtime.step_characters(self.text().size());
  const size_t found = from_right ? self.text().rfind(wanted) : self.text().find(wanted);
  return Value(found == std::string_view::npos ? int64_t{-1}
                                               : count_characters(self.text().substr(0, found)));
}

Value count_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, "count", arguments, {"sub"});
  const std::string_view wanted = bound.require_text(0);
  runtime.step_search(self.text().size(), wanted.size());
  if (wanted.empty()) {
    runtime.step_characters(self.text().size());
    return Value(count_characters(self.text()) + 1);
  }
  int64_t count = 0;
  for (size_t at = self.text().find(wanted); at != std::string_view::npos;
       at = self.text().find(wanted, at + wanted.size())) {
    ++count;
  }
  return Value(count);
}

Value join_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, "join", arguments, {"iterable"});
  TextBuilder builder(runtime);
  bool first = true;
  for (const Value& item : runtime.iterate(bound.require(0))->items) {
    runtime.step();
    if (!item.is<Text>()) {
      runtime.fail("join: expected texts, got '{}'", item.type_name());
    }
    builder.append(std::exchange(first, false) ? "" : self.text());
    builder.append(item.text());
  }
  return builder.finish();
}

constexpr std::array kTextMethods{
    Row{"capitalize", convert_method<capitalized>},
    Row{"count", count_method},
    Row{"endswith", affix_method<true>},
    Row{"find", find_method<false>},
    Row{"join", join_method},
    Row{"lower", convert_method<lower_case>},
    Row{"lstrip", strip_method<strip_left>},
    Row{"removeprefix", remove_affix<false>},
    Row{"removesuffix", remove_affix<true>},
    Row{"replace", replace_method},
    Row{"rfind", find_method<true>},
    Row{"rsplit", split_method<split_text_from_right>},
    Row{"rstrip", strip_method<strip_right>},
    Row{"split", split_method<split_text>},
    Row{"splitlines", split_lines_method},
    Row{"startswith", affix_method<false>},
    Row{"strip", strip_method<strip>},
    Row{"title", convert_method<title_of>},
    Row{"upper", convert_method<upper_case>},
};

const Mapping& mapping_of(const Value& self) {
  return **self.get<Mapping*>();
}

Value items_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  expect_no_arguments(runtime, "items", arguments);
  return mapping_items(runtime, mapping_of(self));
}

template <bool keys>
Value halves_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  expect_no_arguments(runtime, keys ? "keys" : "values", arguments);
  List* list = runtime.list();
  for (const auto& [key, value] : mapping_of(self).entries) {
    runtime.step();
    runtime.append(*list, keys ? key : value);
  }
  return Value(list);
}

Value get_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, "get", arguments, {"key", "default"});
  const Value& key = bound.require(0);
  runtime.step_bytes(key.is<Text>() ? key.text().size() : 0);
  if (const Value* found = mapping_of(self).find(key)) {
    return *found;
  }
  return bound.find(1) == nullptr ? Value(None{}) : *bound.find(1);
}

constexpr std::array kMappingMethods{
    Row{"get", get_method},
    Row{"items", items_method},
    Row{"keys", halves_method<true>},
    Row{"values", halves_method<false>},
};

Value append_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(runtime, "append", arguments, {"object"});
  runtime.append(**self.get<List*>(), bound.require(0));
  return Value(None{});
}

constexpr std::array kListMethods{Row{"append", append_method}};

Value cycle_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (arguments.positional.empty()) {
    runtime.fail("loop.cycle needs values");
  }
  const auto index = static_cast<size_t>((*self.get<Loop*>())->index);
  return arguments.positional[index % arguments.positional.size()];
}

constexpr std::array kLoopMethods{Row{"cycle", cycle_method}};

const Row* find_method_row(const Value& self, std::string_view name) {
  if (self.is<Text>()) {
    return find_named(kTextMethods, name);
  }
  if (self.is_mapping()) {
    return find_named(kMappingMethods, name);
  }
  if (const auto* list = self.get<List*>()) {
    return (*list)->tuple ? nullptr : find_named(kListMethods, name);
  }
  return self.is<Loop*>() ? find_named(kLoopMethods, name) : nullptr;
}

}  // namespace

bool is_method(const Value& self, std::string_view name) {
  return find_method_row(self, name) != nullptr;
}

Value call_method(Runtime& runtime,
                  const Value& self,
                  const std::string& name,
                  const Arguments& arguments) {
  runtime.step();
  const Row* row = find_method_row(self, name);
  if (row == nullptr) {
    runtime.fail("'{}' has no method '{:.80}'", self.type_name(), name);
  }
  return row->method(runtime, self, arguments);
}

Value mapping_items(Runtime& runtime, const Mapping& mapping) {
  List* list = runtime.list();
  for (const auto& [key, value] : mapping.entries) {
    runtime.step();
    List* pair = runtime.list(true);
    runtime.append(*pair, key);
    runtime.append(*pair, value);
    runtime.append(*list, Value(pair));
  }
  return Value(list);
}

}  // namespace adze::text::chat_template
