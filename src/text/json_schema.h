#pragma once
// JSON text that a schema allows, one byte at a time: what a model must write where a caller asks
// for `response_format` or gives the schema of a tool's arguments.
//
// Everything accepted is JSON that the schema accepts. Of the many ways to write a value a matcher
// wants one:
//   - properties in the order of the schema, those it does not name behind them, and no white space
//     but one space, or one line break and up to 4 spaces a level, behind { [ , : and before } ]
//   - the values of enum and const as nlohmann::ordered_json::dump() writes them
//   - integers of 64 bits without point and exponent; bounded numbers with up to 9 digits before
//     and 6 behind the point; other numbers with up to 16 and 16 and an exponent of 2
//   - strings in UTF-8, any character also as one of JSON's escapes
//
// Keywords: type (lists too), properties, required, additionalProperties, items, prefixItems,
// minItems, maxItems, enum, const, anyOf, oneOf (where no value can match two), allOf (of one),
// $ref within the document, $defs, definitions, minLength, maxLength, pattern
// (string_automaton.h), format (date, time, date-time, uuid), minimum, maximum, exclusiveMinimum,
// exclusiveMaximum, and uniqueItems: false. Without `type` the keywords that are there say it.
// Ignored: title, description, default, examples, deprecated, readOnly, writeOnly, $schema,
// $comment, and $id at the root. Anything else is an error, and so are combinations that would
// have to hold at the same time ($ref, anyOf, oneOf, allOf or enum beside other keywords; enum and
// const may have a type). Dates are of the years 1000 to 9999, without 29 February.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

namespace adze::text {

class JsonGrammar {
 public:
  static constexpr size_t kMostSchemaDepth = 64;
  static constexpr size_t kMostSchemaValues = 20'000;     // of JSON, keys apart
  static constexpr size_t kMostSchemaBytes = 1 << 20;     // of its texts
  static constexpr size_t kMostAlternatives = 64;         // of one place, constants counted once
  static constexpr size_t kMostDepth = 64;                // objects and lists within each other
  static constexpr size_t kMostReadings = 64;             // see JsonMatcher
  static constexpr int64_t kMostPatternWork = 4'000'000;  // steps and table entries, all patterns

  // Throws core::Error that names the place in the schema and the keyword: not supported, not a
  // schema, no value possible (within kMostDepth), a limit.
  static std::shared_ptr<const JsonGrammar> from_schema(const nlohmann::ordered_json& schema);
  static std::shared_ptr<const JsonGrammar> any_object();

  struct Parts;  // json_grammar.h
  explicit JsonGrammar(std::unique_ptr<const Parts> parts);
  ~JsonGrammar();
  const Parts& parts() const { return *parts_; }

 private:
  std::unique_ptr<const Parts> parts_;
};

// One value, object or list that is being read. Internal.
struct JsonFrame {
  enum class Kind : uint8_t { kValue, kObject, kList, kKey, kString, kLiteral, kDecimal, kNumber };

  Kind kind = Kind::kValue;
  uint8_t phase = 0;   // by kind
  uint8_t depth = 0;   // objects and lists around it
  uint8_t left = 0;    // bytes or hexadecimal digits that a character lacks; digits
  uint32_t node = 0;   // of the grammar
  uint32_t state = 0;  // of an automaton or trie; the child behind a key
  uint32_t count = 0;  // properties passed, items
  uint64_t value = 0;  // of a number or of part of a character; white space

  bool operator==(const JsonFrame&) const = default;
};

// A string within a value, apart from what follows it. Cheap to copy; the matcher's grammar must
// outlive it.
class JsonString {
 public:
  enum class Step : uint8_t { kRefused, kInside, kClosed };

  JsonString(const JsonGrammar::Parts& parts, JsonFrame frame) : parts_(&parts), frame_(frame) {}

  Step accept(uint8_t byte);
  // What a closed string leads to: equal values, equal continuations.
  uint32_t meaning() const;

  // Bounds of further characters; a character begun counts. Where only these bounds tell two
  // strings apart, free_string() of both are equal.
  uint32_t least() const;
  uint32_t most() const;
  JsonString free_string() const;
  uint32_t characters() const;  // of a free string, since free_string()

  // Equal keys: the same bytes are accepted. Not for a closed string.
  std::array<uint64_t, 3> key() const;

 private:
  const JsonGrammar::Parts* parts_;
  JsonFrame frame_;
};

// What may follow the text so far: a set of readings, each a stack of frames. There is more than
// one where alternatives begin alike; of more than kMostReadings the first stay, each of which can
// be completed. From every accepted text a complete one can be reached.
class JsonMatcher {
 public:
  explicit JsonMatcher(std::shared_ptr<const JsonGrammar> grammar);

  bool accept(uint8_t byte);  // false: not allowed; nothing has changed then
  // The same into another matcher, whose memory serves again; false leaves nothing useful there.
  bool advance(uint8_t byte, JsonMatcher& next) const;
  bool complete() const;  // the text so far is a whole value
  bool must_end() const;  // and no byte may follow

  size_t num_readings() const { return readings_.size(); }
  JsonMatcher reading(size_t index) const;
  std::optional<JsonString> string() const;  // the string that the only reading is in
  void close_string(uint32_t meaning);       // as if it had ended with that meaning

 private:
  using Stack = std::vector<JsonFrame>;

  std::shared_ptr<const JsonGrammar> grammar_;
  std::vector<Stack> readings_;
};

}  // namespace adze::text
