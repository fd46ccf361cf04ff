#include <array>

#include "text/chat_template/library.h"
#include "text/chat_template/lookup.h"
#include "text/chat_template/operators.h"

namespace adze::text::chat_template {

namespace {

// A test by name with its arguments; without a name, the value's truth.
bool passes(Runtime& runtime, const Value& value, const Arguments& arguments) {
  runtime.step();
  if (arguments.positional.empty()) {
    return value.truth();
  }
  if (!arguments.positional[0].is<Text>()) {
    runtime.fail("a test is named by a text, got '{}'", arguments.positional[0].type_name());
  }
  return apply_test(
      runtime, std::string(arguments.positional[0].text()), value, arguments.without_first(1));
}

Value select_items(Runtime& runtime,
                   const Value& input,
                   const Arguments& arguments,
                   bool wanted,
                   bool by_attribute) {
  if (by_attribute && arguments.positional.empty()) {
    runtime.fail("selectattr and rejectattr need the name of an attribute");
  }
  if (!input.truth()) {  // none too has no items here, unlike in a loop
    return Value(runtime.list());
  }
  const Arguments test = by_attribute ? arguments.without_first(1) : arguments;
  List* kept = runtime.list();
  for (const Value& item : runtime.iterate(input)->items) {
    const Value value =
        by_attribute ? attribute_path(runtime, item, arguments.positional[0]) : item;
    if (passes(runtime, value, test) == wanted) {
      runtime.append(*kept, item);
    }
  }
  return Value(kept);
}

template <bool wanted, bool by_attribute>
Value select_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  return select_items(runtime, input, arguments, wanted, by_attribute);
}

// map(attribute="name", default=...).
Value map_attribute(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "map", arguments, {"attribute", "default"});
  List* mapped = runtime.list();
  for (const Value& item : runtime.iterate(input)->items) {
    runtime.step();
    runtime.append(*mapped, attribute_path(runtime, item, bound.require(0), bound.find(1)));
  }
  return Value(mapped);
}

Value map_items(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (!input.truth()) {
    return Value(runtime.list());
  }
  if (arguments.positional.empty()) {
    return map_attribute(runtime, input, arguments);
  }
  if (!arguments.positional[0].is<Text>()) {
    runtime.fail("map: expected the name of a filter, got '{}'",
                 arguments.positional[0].type_name());
  }
  const std::string filter(arguments.positional[0].text());
  if (filter == "map") {  // would recurse without a limit
    runtime.fail("map: cannot apply itself");
  }
  const Arguments rest = arguments.without_first(1);
  List* mapped = runtime.list();
  for (const Value& item : runtime.iterate(input)->items) {
    runtime.append(*mapped, apply_filter(runtime, filter, item, rest));
  }
  return Value(mapped);
}

struct Row {
  std::string_view name;
  Filter filter;
};

constexpr std::array kFilters{
    Row{"map", map_items},
    Row{"reject", select_filter<false, false>},
    Row{"rejectattr", select_filter<false, true>},
    Row{"select", select_filter<true, false>},
    Row{"selectattr", select_filter<true, true>},
};

}  // namespace

Filter find_selection_filter(std::string_view name) {
  const Row* row = find_named(kFilters, name);
  return row == nullptr ? nullptr : row->filter;
}

}  // namespace adze::text::chat_template
