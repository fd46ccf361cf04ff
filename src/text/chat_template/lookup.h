#pragma once
// Search in a constant table of (name, ...) rows.

#include <algorithm>
#include <string_view>

namespace adze::text::chat_template {

// The row's address, or nullptr.
template <class Table>
auto find_named(const Table& table, std::string_view name) -> decltype(&*table.begin()) {
  const auto row = std::find_if(
      table.begin(), table.end(), [&](const auto& entry) { return entry.name == name; });
  return row == table.end() ? nullptr : &*row;
}

}  // namespace adze::text::chat_template
