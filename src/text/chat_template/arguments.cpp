#include "text/chat_template/arguments.h"

#include <algorithm>

namespace adze::text::chat_template {

void expect_no_arguments(Runtime& runtime, std::string_view function, const Arguments& arguments) {
  if (!arguments.positional.empty() || !arguments.named.empty()) {
    runtime.fail("{}() takes no arguments", function);
  }
}

BoundArguments::BoundArguments(Runtime& runtime,
                               std::string_view function,
                               const Arguments& arguments,
                               std::initializer_list<std::string_view> names)
    : runtime_(runtime), function_(function), names_(names), values_(names.size(), nullptr) {
  if (arguments.positional.size() > names.size()) {
    runtime.fail("{}() takes at most {} arguments, got {}",
                 function,
                 names.size(),
                 arguments.positional.size());
  }
  for (size_t index = 0; index < arguments.positional.size(); ++index) {
    values_[index] = &arguments.positional[index];
  }
  for (const auto& [name, value] : arguments.named) {
    const auto place = std::find(names_.begin(), names_.end(), name);
    if (place == names_.end()) {
      runtime.fail("{}() has no argument '{:.80}'", function, name);
    }
    const Value*& slot = values_[static_cast<size_t>(place - names_.begin())];
    if (slot != nullptr) {
      runtime.fail("{}() got its argument '{}' twice", function, name);
    }
    slot = &value;
  }
}

const Value* BoundArguments::find(size_t index) const {
  return values_[index];
}

const Value& BoundArguments::require(size_t index) const {
  if (values_[index] == nullptr) {
    runtime_.fail("{}() needs its argument '{}'", function_, names_[index]);
  }
  return *values_[index];
}

std::string_view BoundArguments::require_text(size_t index) const {
  const Value& value = require(index);
  if (!value.is<Text>()) {
    runtime_.fail(
        "{}() needs a text for '{}', got '{}'", function_, names_[index], value.type_name());
  }
  return value.text();
}

std::optional<std::string_view> BoundArguments::text(size_t index) const {
  const Value* value = find(index);
  return value == nullptr || value->is<None>() ? std::nullopt : std::optional(require_text(index));
}

std::optional<int64_t> BoundArguments::integer(size_t index) const {
  const Value* value = find(index);
  if (value == nullptr || value->is<None>()) {
    return std::nullopt;
  }
  if (!value->is_integral()) {
    runtime_.fail(
        "{}() needs an integer for '{}', got '{}'", function_, names_[index], value->type_name());
  }
  return value->integer();
}

bool BoundArguments::truth(size_t index, bool otherwise) const {
  const Value* value = find(index);
  return value == nullptr ? otherwise : value->truth();
}

}  // namespace adze::text::chat_template
