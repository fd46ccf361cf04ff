#include "text/json_schema.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "text/json_grammar.h"
#include "text/printable.h"
#include "text/utf8.h"

namespace adze::text {
namespace {

using Json = nlohmann::ordered_json;
using NodeKind = GrammarNode::Kind;
using Names = std::set<std::string_view>;

constexpr size_t kMostPlaceBytes = 200;
constexpr int64_t kMostComparisons = 1'000'000;  // to tell oneOf's alternatives apart

const Names kAnnotations{"title",
                         "description",
                         "default",
                         "examples",
                         "deprecated",
                         "readOnly",
                         "writeOnly",
                         "$schema",
                         "$comment",
                         "$defs",
                         "definitions"};
const Names kCombinations{"$ref", "anyOf", "oneOf", "allOf", "enum", "const"};
// Keywords of a type, for schemas that leave `type` out.
const std::map<std::string_view, Names> kTypeKeywords{
    {"string", {"minLength", "maxLength", "pattern", "format"}},
    {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}},
    {"integer", {}},
    {"object", {"properties", "required", "additionalProperties"}},
    {"array", {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}},
    {"boolean", {}},
    {"null", {}}};
// Only days that every year has; 29 February is left out.
const std::string kDate =
    "[1-9]\\d{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|"
    "(?:0[13578]|1[02])-31)";
const std::string kTime =
    "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)";
const std::map<std::string_view, std::string> kFormats{
    {"date", "^" + kDate + "$"},
    {"time", "^" + kTime + "$"},
    {"date-time", "^" + kDate + "T" + kTime + "$"},
    {"uuid", "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"}};

core::Error fail(std::string_view place, std::string_view expected, std::string_view got) {
  return core::error("json_schema", "{}: expected {}, got {}", place, expected, got);
}

std::string below(std::string_view place, std::string_view name) {
  std::string result = fmt::format("{}/{}", place, printable(name));
  if (result.size() > kMostPlaceBytes) {
    result = "..." + result.substr(result.size() - kMostPlaceBytes);
  }
  return result;
}

// What everything else relies on: what is walked recursively is not deep, texts are UTF-8.
void check_values(const Json& schema) {
  std::vector<std::pair<const Json*, size_t>> open{{&schema, 0}};
  size_t values = 0;
  size_t bytes = 0;
  const auto check_text = [&](const std::string& text) {
    bytes += text.size();
    if (valid_prefix(text) != text.size()) {
      throw fail("#", "texts in UTF-8", printable(text));
    }
  };
  while (!open.empty()) {
    const auto [value, depth] = open.back();
    open.pop_back();
    if (value->is_string()) {
      check_text(value->get_ref<const std::string&>());
    } else if (value->is_object()) {
      for (const auto& [name, member] : value->items()) {
        check_text(name);
        open.emplace_back(&member, depth + 1);
      }
    } else if (value->is_array()) {
      for (const Json& element : *value) {
        open.emplace_back(&element, depth + 1);
      }
    } else if (value->is_binary() || value->is_discarded() ||
               (value->is_number_float() && !std::isfinite(value->get<double>()))) {
      throw fail("#", "values of JSON", "another");
    }
    if (depth > JsonGrammar::kMostSchemaDepth || ++values > JsonGrammar::kMostSchemaValues ||
        bytes > JsonGrammar::kMostSchemaBytes) {
      throw fail("#",
                 fmt::format("at most {} values and {} bytes of text, nested at most {} deep",
                             JsonGrammar::kMostSchemaValues,
                             JsonGrammar::kMostSchemaBytes,
                             JsonGrammar::kMostSchemaDepth),
                 "more");
    }
  }
}

std::u32string characters_of(std::string_view text) {
  std::u32string characters;
  while (!text.empty()) {
    const Utf8Step step = next_character(text);
    characters.push_back(step.code_point);
    text.remove_prefix(step.length);
  }
  return characters;
}

// A bound as a multiple of 10^-decimals; nullopt where it is none or large.
std::optional<int64_t> scaled(const Json& number, int decimals) {
  const std::string text = number.dump();
  const size_t point = text.find('.');
  std::string digits = text.substr(0, point);
  std::string fraction = point == std::string::npos ? "" : text.substr(point + 1);
  while (fraction.ends_with('0')) {
    fraction.pop_back();
  }
  if (text.find('e') != std::string::npos || fraction.size() > static_cast<size_t>(decimals)) {
    return std::nullopt;
  }
  digits += fraction + std::string(static_cast<size_t>(decimals) - fraction.size(), '0');
  int64_t value = 0;
  for (const char digit : digits) {
    if (digit != '-' && (__builtin_mul_overflow(value, int64_t{10}, &value) ||
                         __builtin_sub_overflow(value, int64_t{digit - '0'}, &value))) {
      return std::nullopt;
    }
  }
  if (!digits.starts_with('-') && __builtin_sub_overflow(int64_t{0}, value, &value)) {
    return std::nullopt;
  }
  return value;
}

class Compiler {
 public:
  explicit Compiler(const Json& document) : document_(document) { add_any(); }

  std::unique_ptr<const JsonGrammar::Parts> compile() {
    check_values(document_);
    parts_->root = node_for(document_, "#");
    while (!open_.empty()) {
      const Task task = std::move(open_.back());
      open_.pop_back();
      fill(*task.schema, task.node, task.place);
    }
    return finish();
  }

  std::unique_ptr<const JsonGrammar::Parts> any_object() {
    parts_->root = any_object_;
    return finish();
  }

 private:
  struct Task {
    const Json* schema;
    uint32_t node;
    std::string place;
  };

  uint32_t add(NodeKind kind, size_t index, std::vector<uint32_t> alternatives = {}) {
    parts_->nodes.push_back({.kind = kind,
                             .index = static_cast<uint32_t>(index),
                             .alternatives = std::move(alternatives)});
    places_.emplace_back();
    return static_cast<uint32_t>(parts_->nodes.size() - 1);
  }

  void add_any() {
    add(NodeKind::kAlternatives, 0);                     // kAnyValue
    add_string(0, StringAutomaton::kUnlimited, "", "");  // kAnyString
    any_object_ = add_object({}, {}, JsonGrammar::Parts::kAnyValue);
    parts_->lists.emplace_back().rest = JsonGrammar::Parts::kAnyValue;
    const uint32_t list = add(NodeKind::kList, 0);
    parts_->nodes[JsonGrammar::Parts::kAnyValue].alternatives = {
        JsonGrammar::Parts::kAnyString,
        any_object_,
        list,
        add(NodeKind::kNumber, 0),
        add_literals({true, false, nullptr})};
  }

  uint32_t add_string(uint32_t least,
                      uint32_t most,
                      const std::string& expression,
                      std::string_view place) {
    const auto [found, added] =
        strings_.try_emplace({least, most, expression}, parts_->strings.size());
    if (added) {
      try {
        parts_->strings.push_back(expression.empty()
                                      ? StringAutomaton(least, most)
                                      : StringAutomaton(expression, least, most, pattern_work_));
      } catch (const core::Error& failure) {
        throw core::error("json_schema", "{}: {}", place, failure.what());
      }
    }
    return add(NodeKind::kString, found->second);
  }

  uint32_t add_literals(const std::vector<Json>& values) {
    std::set<std::u32string> texts;
    for (const Json& value : values) {
      const std::string text = value.dump();
      std::u32string bytes;
      for (const char byte : text) {
        bytes.push_back(static_cast<uint8_t>(byte));
      }
      texts.insert(std::move(bytes));
    }
    parts_->literals.emplace_back(std::vector<std::u32string>(texts.begin(), texts.end()));
    return add(NodeKind::kLiterals, parts_->literals.size() - 1);
  }

  uint32_t add_object(std::vector<std::pair<std::string, uint32_t>> properties,
                      const std::set<std::string>& required,
                      uint32_t additional) {
    ObjectShape shape;
    shape.additional = additional;
    const auto count = static_cast<uint32_t>(properties.size());
    shape.next_required.assign(count + 1, count);
    std::map<std::u32string, uint32_t> sorted;
    for (uint32_t property = count; property-- > 0;) {
      const auto& [name, node] = properties[property];
      shape.next_required[property] =
          required.contains(name) ? property : shape.next_required[property + 1];
      sorted.emplace(characters_of(name), property);
      shape.properties.push_back(node);
    }
    std::reverse(shape.properties.begin(), shape.properties.end());
    std::vector<std::u32string> names;
    shape.ranks.resize(count);
    for (const auto& [name, property] : sorted) {
      shape.ranks[property] = static_cast<uint32_t>(names.size());
      shape.by_rank.push_back(property);
      names.push_back(name);
    }
    shape.names = SymbolTrie(names);
    parts_->objects.push_back(std::move(shape));
    return add(NodeKind::kObject, parts_->objects.size() - 1);
  }

  // The node of a schema, which fill() makes later: schemas may refer to themselves.
  uint32_t node_for(const Json& schema, std::string place) {
    const auto [found, added] = nodes_.try_emplace(&schema, 0);
    if (added) {
      found->second = add(NodeKind::kAlternatives, 0);
      places_[found->second] = place;
      open_.push_back({&schema, found->second, std::move(place)});
    }
    return found->second;
  }

  void fill(const Json& schema, uint32_t node, const std::string& place) {
    // NOTE: adding nodes moves them; the list is assigned at the end.
    std::vector<uint32_t> alternatives = alternatives_of(schema, place);
    parts_->nodes[node].alternatives = std::move(alternatives);
  }

  std::vector<uint32_t> alternatives_of(const Json& schema, const std::string& place) {
    if (schema == Json(true)) {
      return {JsonGrammar::Parts::kAnyValue};
    }
    if (!schema.is_object()) {
      throw fail(place, "a schema that allows something (an object or true)", shown(schema));
    }
    const std::string* combination = nullptr;
    const std::string* other = nullptr;
    for (const auto& [keyword, value] : schema.items()) {
      if (kAnnotations.contains(keyword) || (keyword == "$id" && &schema == &document_)) {
        continue;
      }
      const bool typed = std::any_of(kTypeKeywords.begin(), kTypeKeywords.end(), [&](auto& type) {
        return type.second.contains(keyword);
      });
      if (kCombinations.contains(keyword)) {
        if (combination != nullptr) {
          throw fail(place, fmt::format("'{}' without '{}'", keyword, *combination), "both");
        }
        combination = &keyword;
      } else if (typed) {
        other = &keyword;
      } else if (keyword != "type") {
        throw fail(below(place, keyword), "a supported keyword", "another");
      }
    }
    if (combination == nullptr) {
      return typed_alternatives(schema, place);
    }
    const bool constants = *combination == "enum" || *combination == "const";
    if (other == nullptr && !constants && schema.contains("type")) {
      other = &kTypeKeyword;
    }
    if (other != nullptr) {
      throw fail(place, fmt::format("'{}' without '{}'", *combination, *other), "both");
    }
    return combined_alternatives(schema, *combination, place);
  }

  std::vector<uint32_t> combined_alternatives(const Json& schema,
                                              const std::string& keyword,
                                              const std::string& place) {
    const Json& value = schema.at(keyword);
    const std::string here = below(place, keyword);
    if (const auto constants = constants_of(schema, place)) {
      return {add_literals(*constants)};
    }
    if (keyword == "$ref") {
      const Json& schema_meant = target(value, here);
      return {node_for(schema_meant, printable(value.get<std::string>()))};
    }
    if (!value.is_array() || value.empty() || (keyword == "allOf" && value.size() > 1)) {
      throw fail(here,
                 keyword == "allOf" ? "a list of one schema" : "a list of schemas",
                 value.is_array() && !value.empty() ? "more" : shown(value));
    }
    if (keyword == "oneOf") {
      check_apart(value, here);
    }
    std::vector<uint32_t> alternatives;
    std::vector<Json> constants;  // of all alternatives that have nothing else
    for (size_t i = 0; i < value.size(); ++i) {
      const std::string child = below(here, std::to_string(i));
      if (is_constant(value[i])) {
        alternatives_of(value[i], child);  // checks its keywords
        const std::vector<Json> more = *constants_of(value[i], child);
        constants.insert(constants.end(), more.begin(), more.end());
      } else {
        alternatives.push_back(node_for(value[i], child));
      }
    }
    if (!constants.empty()) {
      alternatives.push_back(add_literals(constants));
    }
    return alternatives;
  }

  static bool is_constant(const Json& schema) {
    return schema.is_object() && (schema.contains("enum") || schema.contains("const"));
  }

  // The values of enum or const, as far as `type` allows them.
  std::optional<std::vector<Json>> constants_of(const Json& schema,
                                                const std::string& place) const {
    if (!is_constant(schema)) {
      return std::nullopt;
    }
    std::vector<Json> values;
    if (schema.contains("const")) {
      values = {schema["const"]};
    } else if (schema["enum"].is_array()) {
      values.assign(schema["enum"].begin(), schema["enum"].end());
    }
    if (schema.contains("type")) {
      const Names types = types_of(schema, place);
      std::erase_if(values, [&](const Json& value) {
        return std::none_of(types.begin(), types.end(), [&](std::string_view type) {
          return type == type_of(value) || (type == "number" && type_of(value) == "integer");
        });
      });
    }
    if (values.empty()) {
      throw fail(place, "at least one value of the type in enum or const", "none");
    }
    return values;
  }

  static std::string_view type_of(const Json& value) {
    if (value.is_number_float()) {
      return std::trunc(value.get<double>()) == value.get<double>() ? "integer" : "number";
    }
    return value.is_number() ? "integer" : value.type_name();
  }

  static std::string shown(const Json& value) {
    return printable(value.is_object() || value.is_array() ? value.type_name() : value.dump());
  }

  // The types that `type` names, or else those of the keywords that are there; none: any.
  Names types_of(const Json& schema, const std::string& place) const {
    Names types;
    if (!schema.contains("type")) {
      for (const auto& [type, keywords] : kTypeKeywords) {
        if (std::any_of(keywords.begin(), keywords.end(), [&](std::string_view keyword) {
              return schema.contains(keyword);
            })) {
          types.insert(type);
        }
      }
      return types;
    }
    const Json& given = schema["type"];
    const std::string here = below(place, "type");
    const auto add_type = [&](const Json& type) {
      const auto known = type.is_string() ? kTypeKeywords.find(type.get_ref<const std::string&>())
                                          : kTypeKeywords.end();
      if (known == kTypeKeywords.end()) {
        throw fail(here, "string, number, integer, object, array, boolean or null", shown(type));
      }
      types.insert(known->first);
    };
    if (!given.is_array()) {
      add_type(given);
    } else {
      std::for_each(given.begin(), given.end(), add_type);
    }
    if (types.empty()) {
      throw fail(here, "at least one type", "none");
    }
    if (types.contains("number")) {
      types.erase("integer");
    }
    return types;
  }

  std::vector<uint32_t> typed_alternatives(const Json& schema, const std::string& place) {
    const Names types = types_of(schema, place);
    std::vector<uint32_t> alternatives;
    if (types.empty()) {
      return {JsonGrammar::Parts::kAnyValue};
    }
    for (const std::string_view type : types) {
      if (type == "string") {
        alternatives.push_back(string_node(schema, place));
      } else if (type == "number" || type == "integer") {
        alternatives.push_back(number_node(schema, place, type == "integer" ? 0 : 6));
      } else if (type == "object") {
        alternatives.push_back(object_node(schema, place));
      } else if (type == "array") {
        alternatives.push_back(list_node(schema, place));
      } else {
        alternatives.push_back(add_literals(type == "null" ? std::vector<Json>{nullptr}
                                                           : std::vector<Json>{true, false}));
      }
    }
    return alternatives;
  }

  // A bound of a length or number of items.
  static uint32_t count_of(const Json& schema,
                           const char* keyword,
                           uint32_t otherwise,
                           const std::string& place) {
    if (!schema.contains(keyword)) {
      return otherwise;
    }
    const auto count = schema[keyword].is_number() ? scaled(schema[keyword], 0) : std::nullopt;
    if (!count || *count < 0 || *count > std::numeric_limits<int32_t>::max()) {
      throw fail(below(place, keyword), "a number from 0 to 2147483647", shown(schema[keyword]));
    }
    return static_cast<uint32_t>(*count);
  }

  uint32_t string_node(const Json& schema, const std::string& place) {
    const uint32_t least = count_of(schema, "minLength", 0, place);
    const uint32_t most = count_of(schema, "maxLength", StringAutomaton::kUnlimited, place);
    if (least > most) {
      throw fail(
          below(place, "maxLength"), fmt::format("at least minLength {}", least), shown(most));
    }
    if (schema.contains("pattern") && schema.contains("format")) {
      throw fail(place, "'pattern' without 'format'", "both");
    }
    if (schema.contains("format")) {
      const Json& format = schema["format"];
      const auto known =
          format.is_string() ? kFormats.find(format.get_ref<const std::string&>()) : kFormats.end();
      if (known == kFormats.end()) {
        throw fail(below(place, "format"), "date, time, date-time or uuid", shown(format));
      }
      return add_string(least, most, known->second, below(place, "format"));
    }
    if (!schema.contains("pattern")) {
      return add_string(least, most, "", place);
    }
    if (!schema["pattern"].is_string()) {
      throw fail(below(place, "pattern"), "a text", shown(schema["pattern"]));
    }
    return add_string(least, most, schema["pattern"].get<std::string>(), below(place, "pattern"));
  }

  uint32_t number_node(const Json& schema, const std::string& place, uint8_t decimals) {
    const Names& bounds = kTypeKeywords.at("number");
    const bool bounded = std::any_of(bounds.begin(), bounds.end(), [&](std::string_view keyword) {
      return schema.contains(keyword);
    });
    if (decimals > 0 && !bounded) {
      return add(NodeKind::kNumber, 0);
    }
    // 15 digits in all: numbers that differ are different doubles.
    constexpr int64_t kMostScaled = 999'999'999'999'999;
    DecimalRange range{decimals > 0 ? -kMostScaled : std::numeric_limits<int64_t>::min(),
                       decimals > 0 ? kMostScaled : std::numeric_limits<int64_t>::max(),
                       decimals};
    for (const std::string_view keyword : bounds) {
      if (!schema.contains(keyword)) {
        continue;
      }
      const Json& given = schema[keyword];
      const auto bound = given.is_number() ? scaled(given, decimals) : std::nullopt;
      const int64_t apart = keyword.starts_with("exclusive") ? 1 : 0;
      const bool lower = keyword.ends_with("inimum");
      int64_t value = 0;
      if (!bound || __builtin_add_overflow(*bound, lower ? apart : -apart, &value)) {
        throw fail(
            below(place, keyword),
            decimals > 0 ? "a number with at most 6 digits behind the point" : "a 64-bit integer",
            shown(given));
      }
      range.least = lower ? std::max(range.least, value) : range.least;
      range.most = lower ? range.most : std::min(range.most, value);
    }
    if (range.least > range.most) {
      throw fail(place,
                 decimals > 0 ? "bounds with a number of at most 9 digits, a point and 6 digits"
                              : "bounds with an integer between them",
                 "none between them");
    }
    parts_->decimals.push_back(range);
    return add(NodeKind::kDecimal, parts_->decimals.size() - 1);
  }

  uint32_t object_node(const Json& schema, const std::string& place) {
    uint32_t additional = JsonGrammar::Parts::kAnyValue;
    if (schema.contains("additionalProperties")) {
      const Json& given = schema["additionalProperties"];
      additional = given == Json(false) ? SymbolTrie::kNone
                                        : node_for(given, below(place, "additionalProperties"));
    }
    std::vector<std::pair<std::string, uint32_t>> properties;
    std::set<std::string> declared;
    if (schema.contains("properties")) {
      const std::string here = below(place, "properties");
      if (!schema["properties"].is_object()) {
        throw fail(here, "an object", shown(schema["properties"]));
      }
      for (const auto& [name, child] : schema["properties"].items()) {
        if (!declared.insert(name).second) {
          throw fail(below(here, name), "each name once", "it twice");
        }
        properties.emplace_back(name, node_for(child, below(here, name)));
      }
    }
    std::set<std::string> required;
    if (schema.contains("required")) {
      const std::string here = below(place, "required");
      if (!schema["required"].is_array()) {
        throw fail(here, "a list of names", shown(schema["required"]));
      }
      for (const Json& name : schema["required"]) {
        if (!name.is_string()) {
          throw fail(here, "a list of names", shown(name));
        }
        if (!required.insert(name.get<std::string>()).second ||
            declared.contains(name.get_ref<const std::string&>())) {
          continue;
        }
        if (additional == SymbolTrie::kNone) {
          throw fail(here, "names that properties or additionalProperties allow", shown(name));
        }
        declared.insert(name.get<std::string>());
        properties.emplace_back(name.get<std::string>(), additional);
      }
    }
    return add_object(std::move(properties), required, additional);
  }

  uint32_t list_node(const Json& schema, const std::string& place) {
    ListShape shape;
    if (schema.contains("prefixItems")) {
      const Json& prefix = schema["prefixItems"];
      if (!prefix.is_array() || prefix.empty()) {
        throw fail(below(place, "prefixItems"), "a list of schemas", shown(prefix));
      }
      for (size_t i = 0; i < prefix.size(); ++i) {
        shape.prefix.push_back(
            node_for(prefix[i], below(below(place, "prefixItems"), std::to_string(i))));
      }
    }
    if (!schema.contains("items")) {
      shape.rest = JsonGrammar::Parts::kAnyValue;
    } else if (schema["items"] != Json(false)) {
      shape.rest = node_for(schema["items"], below(place, "items"));
    }
    if (schema.contains("uniqueItems") && schema["uniqueItems"] != Json(false)) {
      throw fail(below(place, "uniqueItems"), "false", shown(schema["uniqueItems"]));
    }
    shape.least = count_of(schema, "minItems", 0, place);
    shape.most = count_of(schema, "maxItems", std::numeric_limits<uint32_t>::max(), place);
    const size_t possible = shape.rest == SymbolTrie::kNone
                                ? std::min<size_t>(shape.prefix.size(), shape.most)
                                : shape.most;
    if (shape.least > possible) {
      throw fail(below(place, "minItems"), fmt::format("at most {}", possible), shown(shape.least));
    }
    parts_->lists.push_back(std::move(shape));
    return add(NodeKind::kList, parts_->lists.size() - 1);
  }

  // The schema that a "$ref" names.
  const Json& target(const Json& reference, const std::string& place) const {
    const std::string text = reference.is_string() ? reference.get<std::string>() : "";
    if (text != "#" && !text.starts_with("#/")) {
      throw fail(place, "a reference within the document, '#' or '#/...'", shown(reference));
    }
    try {
      return document_.at(Json::json_pointer(text.substr(1)));
    } catch (const Json::exception&) {
      throw fail(place, "a reference to a place of the document", shown(reference));
    }
  }

  // ---- oneOf: may a value be of both schemas?

  void check_apart(const Json& schemas, const std::string& place) {
    for (size_t i = 0; i < schemas.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (!are_apart(schemas[j], schemas[i], place, 0)) {
          throw fail(place,
                     "alternatives of different types, constants or constant properties (or anyOf)",
                     fmt::format("{} and {}, which one value might match", j, i));
        }
      }
    }
  }

  bool are_apart(const Json& left, const Json& right, const std::string& place, size_t depth) {
    if (--comparisons_ < 0) {
      throw fail(place, "alternatives that are simple to tell apart", "others");
    }
    if (depth > JsonGrammar::kMostSchemaDepth || !left.is_object() || !right.is_object()) {
      return false;
    }
    if (left.contains("$ref")) {
      return are_apart(target(left["$ref"], place), right, place, depth + 1);
    }
    if (right.contains("$ref")) {
      return are_apart(left, target(right["$ref"], place), place, depth + 1);
    }
    const auto left_values = constants_of(left, place);
    const auto right_values = constants_of(right, place);
    const auto cost = [](const Json& schema, const char* keyword) {
      return schema.contains(keyword) ? static_cast<int64_t>(schema[keyword].size()) : 0;
    };
    comparisons_ -= cost(left, "enum") + cost(right, "enum");
    comparisons_ -= cost(left, "required") * (cost(right, "required") + cost(left, "properties") +
                                              cost(right, "properties"));
    if (left_values && right_values) {
      return std::none_of(left_values->begin(), left_values->end(), [&](const Json& value) {
        comparisons_ -= static_cast<int64_t>(right_values->size());
        return std::find(right_values->begin(), right_values->end(), value) != right_values->end();
      });
    }
    const Names left_types = value_types(left, left_values, place);
    const Names right_types = value_types(right, right_values, place);
    if (left_types.empty() || right_types.empty()) {
      return false;
    }
    const bool common = std::any_of(left_types.begin(), left_types.end(), [&](auto type) {
      return right_types.contains(type) || (type == "integer" && right_types.contains("number")) ||
             (type == "number" && right_types.contains("integer"));
    });
    if (!common) {
      return true;
    }
    if (left_types != Names{"object"} || right_types != Names{"object"} || left_values ||
        right_values || !requires_names(left) || !requires_names(right)) {
      return false;
    }
    return std::any_of(left["required"].begin(), left["required"].end(), [&](const Json& name) {
      const Json& others = right["required"];
      return name.is_string() && std::find(others.begin(), others.end(), name) != others.end() &&
             left["properties"].contains(name.get<std::string>()) &&
             right["properties"].contains(name.get<std::string>()) &&
             are_apart(left["properties"][name.get<std::string>()],
                       right["properties"][name.get<std::string>()],
                       place,
                       depth + 1);
    });
  }

  static bool requires_names(const Json& schema) {
    return schema.contains("required") && schema["required"].is_array() &&
           schema.contains("properties") && schema["properties"].is_object();
  }

  Names value_types(const Json& schema,
                    const std::optional<std::vector<Json>>& values,
                    const std::string& place) const {
    Names types;
    if (!values) {
      return types_of(schema, place);
    }
    for (const Json& value : *values) {
      types.insert(type_of(value));
    }
    return types;
  }

  // ---- What is known when all nodes are there

  std::unique_ptr<const JsonGrammar::Parts> finish() {
    flatten();
    measure();
    if (!parts_->fits(parts_->root, 0)) {
      throw fail(
          "#",
          fmt::format("a schema with a value nested at most {} deep", JsonGrammar::kMostDepth),
          "one without");
    }
    return std::move(parts_);
  }

  // Replaces alternatives that have alternatives by these, from those that have none upwards.
  void flatten() {
    std::vector<GrammarNode>& nodes = parts_->nodes;
    std::vector<std::vector<uint32_t>> users(nodes.size());
    std::vector<size_t> missing(nodes.size(), 0);
    std::vector<uint32_t> ready;
    size_t done = 0;
    for (uint32_t node = 0; node < nodes.size(); ++node) {
      for (const uint32_t child : nodes[node].alternatives) {
        users[child].push_back(node);
      }
      missing[node] = nodes[node].alternatives.size();
      if (missing[node] == 0) {
        nodes[node].alternatives = {node};
        ready.push_back(node);
      }
    }
    for (; done < ready.size(); ++done) {
      const uint32_t node = ready[done];
      if (nodes[node].kind == NodeKind::kAlternatives) {
        std::vector<uint32_t> all;
        for (const uint32_t child : nodes[node].alternatives) {
          for (const uint32_t alternative : nodes[child].alternatives) {
            if (std::find(all.begin(), all.end(), alternative) == all.end()) {
              all.push_back(alternative);
            }
          }
          if (all.size() > JsonGrammar::kMostAlternatives) {
            throw fail(places_[node],
                       fmt::format("at most {} alternatives", JsonGrammar::kMostAlternatives),
                       "more");
          }
        }
        nodes[node].alternatives = std::move(all);
      }
      for (const uint32_t user : users[node]) {
        if (--missing[user] == 0) {
          ready.push_back(user);
        }
      }
    }
    for (uint32_t node = 0; node < nodes.size(); ++node) {
      if (missing[node] > 0) {
        throw fail(places_[node], "a schema that says what it allows", "one that refers to itself");
      }
    }
  }

  // The heights of nodes, in rounds: after n of them those below n are right.
  void measure() {
    for (size_t round = 0; round <= JsonGrammar::kMostDepth + 1; ++round) {
      bool changed = false;
      for (GrammarNode& node : parts_->nodes) {
        const uint32_t height = height_of(node);
        changed |= height != node.height;
        node.height = height;
      }
      if (!changed) {
        return;
      }
    }
  }

  uint32_t height_of(const GrammarNode& node) const {
    const auto highest = [&](uint32_t height, uint32_t child) {
      return std::max(height, parts_->nodes[child].height);
    };
    uint32_t inner = 0;
    switch (node.kind) {
      case NodeKind::kAlternatives: {
        uint32_t lowest = GrammarNode::kNever;
        for (const uint32_t child : node.alternatives) {
          lowest = std::min(lowest, parts_->nodes[child].height);
        }
        return lowest;
      }
      case NodeKind::kObject: {
        const ObjectShape& shape = parts_->objects[node.index];
        const auto count = static_cast<uint32_t>(shape.properties.size());
        for (uint32_t i = shape.next_required[0]; i < count; i = shape.next_required[i + 1]) {
          inner = highest(inner, shape.properties[i]);
        }
        break;
      }
      case NodeKind::kList: {
        const ListShape& shape = parts_->lists[node.index];
        for (uint32_t i = 0; i < shape.least && i <= shape.prefix.size(); ++i) {
          inner = highest(inner, shape.item(i));
        }
        break;
      }
      default:
        return 0;
    }
    return inner == GrammarNode::kNever ? inner : inner + 1;
  }

  inline static const std::string kTypeKeyword = "type";

  const Json& document_;
  std::unique_ptr<JsonGrammar::Parts> parts_ = std::make_unique<JsonGrammar::Parts>();
  std::vector<std::string> places_;  // of nodes
  std::unordered_map<const Json*, uint32_t> nodes_;
  std::map<std::tuple<uint32_t, uint32_t, std::string>, size_t> strings_;
  std::vector<Task> open_;
  uint32_t any_object_ = 0;
  int64_t pattern_work_ = JsonGrammar::kMostPatternWork;
  int64_t comparisons_ = kMostComparisons;
};

}  // namespace

SymbolTrie::SymbolTrie(const std::vector<std::u32string>& texts) {
  nodes_.push_back({.end = static_cast<uint32_t>(texts.size())});
  // Level by level, so that the children of a node are neighbours.
  size_t depth = 0;
  for (size_t level = 0, next_level = 1; level < next_level; ++depth) {
    for (; level < next_level; ++level) {
      Node node = nodes_[level];
      uint32_t begin = node.begin;
      if (begin < node.end && texts[begin].size() == depth) {
        node.ends_text = true;
        ++begin;
      }
      node.first_child = static_cast<uint32_t>(nodes_.size());
      nodes_[level] = node;
      while (begin < node.end) {
        const char32_t symbol = texts[begin][depth];
        uint32_t end = begin + 1;
        while (end < node.end && texts[end][depth] == symbol) {
          ++end;
        }
        nodes_.push_back({.symbol = symbol, .begin = begin, .end = end});
        begin = end;
      }
    }
    next_level = nodes_.size();
  }
  nodes_.push_back({.first_child = static_cast<uint32_t>(nodes_.size())});
}

uint32_t SymbolTrie::child(uint32_t node, uint32_t symbol) const {
  const auto begin = nodes_.begin() + first_child(node);
  const auto end = nodes_.begin() + first_child(node + 1);
  const auto found = std::lower_bound(
      begin, end, symbol, [](const Node& entry, uint32_t wanted) { return entry.symbol < wanted; });
  return found != end && found->symbol == symbol ? static_cast<uint32_t>(found - nodes_.begin())
                                                 : kNone;
}

JsonGrammar::JsonGrammar(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
JsonGrammar::~JsonGrammar() = default;

std::shared_ptr<const JsonGrammar> JsonGrammar::from_schema(const Json& schema) {
  return std::make_shared<const JsonGrammar>(Compiler(schema).compile());
}

std::shared_ptr<const JsonGrammar> JsonGrammar::any_object() {
  const Json nothing;
  return std::make_shared<const JsonGrammar>(Compiler(nothing).any_object());
}

}  // namespace adze::text
