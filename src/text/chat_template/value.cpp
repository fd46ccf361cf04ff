#include "text/chat_template/value.h"

#include <cmath>

#include <fmt/format.h>

namespace adze::text::chat_template {

namespace {

constexpr char kTextMark = 's';
constexpr char kNumberMark = 'n';

}  // namespace

bool Value::is_mapping() const {
  const auto* mapping = get<Mapping*>();
  return mapping != nullptr && !(*mapping)->is_namespace;
}

bool Value::is_namespace() const {
  const auto* mapping = get<Mapping*>();
  return mapping != nullptr && (*mapping)->is_namespace;
}

const char* Value::type_name() const {
  if (const auto* list = get<List*>()) {
    return (*list)->tuple ? "tuple" : "list";
  }
  if (const auto* mapping = get<Mapping*>()) {
    return (*mapping)->is_namespace ? "namespace" : "dict";
  }
  struct Names {
    const char* operator()(const Undefined&) const { return "undefined"; }
    const char* operator()(const None&) const { return "NoneType"; }
    const char* operator()(bool) const { return "bool"; }
    const char* operator()(int64_t) const { return "int"; }
    const char* operator()(double) const { return "float"; }
    const char* operator()(const Text&) const { return "str"; }
    const char* operator()(const List*) const { return "list"; }
    const char* operator()(const Mapping*) const { return "dict"; }
    const char* operator()(const Loop*) const { return "loop"; }
    const char* operator()(const Callable*) const { return "function"; }
  };
  return std::visit(Names{}, storage_);
}

bool Value::truth() const {
  struct Truth {
    bool operator()(const Undefined&) const { return false; }
    bool operator()(const None&) const { return false; }
    bool operator()(bool value) const { return value; }
    bool operator()(int64_t value) const { return value != 0; }
    bool operator()(double value) const { return value != 0.0; }
    bool operator()(const Text& text) const { return !text->empty(); }
    bool operator()(const List* list) const { return !list->items.empty(); }
    bool operator()(const Mapping* mapping) const {
      return mapping->is_namespace || !mapping->entries.empty();
    }
    bool operator()(const Loop*) const { return true; }
    bool operator()(const Callable*) const { return true; }
  };
  return std::visit(Truth{}, storage_);
}

const Value* Mapping::find(std::string_view key) const {
  const auto found = positions.find(key_name(key));
  return found == positions.end() ? nullptr : &entries[found->second].second;
}

const Value* Mapping::find(const Value& key) const {
  const auto found = positions.find(key_name(key));
  return found == positions.end() ? nullptr : &entries[found->second].second;
}

std::string key_name(std::string_view text) {
  return std::string(1, kTextMark).append(text);
}

std::string key_name(const Value& key) {
  if (key.is<Text>()) {
    return key_name(key.text());
  }
  if (key.is_integral()) {
    return kNumberMark + std::to_string(key.integer());
  }
  if (const double* number = key.get<double>()) {
    constexpr double kExact = 9007199254740992.0;  // 2^53: integers below are exact
    if (std::trunc(*number) == *number && std::abs(*number) < kExact) {
      return kNumberMark + std::to_string(static_cast<int64_t>(*number));
    }
    return kNumberMark + fmt::format("{}", *number);
  }
  return key.is<None>() ? "0" : "";
}

}  // namespace adze::text::chat_template
