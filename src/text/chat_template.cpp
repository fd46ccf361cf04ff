#include "text/chat_template.h"

#include <limits>

#include "text/chat_template/interpreter.h"
#include "text/chat_template/parser.h"
#include "text/chat_template/runtime.h"

namespace adze::text {

namespace {

using chat_template::Runtime;
using chat_template::Value;
using Json = nlohmann::ordered_json;

Value convert(Runtime& runtime, const Json& json, int depth);

Value convert_container(Runtime& runtime, const Json& json, int depth) {
  if (depth >= chat_template::kMaxValueDepth) {
    runtime.fail("the given values are nested deeper than {} levels",
                 chat_template::kMaxValueDepth);
  }
  if (json.is_array()) {
    chat_template::List* list = runtime.list();
    for (const Json& item : json) {
      runtime.append(*list, convert(runtime, item, depth + 1));
    }
    return Value(list);
  }
  chat_template::Mapping* mapping = runtime.mapping();
  for (const auto& [key, item] : json.items()) {
    runtime.insert(*mapping, key, convert(runtime, item, depth + 1));
  }
  return Value(mapping);
}

Value convert(Runtime& runtime, const Json& json, int depth) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        runtime.fail("the given values hold an integer beyond 64 bits");
      }
      return Value(json.get<int64_t>());
    case Json::value_t::number_integer:
      return Value(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::string:
      return runtime.text(json.get_ref<const std::string&>());
    case Json::value_t::array:
    case Json::value_t::object:
      return convert_container(runtime, json, depth);
    default:
      return Value(chat_template::None{});
  }
}

chat_template::Block parse_checked(std::string_view source, const ChatTemplateLimits& limits) {
  if (source.size() > static_cast<size_t>(limits.source_bytes)) {
    throw core::error(chat_template::kErrorTag,
                      "source: expected at most {} bytes, got {}",
                      limits.source_bytes,
                      source.size());
  }
  return chat_template::parse(source, limits.depth);
}

}  // namespace

struct ChatTemplate::Implementation {
  ChatTemplateLimits limits;
  chat_template::Block program;
};

ChatTemplate::ChatTemplate(std::string_view source, ChatTemplateLimits limits)
    : implementation_(
          std::make_unique<Implementation>(Implementation{limits, parse_checked(source, limits)})) {
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render(const nlohmann::ordered_json& values) const {
  if (!values.is_object()) {
    throw core::error(
        chat_template::kErrorTag, "values: expected an object, got {}", values.type_name());
  }
  Runtime runtime(implementation_->limits);
  chat_template::Interpreter interpreter(runtime);
  for (const auto& [name, value] : values.items()) {
    interpreter.set_global(name, convert(runtime, value, 0));
  }
  return interpreter.run(implementation_->program);
}

}  // namespace adze::text
