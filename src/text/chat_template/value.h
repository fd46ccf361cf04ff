#pragma once
// The values of a template. Texts are immutable and shared. Lists, mappings and what can refer back
// to itself belong to the Runtime of one rendering and are named by plain pointers, so that a cycle
// neither leaks nor recurses when it is freed.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace adze::text::chat_template {

using Text = std::shared_ptr<const std::string>;

struct None {};

struct Undefined {
  Text hint;  // what was looked for, for the error message
};

struct List;
struct Mapping;
struct Loop;
struct Callable;

class Value {
 public:
  Value() : storage_(Undefined{}) {}
  template <class T>
  explicit Value(T value) : storage_(std::move(value)) {}

  template <class T>
  bool is() const {
    return std::holds_alternative<T>(storage_);
  }
  template <class T>
  const T* get() const {
    return std::get_if<T>(&storage_);
  }

  bool is_undefined() const { return is<Undefined>(); }
  bool is_number() const { return is<bool>() || is<int64_t>() || is<double>(); }
  bool is_mapping() const;  // not a namespace
  bool is_namespace() const;
  // The characters of a text; must be one.
  std::string_view text() const { return **get<Text>(); }
  // A bool or integer as Python's int sees it; must be one.
  int64_t integer() const { return is<bool>() ? int64_t{*get<bool>()} : *get<int64_t>(); }
  bool is_integral() const { return is<bool>() || is<int64_t>(); }
  double number() const { return is<double>() ? *get<double>() : static_cast<double>(integer()); }

  const char* type_name() const;  // as Python calls it: "str", "NoneType"
  bool truth() const;

 private:
  std::variant<Undefined, None, bool, int64_t, double, Text, List*, Mapping*, Loop*, Callable*>
      storage_;
};

struct List {
  std::vector<Value> items;
  bool tuple = false;
};

// Keeps insertion order, as Python's dict does. Keys are texts, numbers or none.
struct Mapping {
  std::vector<std::pair<Value, Value>> entries;
  std::map<std::string, size_t, std::less<>> positions;  // by key_name
  bool is_namespace = false;

  const Value* find(std::string_view key) const;  // nullptr where there is none
  const Value* find(const Value& key) const;
};

// Equal for keys that Python calls equal (1, 1.0 and true), different otherwise. Texts keep their
// characters behind a mark, so that "1" is not 1. Empty for a value that cannot be a key.
std::string key_name(const Value& key);
std::string key_name(std::string_view text);

struct Loop {  // `loop` within a for statement
  const List* items;
  int64_t index = 0;
};

struct MacroDefinition;
class Frame;

// What can be called: a macro, a function of the environment, or a method of a value.
struct Callable {
  enum class Kind : uint8_t { kMacro, kFunction, kMethod };

  Kind kind;
  std::string name;
  const MacroDefinition* macro = nullptr;  // kMacro
  Frame* scope = nullptr;                  // kMacro: where it was defined
  Value self;                              // kMethod
};

}  // namespace adze::text::chat_template
