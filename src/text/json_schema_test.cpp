#include "text/json_schema.h"

#include <chrono>
#include <regex>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "text/string_automaton.h"
#include "text/utf8.h"

namespace adze::text {
namespace {

using Json = nlohmann::ordered_json;

bool accepts(const std::shared_ptr<const JsonGrammar>& grammar, std::string_view text) {
  JsonMatcher matcher(grammar);
  for (const char byte : text) {
    if (!matcher.accept(static_cast<uint8_t>(byte))) {
      return false;
    }
  }
  return matcher.complete();
}

std::shared_ptr<const JsonGrammar> grammar(std::string_view schema) {
  return JsonGrammar::from_schema(Json::parse(schema));
}

bool accepts(std::string_view schema, std::string_view text) {
  return accepts(grammar(schema), text);
}

// The message of the error that the schema gives; empty: none.
std::string refusal_of(const Json& schema) {
  try {
    JsonGrammar::from_schema(schema);
    return "";
  } catch (const core::Error& failure) {
    return failure.what();
  }
}
std::string refusal(std::string_view schema) {
  return refusal_of(Json::parse(schema));
}

std::string repeated(std::string_view text, size_t times) {
  std::string result;
  for (size_t i = 0; i < times; ++i) {
    result += text;
  }
  return result;
}

TEST(JsonSchema, AnyObjectIsAnyObject) {
  const auto any = JsonGrammar::any_object();
  for (const char* text :
       {"{}",
        R"({"a": 1})",
        R"({"a":[1,-2.5e3,true,false,null,"x\n\u00e9\ud83d\ude00é😀"],"":{"b":{}}})",
        "{\n  \"a\": [\n    1,\n    2\n  ]\n}"}) {
    EXPECT_TRUE(accepts(any, text)) << text;
  }
  for (const char* text : {"",
                           "[]",
                           "1",
                           "{",
                           " {}",
                           "{} ",
                           "{  }",
                           R"({"a":1,})",
                           R"({"a" :1})",
                           R"({"a":01})",
                           R"({"a":1.})",
                           R"({"a":+1})",
                           R"({a:1})",
                           "{\"a\":\"\n\"}",
                           R"({"a":"\x"})",
                           R"({"a":"\ud83d"})",
                           R"({"a":"\ud83d\u0041"})",
                           R"({"a":"\ude00"})",
                           "{\"a\":\"\xC0\x80\"}",
                           "{\"a\":\"\xED\xA0\x80\"}",
                           "{\"a\":\"\xF4\x90\x80\x80\"}",
                           "{\"a\":\"\xC3\"}"}) {
    EXPECT_FALSE(accepts(any, text)) << text;
  }
}

TEST(JsonSchema, ReadsPropertiesInOrderAndOthersBehind) {
  constexpr std::string_view kSchema = R"({"type":"object","properties":{
    "name":{"type":"string"},"age":{"type":"integer"},"tags":{"type":"array","items":{"type":"string"}}},
    "required":["name","tags"],"additionalProperties":{"type":"boolean"}})";
  EXPECT_TRUE(accepts(kSchema, R"({"name":"a","age":1,"tags":[]})"));
  EXPECT_TRUE(
      accepts(kSchema, R"({"name":"a","tags":["x","y"],"more":true,"nam":false,"names":true})"));
  EXPECT_TRUE(accepts(kSchema, R"({"n\u0061me":"a","tags":[]})"));
  EXPECT_FALSE(accepts(kSchema, R"({"name":"a"})"));
  EXPECT_FALSE(accepts(kSchema, R"({"tags":[],"name":"a"})"));
  EXPECT_FALSE(
      accepts(kSchema, R"({"name":"a","tags":[],"age":true})"));  // no way around its schema
  EXPECT_FALSE(accepts(kSchema, R"({"name":"a","tags":[],"\u0061ge":true})"));
  EXPECT_FALSE(accepts(kSchema, R"({"name":"a","tags":[],"more":1})"));
  EXPECT_FALSE(accepts(kSchema, R"({"more":true,"name":"a","tags":[]})"));
  constexpr std::string_view kStrict = R"({"type":"object","properties":{"a":{"type":"null"}},
    "required":["a"],"additionalProperties":false})";
  EXPECT_TRUE(accepts(kStrict, R"({"a":null})"));
  EXPECT_FALSE(accepts(kStrict, R"({})"));
  EXPECT_FALSE(accepts(kStrict, R"({"a":null,"b":null})"));
  EXPECT_TRUE(accepts(R"({"type":"object"})", R"({"x":[{}]})"));
  EXPECT_TRUE(accepts(R"({"type":"object","required":["x"]})", R"({"x":1})"));
  EXPECT_FALSE(accepts(R"({"type":"object","required":["x"]})", R"({"y":1})"));
}

TEST(JsonSchema, ReadsLists) {
  constexpr std::string_view kSchema =
      R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})";
  EXPECT_FALSE(accepts(kSchema, "[]"));
  EXPECT_TRUE(accepts(kSchema, "[1]"));
  EXPECT_TRUE(accepts(kSchema, "[1, 2,\n    3\n]"));
  EXPECT_FALSE(accepts(kSchema, "[1,2,3,4]"));
  EXPECT_FALSE(accepts(kSchema, "[1 ,2]"));
  constexpr std::string_view kTuple =
      R"({"type":"array","prefixItems":[{"type":"null"},{"type":"boolean"}],"items":false,"minItems":1})";
  EXPECT_TRUE(accepts(kTuple, "[null]"));
  EXPECT_TRUE(accepts(kTuple, "[null,true]"));
  EXPECT_FALSE(accepts(kTuple, "[null,true,1]"));
  EXPECT_FALSE(accepts(kTuple, "[true]"));
}

TEST(JsonSchema, ReadsIntegersWithinBounds) {
  core::Rng random(3);
  const auto draw = [&](int64_t spread) {
    return static_cast<int64_t>(random.next_uniform() * static_cast<double>(2 * spread)) - spread;
  };
  for (int round = 0; round < 300; ++round) {
    const int64_t spread = round < 100 ? 12 : round < 200 ? 1500 : 2'000'000;
    int64_t least = draw(spread);
    int64_t most = draw(spread);
    if (least > most) {
      std::swap(least, most);
    }
    const auto bounded =
        JsonGrammar::from_schema({{"type", "integer"}, {"minimum", least}, {"maximum", most}});
    for (int i = 0; i < 40; ++i) {
      const int64_t value = i < 3 ? least + i - 1 : i < 6 ? most + i - 4 : draw(spread);
      EXPECT_EQ(accepts(bounded, std::to_string(value)), value >= least && value <= most)
          << least << " " << value << " " << most;
    }
    EXPECT_FALSE(accepts(bounded, "-0"));
    EXPECT_FALSE(accepts(bounded, "0" + std::to_string(std::abs(least))));
  }
  EXPECT_TRUE(accepts(R"({"type":"integer"})", "-9223372036854775808"));
  EXPECT_TRUE(accepts(R"({"type":"integer"})", "9223372036854775807"));
  EXPECT_FALSE(accepts(R"({"type":"integer"})", "9223372036854775808"));
  EXPECT_FALSE(accepts(R"({"type":"integer"})", "-9223372036854775809"));
  EXPECT_FALSE(accepts(R"({"type":"integer"})", "1.0"));
  EXPECT_TRUE(accepts(R"({"type":"integer","exclusiveMinimum":0})", "1"));
  EXPECT_FALSE(accepts(R"({"type":"integer","exclusiveMinimum":0})", "0"));
  EXPECT_FALSE(accepts(R"({"type":"integer","exclusiveMaximum":1e0})", "1"));
}

TEST(JsonSchema, ReadsNumbersWithinBounds) {
  constexpr std::string_view kShare = R"({"type":"number","minimum":0,"maximum":1})";
  for (const char* text : {"0", "1", "0.5", "1.0", "1.000000", "0.000001"}) {
    EXPECT_TRUE(accepts(kShare, text)) << text;
  }
  for (const char* text : {"-0.5", "1.1", "2", "1.000001", "0.", "00", "1e0", "-0", "0.0000001"}) {
    EXPECT_FALSE(accepts(kShare, text)) << text;
  }
  constexpr std::string_view kOpen =
      R"({"type":"number","exclusiveMinimum":-2.5,"exclusiveMaximum":-0.125})";
  for (const char* text : {"-2.499999", "-2", "-0.2", "-0.125001", "-1.0"}) {
    EXPECT_TRUE(accepts(kOpen, text)) << text;
  }
  for (const char* text : {"-2.5", "-0.125", "0", "-3", "-0.1", "1"}) {
    EXPECT_FALSE(accepts(kOpen, text)) << text;
  }
  for (const char* text : {"0", "-0", "-1.5e-10", "6.02E+23", "1234567890123456"}) {
    EXPECT_TRUE(accepts(R"({"type":"number"})", text)) << text;
  }
  EXPECT_FALSE(accepts(R"({"type":"number"})", "1e999"));
}

TEST(JsonSchema, CountsTheCharactersOfStrings) {
  constexpr std::string_view kSchema = R"({"type":"string","minLength":2,"maxLength":3})";
  EXPECT_FALSE(accepts(kSchema, R"("a")"));
  EXPECT_TRUE(accepts(kSchema, R"("éé")"));
  EXPECT_TRUE(accepts(kSchema, R"("\ud83d\ude00😀\n")"));
  EXPECT_FALSE(accepts(kSchema, R"("abcd")"));
  EXPECT_FALSE(accepts(R"({"type":"string","maxLength":0})", R"("a")"));
  EXPECT_TRUE(accepts(R"({"type":"string","maxLength":0})", R"("")"));
}

TEST(JsonSchema, ReadsConstantsAndAlternatives) {
  EXPECT_TRUE(accepts(R"({"enum":["a","ab",1,12,null,{"k":[1]}]})", R"({"k":[1]})"));
  EXPECT_TRUE(accepts(R"({"enum":["a","ab",1,12,null]})", "12"));
  EXPECT_TRUE(accepts(R"({"enum":["a","ab",1,12,null]})", "1"));
  EXPECT_TRUE(accepts(R"({"type":"array","items":{"enum":[1,12]}})", "[1,12]"));
  EXPECT_FALSE(accepts(R"({"enum":["a","ab",1,12,null]})", "2"));
  EXPECT_TRUE(accepts(R"({"const":"x\"y"})", R"("x\"y")"));
  EXPECT_FALSE(accepts(R"({"type":"string","enum":["a",1]})", "1"));
  constexpr std::string_view kShapes = R"({"anyOf":[
    {"type":"object","properties":{"kind":{"const":"circle"},"r":{"type":"number"}},"required":["kind","r"],"additionalProperties":false},
    {"type":"object","properties":{"kind":{"const":"cube"},"a":{"type":"integer"}},"required":["kind","a"],"additionalProperties":false},
    {"type":"null"}]})";
  EXPECT_TRUE(accepts(kShapes, R"({"kind":"circle","r":1.5})"));
  EXPECT_TRUE(accepts(kShapes, R"({"kind":"cube","a":1})"));
  EXPECT_TRUE(accepts(kShapes, "null"));
  EXPECT_FALSE(accepts(kShapes, R"({"kind":"cube","r":1})"));
  std::string one_of(kShapes);
  one_of.replace(2, 5, "oneOf");
  EXPECT_TRUE(accepts(one_of, R"({"kind":"cube","a":1})"));
  EXPECT_TRUE(accepts(R"({"type":["string","null"]})", "null"));
  EXPECT_TRUE(accepts(R"({"allOf":[{"type":"null"}],"title":"t"})", "null"));
  EXPECT_TRUE(accepts("true", "[1]"));
}

TEST(JsonSchema, FollowsReferences) {
  constexpr std::string_view kTree = R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object",
    "properties":{"value":{"type":"integer"},"left":{"$ref":"#/$defs/node"},"right":{"$ref":"#/$defs/node"}},
    "required":["value"],"additionalProperties":false}}})";
  EXPECT_TRUE(
      accepts(kTree, R"({"value":1,"left":{"value":2,"right":{"value":3}},"right":{"value":4}})"));
  EXPECT_FALSE(accepts(kTree, R"({"value":1,"left":{"right":{"value":3}}})"));
  const std::string most =
      repeated("[", JsonGrammar::kMostDepth) + repeated("]", JsonGrammar::kMostDepth);
  constexpr std::string_view kLists = R"({"type":"array","items":{"$ref":"#"}})";
  EXPECT_TRUE(accepts(kLists, most));
  EXPECT_FALSE(accepts(kLists, "[" + most + "]"));
}

TEST(JsonSchema, ReadsFormats) {
  constexpr std::string_view kTime = R"({"type":"string","format":"date-time"})";
  EXPECT_TRUE(accepts(kTime, R"("2024-12-31T23:59:59.25+01:00")"));
  EXPECT_TRUE(accepts(kTime, R"("2024-01-30T00:00:00Z")"));
  EXPECT_FALSE(accepts(kTime, R"("2024-02-30T00:00:00Z")"));
  EXPECT_FALSE(accepts(kTime, R"("2024-04-31T00:00:00Z")"));
  EXPECT_FALSE(accepts(kTime, R"("2024-01-01")"));
  EXPECT_TRUE(accepts(R"({"type":"string","format":"date"})", R"("2024-11-30")"));
  EXPECT_TRUE(
      accepts(R"({"type":"string","format":"uuid"})", R"("123e4567-e89b-12d3-a456-426614174000")"));
}

TEST(StringAutomaton, AgreesWithAnotherMatcher) {
  core::Rng random(11);
  const auto draw = [&](size_t count) {
    return static_cast<size_t>(random.next_uniform() * static_cast<double>(count));
  };
  const std::vector<std::string> kPieces{
      "a",       "b",     "[ab]", "[^a]",   ".",        "\\d",      "\\w", "(a|b)",
      "(?:ab|)", "(a*b)", "b{2}", "a{1,2}", "(ab){2,}", "a*",       "b+",  "c?",
      "[b-d]",   "\\.",   "^",    "$",      "|",        "(a|b*c)+", "x*?"};
  for (int round = 0; round < 400; ++round) {
    std::string expression;
    for (size_t i = 0; i <= draw(4); ++i) {
      expression += kPieces[draw(kPieces.size())];
    }
    const auto least = static_cast<uint32_t>(draw(3));
    const uint32_t most =
        draw(2) == 0 ? StringAutomaton::kUnlimited : static_cast<uint32_t>(least + draw(4));
    const std::regex reference(expression);
    int64_t work = JsonGrammar::kMostPatternWork;
    std::optional<StringAutomaton> automaton;
    try {
      automaton.emplace(expression, least, most, work);
    } catch (const core::Error&) {  // none matches: so it must be below
    }
    for (int i = 0; i < 200; ++i) {
      std::string text;
      for (size_t length = draw(7); text.size() < length;) {
        text += "aabbcd.1x"[draw(9)];
      }
      uint32_t state = StringAutomaton::kStart;
      for (const char character : text) {
        if (automaton && state != StringAutomaton::kDead) {
          state = automaton->next(state, static_cast<uint8_t>(character));
        }
      }
      const bool accepted =
          automaton && state != StringAutomaton::kDead && automaton->accepts(state);
      const bool expected =
          text.size() >= least && text.size() <= most && std::regex_search(text, reference);
      ASSERT_EQ(accepted, expected)
          << "'" << expression << "' '" << text << "' " << least << " " << most;
    }
  }
}

TEST(StringAutomaton, RefusesWhatItDoesNotSupport) {
  for (const char* expression : {"(?=a)",
                                 "(?!a)",
                                 "(?<=a)",
                                 "(?<n>a)",
                                 "\\1",
                                 "\\b",
                                 "\\p{L}",
                                 "\\k<n>",
                                 "\\cA",
                                 "a**",
                                 "*a",
                                 "{}",
                                 "a{}",
                                 "a{,3}",
                                 "a{2,1}",
                                 "a{1000000000}",
                                 "a{1,1000000000}",
                                 "(",
                                 ")",
                                 "(a",
                                 "[a",
                                 "[]",
                                 "[b-a]",
                                 "[a-\\d]",
                                 "\\",
                                 "\\ud83d",
                                 "\\u{110000}",
                                 "[^\\s\\S]",
                                 "a]",
                                 "}",
                                 "(?",
                                 "\\x1",
                                 "^^a$b",
                                 "[\\b]",
                                 "\xFF",
                                 "a++"}) {
    int64_t work = JsonGrammar::kMostPatternWork;
    EXPECT_THROW(StringAutomaton(expression, 0, StringAutomaton::kUnlimited, work), core::Error)
        << expression;
  }
}

TEST(JsonSchema, NamesThePlaceOfWhatItRefuses) {
  const auto refused = [](std::string_view schema, std::string_view named) {
    const std::string message = refusal(schema);
    EXPECT_NE(message.find(named), std::string::npos) << schema << ": '" << message << "'";
  };
  refused(R"({"properties":{"a":{"type":"strin"}}})", "#/properties/a/type");
  refused(R"({"not":{}})", "#/not");
  refused(R"({"items":{"if":{}}})", "#/items/if");
  refused(R"({"type":"integer","multipleOf":2})", "#/multipleOf");
  refused(R"({"type":"string","format":"email"})", "#/format");
  refused(R"_({"type":"string","pattern":"(?=a)"})_", "#/pattern");
  refused(R"({"type":"string","pattern":1})", "#/pattern");
  refused(R"({"type":"string","pattern":"^a$","minLength":2})", "#/pattern");
  refused(R"({"type":"string","minLength":-1})", "#/minLength");
  refused(R"({"type":"string","minLength":1.5})", "#/minLength");
  refused(R"({"type":"string","minLength":3,"maxLength":2})", "#/maxLength");
  refused(R"({"type":"array","uniqueItems":true})", "#/uniqueItems");
  refused(R"({"type":"array","items":[{}]})", "#/items");
  refused(R"({"type":"array","prefixItems":[{}],"items":false,"minItems":2})", "#/minItems");
  refused(R"({"type":"object","patternProperties":{}})", "#/patternProperties");
  refused(R"({"type":"object","required":["a"],"additionalProperties":false})", "#/required");
  refused(R"({"type":"object","required":"a"})", "#/required");
  refused(R"({"type":"object","properties":{"a":false}})", "#/properties/a");
  refused(R"({"type":"integer","minimum":0.5})", "#/minimum");
  refused(R"({"type":"number","minimum":0.1234567})", "#/minimum");
  refused(R"({"type":"integer","minimum":3,"maximum":2})", "#: expected bounds");
  refused(R"({"type":"integer","minimum":"3"})", "#/minimum");
  refused(R"({"type":"integer","exclusiveMaximum":true})", "#/exclusiveMaximum");
  refused(R"({"type":"integer","minimum":9223372036854775808})", "#/minimum");
  refused(R"({"enum":[]})", "enum");
  refused(R"({"type":"string","enum":[1]})", "enum");
  refused(R"({"enum":["a"],"minLength":1})", "'enum' without 'minLength'");
  refused(R"({"anyOf":[]})", "#/anyOf");
  refused(R"({"anyOf":{}})", "#/anyOf");
  refused(R"({"anyOf":[{"type":"null"}],"type":"string"})", "'anyOf' without 'type'");
  refused(R"({"allOf":[{},{}]})", "#/allOf");
  refused(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "#/oneOf");
  refused(R"({"oneOf":[{"const":1},{"enum":[1.0,2]}]})", "#/oneOf");
  refused(R"({"oneOf":[{"type":"object"},{"type":"object"}]})", "#/oneOf");
  refused(R"({"$ref":"#/nowhere"})", "#/$ref");
  refused(R"({"$ref":"http://x/y"})", "#/$ref");
  refused(R"({"$ref":1})", "#/$ref");
  refused(R"({"type":[]})", "#/type");
  refused(R"({"nullable":true,"type":"string"})", "#/nullable");
  refused(R"({"properties":{"a":{"$id":"x","type":"null"}}})", "#/properties/a/$id");
  refused("false", "#: expected a schema");
  refused("1", "#: expected a schema");
}

TEST(JsonSchema, EndsQuicklyOnHostileSchemas) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_NE(refusal_of(Json{{"type", "string"},
                            {"pattern", repeated("(", 60'000) + repeated(")", 60'000)}}),
            "");
  EXPECT_NE(refusal_of(Json{{"type", "string"}, {"pattern", repeated("(?:", 60'000) + "a"}}), "");
  EXPECT_NE(
      refusal_of(Json{{"type", "string"},
                      {"pattern", "((((((((){1000}){1000}){1000}){1000}){1000}){1000}){1000})"}}),
      "");
  EXPECT_NE(refusal_of(Json{{"type", "string"}, {"pattern", "(a?){1000}a{1000}"}}), "");
  EXPECT_NE(refusal_of(Json{{"type", "string"}, {"pattern", "(a|b)*a(a|b){200}"}}), "");
  EXPECT_NE(refusal_of(Json{{"type", "string"}, {"pattern", "^(a{1000}){1000}$"}}), "");
  EXPECT_NE(refusal_of(Json{{"type", "string"}, {"pattern", "ab"}, {"maxLength", 2'000'000'000}}),
            "");
  EXPECT_NE(refusal(R"({"$ref":"#"})"), "");
  EXPECT_NE(refusal(R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})"), "");
  EXPECT_NE(
      refusal(
          R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"})"),
      "");
  EXPECT_NE(refusal(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})"), "");
  EXPECT_NE(refusal(R"({"type":"array","items":{"$ref":"#"},"minItems":1})"), "");
  EXPECT_NE(refusal(R"({"oneOf":[{"$ref":"#"},{"$ref":"#"}]})"), "");
  Json deep = "x";
  for (int i = 0; i < 100; ++i) {
    deep = Json{{"items", deep}};
  }
  EXPECT_NE(refusal_of(deep), "");
  Json many = Json::array();
  for (int i = 0; i < 30'000; ++i) {
    many.push_back(i);
  }
  EXPECT_NE(refusal_of(Json{{"enum", many}}), "");
  Json alternatives = Json::array();
  for (int i = 0; i < 100; ++i) {
    alternatives.push_back({{"type", "string"}, {"minLength", i}});
  }
  EXPECT_NE(refusal_of(Json{{"anyOf", alternatives}}), "");
  EXPECT_NE(refusal_of(Json{{"oneOf", alternatives}}), "");
  Json patterns = Json::object();
  for (int i = 0; i < 2000; ++i) {
    patterns[std::to_string(i)] = {{"type", "string"},
                                   {"pattern", fmt::format("(a|b)*a(a|b){{9}}x{}", i)}};
  }
  EXPECT_NE(refusal_of(Json{{"properties", patterns}}), "");
  Json chain = Json::object();  // of references, long and sound
  for (int i = 0; i < 6000; ++i) {
    chain[std::to_string(i)] = {{"$ref", fmt::format("#/$defs/{}", i + 1)}};
  }
  chain["6000"] = {{"type", "null"}};
  EXPECT_EQ(refusal_of(Json{{"$defs", chain}, {"$ref", "#/$defs/0"}}), "");
  EXPECT_NE(refusal_of(Json{{"type", "\xFF"}}), "");
  EXPECT_NE(refusal_of(Json{{"const", std::numeric_limits<double>::quiet_NaN()}}), "");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

// Alternatives within alternatives multiply; what is kept stays bounded and can be completed.
TEST(JsonMatcher, KeepsFewReadings) {
  Json schema = {{"type", "null"}};
  for (int i = 0; i < 20; ++i) {
    Json alternatives = Json::array();
    for (int j = 0; j < 3; ++j) {
      alternatives.push_back({{"type", "array"}, {"items", schema}, {"maxItems", j + 1}});
    }
    schema = i < 6 ? Json{{"anyOf", alternatives}} : schema;
  }
  JsonMatcher matcher(JsonGrammar::from_schema(schema));
  for (const char byte : std::string("[[[[[[null]]]]]]")) {
    ASSERT_TRUE(matcher.accept(static_cast<uint8_t>(byte)));
    EXPECT_LE(matcher.num_readings(), JsonGrammar::kMostReadings);
  }
  EXPECT_TRUE(matcher.must_end());
}

TEST(JsonMatcher, ChangesNothingWhereItRefuses) {
  JsonMatcher matcher(
      grammar(R"({"type":"object","properties":{"ab":{"enum":[1,12]}},"required":["ab"]})"));
  for (const char wanted : std::string("{\"a\\u0062\": 12, \"é\":[1.5]}")) {
    for (int byte = 0; byte < 256; ++byte) {
      JsonMatcher other = matcher;
      if (!other.accept(static_cast<uint8_t>(byte))) {
        EXPECT_TRUE(other.accept(static_cast<uint8_t>(wanted))) << byte << " before " << wanted;
      }
    }
    EXPECT_FALSE(matcher.complete());
    ASSERT_TRUE(matcher.accept(static_cast<uint8_t>(wanted)));
  }
  EXPECT_TRUE(matcher.complete());
  EXPECT_TRUE(matcher.must_end());
}

}  // namespace
}  // namespace adze::text
