#include <array>
#include <ctime>

#include "text/chat_template/library.h"
#include "text/chat_template/lookup.h"
#include "text/chat_template/represent.h"

namespace adze::text::chat_template {

namespace {

using Function = Value (*)(Runtime& runtime, const Arguments& arguments);

struct Row {
  std::string_view name;
  Function function;
};

Value range(Runtime& runtime, const Arguments& arguments) {
  const BoundArguments bound(runtime, "range", arguments, {"start", "stop", "step"});
  const bool one = bound.find(1) == nullptr;
  const auto first = bound.integer(0);
  const auto second = bound.integer(1);
  if (!first || (!one && !second)) {
    runtime.fail("range: expected integers");
  }
  const int64_t stop = one ? *first : *second;
  const int64_t step = bound.integer(2).value_or(1);
  if (step == 0) {
    runtime.fail("range: step must not be 0");
  }
  List* list = runtime.list();
  int64_t value = one ? 0 : *first;
  while (step > 0 ? value < stop : value > stop) {
    runtime.step();
    runtime.append(*list, Value(value));
    if (__builtin_add_overflow(value, step, &value)) {
      break;
    }
  }
  return Value(list);
}

void insert_named(Runtime& runtime, Mapping& mapping, const Arguments& arguments) {
  for (const auto& [name, value] : arguments.named) {
    runtime.insert(mapping, name, value);
  }
}

// dict(a=1), dict(mapping), dict(pairs); namespace() takes the same.
Value make_mapping(Runtime& runtime, const Arguments& arguments, bool is_namespace) {
  if (arguments.positional.size() > 1) {
    runtime.fail("dict() and namespace() take at most one value that is not named");
  }
  Mapping* mapping = runtime.mapping();
  mapping->is_namespace = is_namespace;
  for (const Value& given : arguments.positional) {
    const Value pairs =
        given.is_mapping() ? mapping_items(runtime, **given.get<Mapping*>()) : given;
    for (const Value& pair : runtime.iterate(pairs)->items) {
      const auto* key_and_value = pair.get<List*>();
      if (key_and_value == nullptr || (*key_and_value)->items.size() != 2) {
        runtime.fail("dict() and namespace() need a mapping or pairs");
      }
      runtime.insert(*mapping, (*key_and_value)->items[0], (*key_and_value)->items[1]);
    }
  }
  insert_named(runtime, *mapping, arguments);
  return Value(mapping);
}

Value make_dict(Runtime& runtime, const Arguments& arguments) {
  return make_mapping(runtime, arguments, false);
}

Value make_namespace(Runtime& runtime, const Arguments& arguments) {
  return make_mapping(runtime, arguments, true);
}

Value raise_exception(Runtime& runtime, const Arguments& arguments) {
  const BoundArguments bound(runtime, "raise_exception", arguments, {"message"});
  runtime.fail("{:.1000}", printed(runtime, bound.require(0)));
}

Value format_now(Runtime& runtime, const Arguments& arguments) {
  constexpr size_t kMaxBytes = 4096;
  const BoundArguments bound(runtime, "strftime_now", arguments, {"format"});
  // A mark in front, since strftime gives 0 for an empty result and for one that is too long.
  const std::string format = std::string("x").append(bound.require_text(0));
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, kMaxBytes> buffer{};
  const size_t length = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  if (length == 0) {
    runtime.fail("strftime_now: a result above {} bytes", kMaxBytes);
  }
  return runtime.text(std::string(buffer.data() + 1, length - 1));
}

constexpr std::array kFunctions{
    Row{"dict", make_dict},
    Row{"namespace", make_namespace},
    Row{"raise_exception", raise_exception},
    Row{"range", range},
    Row{"strftime_now", format_now},
};

}  // namespace

bool is_function(std::string_view name) {
  return find_named(kFunctions, name) != nullptr;
}

Value call_function(Runtime& runtime, const std::string& name, const Arguments& arguments) {
  runtime.step();
  const Row* row = find_named(kFunctions, name);
  if (row == nullptr) {
    runtime.fail("there is no function '{:.80}'", name);
  }
  return row->function(runtime, arguments);
}

}  // namespace adze::text::chat_template
