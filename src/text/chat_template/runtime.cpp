#include "text/chat_template/runtime.h"

#include <algorithm>

#include "text/utf8.h"

namespace adze::text::chat_template {

namespace {

// A step takes about 100 ns; so does copying 1 KiB, or decoding 64 bytes of UTF-8.
constexpr size_t kBytesPerStep = 1024;
constexpr size_t kCharacterBytesPerStep = 64;
constexpr size_t kComparisonsPerStep = 1 << 16;
constexpr size_t kContainerBytes = 128;  // about what an empty one takes
constexpr size_t kEntryBytes = 160;      // a mapping's entry and its place in the index

}  // namespace

void Runtime::step(int64_t count) {
  steps_ += count;
  if (steps_ > limits_.steps) {
    fail("the template takes more than {} steps", limits_.steps);
  }
}

void Runtime::step_bytes(size_t bytes) {
  step(static_cast<int64_t>(bytes / kBytesPerStep));
}

void Runtime::step_characters(size_t bytes) {
  step(static_cast<int64_t>(bytes / kCharacterBytesPerStep));
}

void Runtime::step_search(size_t text_bytes, size_t pattern_bytes) {
  step_bytes(text_bytes);
  step(
      static_cast<int64_t>(text_bytes / kComparisonsPerStep * pattern_bytes +
                           text_bytes % kComparisonsPerStep * pattern_bytes / kComparisonsPerStep));
}

void Runtime::take_memory(size_t bytes) {
  if (bytes >
      static_cast<size_t>(limits_.memory_bytes - std::min(limits_.memory_bytes, memory_bytes_))) {
    fail("the template's values take more than {} bytes", limits_.memory_bytes);
  }
  memory_bytes_ += static_cast<int64_t>(bytes);
}

void Runtime::give_memory(size_t bytes) {
  memory_bytes_ -= static_cast<int64_t>(bytes);
}

void Runtime::take_output(size_t bytes) {
  step_bytes(bytes);
  output_bytes_ += static_cast<int64_t>(bytes);
  if (output_bytes_ > limits_.output_bytes) {
    fail("the output takes more than {} bytes", limits_.output_bytes);
  }
}

void Runtime::give_output(size_t bytes) {
  output_bytes_ -= static_cast<int64_t>(bytes);
}

Value Runtime::text(std::string characters) {
  take_memory(characters.size());
  step_bytes(characters.size());
  const auto release = [this](const std::string* text) {
    give_memory(text->size());
    delete text;
  };
  return Value(Text(new std::string(std::move(characters)), release));
}

List* Runtime::list(bool tuple) {
  take_memory(kContainerBytes);
  lists_.push_back({{}, tuple});
  return &lists_.back();
}

void Runtime::append(List& list, Value value) {
  take_memory(sizeof(Value));
  list.items.push_back(std::move(value));
}

Mapping* Runtime::mapping() {
  take_memory(kContainerBytes);
  return &mappings_.emplace_back();
}

void Runtime::insert(Mapping& mapping, const Value& key, Value value) {
  std::string name = key_name(key);
  if (name.empty()) {
    fail("a key must be a text, a number or none, got {}", key.type_name());
  }
  const auto [place, added] =
      mapping.positions.try_emplace(std::move(name), mapping.entries.size());
  if (!added) {
    mapping.entries[place->second].second = std::move(value);
    return;
  }
  take_memory(kEntryBytes + place->first.size());
  mapping.entries.emplace_back(key, std::move(value));
}

void Runtime::insert(Mapping& mapping, std::string_view key, Value value) {
  insert(mapping, text(std::string(key)), std::move(value));
}

Value Runtime::undefined(std::string_view hint) {
  return Value(Undefined{std::make_shared<const std::string>(hint.substr(0, 80))});
}

Loop* Runtime::loop() {
  take_memory(sizeof(Loop));
  return &loops_.emplace_back();
}

Callable* Runtime::callable(Callable callable) {
  take_memory(kContainerBytes);
  return &callables_.emplace_back(std::move(callable));
}

const List* Runtime::iterate(const Value& value) {
  if (const auto* given = value.get<List*>()) {
    return *given;
  }
  if (!value.is<Text>() && !value.is_mapping() && !value.is_undefined()) {
    fail("'{}' cannot be iterated", value.type_name());
  }
  List* items = list();
  if (value.is<Text>()) {
    std::string_view rest = value.text();
    while (!rest.empty()) {
      const size_t length = next_character(rest).length;
      step();
      append(*items, text(std::string(rest.substr(0, length))));
      rest.remove_prefix(length);
    }
  } else if (value.is_mapping()) {
    const Mapping& mapping = **value.get<Mapping*>();
    step(static_cast<int64_t>(mapping.entries.size()));
    for (const auto& entry : mapping.entries) {
      append(*items, entry.first);
    }
  }
  return items;
}

void TextBuilder::append(size_t count, char character) {
  runtime_.take_memory(count);
  runtime_.step_bytes(count);
  characters_.append(count, character);
}

Value TextBuilder::finish() {
  std::string characters = std::exchange(characters_, {});
  runtime_.give_memory(characters.size());
  return runtime_.text(std::move(characters));
}

}  // namespace adze::text::chat_template
