#include "core/json.h"

#include <chrono>
#include <string>

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::core {
namespace {

TEST(ParseJson, GivesTheTree) {
  const auto tree = parse_json(R"({"a": [1, 2.5, "x"], "b": {"c": null}})", "f.json");
  EXPECT_EQ(tree["a"][2], "x");
  EXPECT_EQ(tree["a"][1], 2.5);
  EXPECT_TRUE(tree["b"]["c"].is_null());
}

TEST(ParseJson, NamesTheFileOfBadText) {
  for (const char* text : {"", "{", "[1,]", "{\"a\" 1}", "nul", "1 2", "\"\xff\""}) {
    try {
      parse_json(text, "f.json");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("f.json"), std::string::npos) << error.what();
    }
  }
}

TEST(ParseJson, RefusesDeepNesting) {
  EXPECT_NO_THROW(parse_json(std::string(60, '[') + std::string(60, ']'), "f"));
  EXPECT_THROW(parse_json(std::string(66, '[') + std::string(66, ']'), "f"), Error);
  EXPECT_THROW(parse_json(std::string(1 << 20, '['), "f"), Error);
}

TEST(ParseJson, RefusesValuesThatWouldTakeTooMuchMemory) {
  std::string text = "[";
  for (int i = 0; i < 3'000'000; ++i) {
    text += "0,";
  }
  text += "0]";
  EXPECT_THROW(parse_json(text, "f"), Error);  // 6 MB of text would become 96 MB of values
}

TEST(ParseJson, TakesTimeInProportionToTheText) {
  std::string text = "[0";
  for (int i = 0; i < 100'000; ++i) {
    text += ",{\"a\":{}}";
  }
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(parse_json(text + "]", "f").size(), 100'001);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));  // 0.05 s alone
}

TEST(ParseJson, OfEqualKeysTheLastStays) {
  EXPECT_EQ(parse_json(R"({"a": 1, "a": {"b": []}})", "f").dump(), R"({"a":{"b":[]}})");
  EXPECT_EQ(parse_json(R"([[1, -2, [true, false]], "x", {}])", "f").dump(),
            R"([[1,-2,[true,false]],"x",{}])");
}

std::string message_of(const std::string& text) {
  try {
    parse_json(text, "f.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ParseJson, MessagesHoldNothingOfTheText) {
  EXPECT_EQ(message_of("{\"a\": \x1b[2J\nb}"),
            "[json] f.json: expected JSON, got a fault at byte 7");
  EXPECT_EQ(message_of("[\"\xff\"]"), "[json] f.json: expected JSON, got a fault at byte 3");
  EXPECT_EQ(message_of("[1e999]"),
            "[json] f.json: expected numbers that fit a double, got a larger one");
}

TEST(ParseJson, RefusesLongRuns) {
  constexpr size_t kMebibyte = 1 << 20;
  const std::string most(kMebibyte - 8, 'x');
  EXPECT_EQ(message_of("[\"" + most + "\",\"" + most + "\"]"), "accepted");
  EXPECT_EQ(message_of("[1," + std::string(kMebibyte - 8, '\n') + "1]"), "accepted");
  EXPECT_EQ(message_of("[\"\\\"" + most + "\"]"), "accepted");
  const std::string more(kMebibyte + 8, 'x');
  constexpr std::string_view kExpected = "[json] f.json: expected at most 1048576 bytes a value";
  EXPECT_TRUE(message_of("[\"" + more + "\"]").starts_with(kExpected));
  EXPECT_TRUE(message_of("[\"\\\"" + more + "\"]").starts_with(kExpected));
  EXPECT_TRUE(message_of("[1" + std::string(kMebibyte + 8, '\n') + "]").starts_with(kExpected));
  EXPECT_TRUE(message_of("[" + std::string(kMebibyte + 8, '1') + "]").starts_with(kExpected));
  EXPECT_TRUE(message_of(std::string(kMebibyte + 8, '[')).starts_with(kExpected));
}

}  // namespace
}  // namespace adze::core
