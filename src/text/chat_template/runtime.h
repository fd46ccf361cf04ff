#pragma once
// One rendering: its limits, what it has used of them, and the owner of its lists and mappings.

#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/error.h"
#include "text/chat_template.h"
#include "text/chat_template/value.h"

namespace adze::text::chat_template {

inline constexpr std::string_view kErrorTag = "chat template";
// Levels of lists within lists that printing, comparing and converting follow.
inline constexpr int kMaxValueDepth = 200;

template <class... Arguments>
[[noreturn]] void fail_at(int line,
                          fmt::format_string<Arguments...> format,
                          Arguments&&... arguments) {
  throw core::error(
      kErrorTag, "line {}: {}", line, fmt::format(format, std::forward<Arguments>(arguments)...));
}

class Runtime {
 public:
  explicit Runtime(const ChatTemplateLimits& limits) : limits_(limits) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const ChatTemplateLimits& limits() const { return limits_; }
  void set_line(int line) { line_ = line; }
  int line() const { return line_; }

  template <class... Arguments>
  [[noreturn]] void fail(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
    fail_at(line_, format, std::forward<Arguments>(arguments)...);
  }

  void step(int64_t count = 1);
  // Work on many bytes counts too, or a few steps on long texts could take minutes.
  void step_bytes(size_t bytes);       // copied or compared as a whole
  void step_characters(size_t bytes);  // looked at one by one
  // Searching for one text in another compares up to the product of both lengths.
  void step_search(size_t text_bytes, size_t pattern_bytes);
  void take_memory(size_t bytes);  // fails above the limit
  void give_memory(size_t bytes);  // never fails
  void take_output(size_t bytes);  // bytes in unfinished output, captured text included
  void give_output(size_t bytes);

  Value text(std::string characters);
  List* list(bool tuple = false);
  void append(List& list, Value value);
  Mapping* mapping();
  void insert(Mapping& mapping,
              const Value& key,
              Value value);  // replaces the value of an equal key
  void insert(Mapping& mapping, std::string_view key, Value value);
  Value undefined(std::string_view hint);
  Loop* loop();
  Callable* callable(Callable callable);
  // The items that a for statement would see; fails for what cannot be iterated.
  const List* iterate(const Value& value);

 private:
  ChatTemplateLimits limits_;
  int line_ = 1;
  int64_t steps_ = 0;
  int64_t memory_bytes_ = 0;
  int64_t output_bytes_ = 0;
  std::deque<List> lists_;
  std::deque<Mapping> mappings_;
  std::deque<Loop> loops_;
  std::deque<Callable> callables_;
};

// Text that is being put together, within the memory limit at every moment.
class TextBuilder {
 public:
  explicit TextBuilder(Runtime& runtime) : runtime_(runtime) {}
  ~TextBuilder() { runtime_.give_memory(characters_.size()); }
  TextBuilder(const TextBuilder&) = delete;
  TextBuilder& operator=(const TextBuilder&) = delete;

  void append(std::string_view characters) {
    runtime_.take_memory(characters.size());
    runtime_.step_bytes(characters.size());
    characters_.append(characters);
  }
  void append(size_t count, char character);
  Value finish();  // leaves the builder empty

 private:
  Runtime& runtime_;
  std::string characters_;
};

}  // namespace adze::text::chat_template
