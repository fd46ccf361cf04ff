#pragma once
// Arguments of calls, and their assignment to parameters.

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/chat_template/runtime.h"
#include "text/chat_template/value.h"

namespace adze::text::chat_template {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // Without the first `count` positional ones, of which there must be that many.
  Arguments without_first(size_t count) const {
    return {{positional.begin() + static_cast<std::ptrdiff_t>(count), positional.end()}, named};
  }
};

void expect_no_arguments(Runtime& runtime, std::string_view function, const Arguments& arguments);

class BoundArguments {
 public:
  // Fails where there are more than `names`, or a name is unknown or given twice.
  BoundArguments(Runtime& runtime,
                 std::string_view function,
                 const Arguments& arguments,
                 std::initializer_list<std::string_view> names);

  const Value* find(size_t index) const;  // nullptr: not given
  const Value& require(size_t index) const;
  std::string_view require_text(size_t index) const;
  // Not given or none: nullopt; of another type: fails.
  std::optional<std::string_view> text(size_t index) const;
  std::optional<int64_t> integer(size_t index) const;
  bool truth(size_t index, bool otherwise) const;

 private:
  Runtime& runtime_;
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace adze::text::chat_template
