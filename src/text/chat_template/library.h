#pragma once
// What the environment offers to templates: filters, tests, functions and methods. They see their
// arguments and nothing else; only strftime_now reads something from outside, the clock.

#include <optional>
#include <string>
#include <string_view>

#include "text/chat_template/arguments.h"
#include "text/chat_template/runtime.h"
#include "text/chat_template/value.h"

namespace adze::text::chat_template {

// input|name(arguments); fails for an unknown name.
Value apply_filter(Runtime& runtime,
                   const std::string& name,
                   const Value& input,
                   const Arguments& arguments);

// value is name(arguments); fails for an unknown name.
bool apply_test(Runtime& runtime,
                const std::string& name,
                const Value& value,
                const Arguments& arguments);

bool is_function(std::string_view name);  // range, namespace, ...
Value call_function(Runtime& runtime, const std::string& name, const Arguments& arguments);

bool is_method(const Value& self, std::string_view name);
Value call_method(Runtime& runtime,
                  const Value& self,
                  const std::string& name,
                  const Arguments& arguments);

// The filters' functions, in tables of which apply_filter() searches all.
using Filter = Value (*)(Runtime& runtime, const Value& input, const Arguments& arguments);
Filter find_text_filter(std::string_view name);  // nullptr: none of that name
Filter find_number_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);
Filter find_selection_filter(std::string_view name);

// What stripping may cost: each character is looked for in the set.
void step_strip(Runtime& runtime,
                std::string_view text,
                std::optional<std::string_view> characters);

// text.replace(old, replacement), at most `limit` times unless negative.
Value replace_text(Runtime& runtime,
                   std::string_view text,
                   std::string_view old,
                   std::string_view replacement,
                   int64_t limit);
Value mapping_items(Runtime& runtime, const Mapping& mapping);  // list of (key, value)

}  // namespace adze::text::chat_template
