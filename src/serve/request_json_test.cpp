#include "serve/request_json.h"

#include <chrono>

#include <gtest/gtest.h>

#include "serve/api_error.h"

namespace adze::serve {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

std::string repeated(std::string_view text, size_t count) {
  std::string result;
  for (size_t i = 0; i < count; ++i) {
    result += text;
  }
  return result;
}

std::string message_of(std::string_view text, const JsonLimits& limits = {}) {
  try {
    parse_json(text, "body", limits);
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 400);
    return error.what();
  }
  return "accepted";
}

TEST(RequestJson, GivesTheTreeInOrder) {
  const std::string text = R"({"b":[1,-2,2.5,"x",null],"a":{"d":true,"c":{}},"":[]})";
  EXPECT_EQ(parse_json(text, "body").dump(), text);
  EXPECT_EQ(parse_json(" 5 ", "body"), 5);
}

TEST(RequestJson, NamesThePlaceOfAFault) {
  EXPECT_EQ(message_of("{\"a\": b}"), "[body] expected JSON, got a fault at byte 7");
  EXPECT_EQ(message_of("[1e999]"), "[body] expected numbers that fit a double, got a larger one");
  EXPECT_EQ(message_of(R"({"a":1,"b":2,"a":3})"),
            "[body] expected each field once, got \"a\" twice");
  for (const char* text : {"", "{", "[1,]", "nul", "1 2", "\"\xff\"", "{'a':1}"}) {
    EXPECT_TRUE(message_of(text).starts_with("[body] expected JSON")) << text;
  }
}

TEST(RequestJson, LimitsDepthMembersAndMemory) {
  const auto nested = [](size_t depth) { return repeated("[", depth) + repeated("]", depth); };
  EXPECT_EQ(message_of(nested(128)), "accepted");
  EXPECT_EQ(message_of(nested(129)), "[body] expected JSON nested at most 128 deep");
  EXPECT_EQ(message_of(nested(4'000'000)), "[body] expected JSON nested at most 128 deep");
  EXPECT_EQ(message_of(nested(65), kInnerJson), "[body] expected JSON nested at most 64 deep");
  std::string members;
  for (int i = 0; i <= 4096; ++i) {
    members += (i == 0 ? "{\"" : ",\"") + std::to_string(i) + "\":0";
  }
  EXPECT_EQ(message_of(members + "}"), "[body] expected at most 4096 fields an object, got more");
  // 12 MB of text would become 340 MB of values.
  EXPECT_TRUE(message_of("[{}" + repeated(",{}", 4'000'000) + "]")
                  .starts_with("[body] expected values that fit"));
}

TEST(RequestJson, TakesTimeInProportionToTheText) {
  const auto begin = steady_clock::now();
  EXPECT_EQ(parse_json("[{}" + repeated(",{\"a\":{}}", 100'000) + "]", "body").size(), 100'001);
  EXPECT_EQ(message_of("[0" + repeated(",0", 1'000'000) + "]"), "accepted");
  EXPECT_LT(steady_clock::now() - begin, seconds(5));  // 0.1 s alone
}

TEST(RequestJson, ShowsTheFrontOfAValue) {
  EXPECT_EQ(shown(Json("x")), "\"x\"");
  EXPECT_EQ(shown(Json(-1.5)), "-1.5");
  EXPECT_EQ(shown(Json::array({1})), "a list");
  EXPECT_EQ(shown(Json(std::string(1 << 20, 'x'))), "\"" + std::string(79, 'x') + "...");
  EXPECT_EQ(shown(Json(repeated("\xc3\xa9", 60))), "\"" + repeated("\xc3\xa9", 39) + "...");
}

}  // namespace
}  // namespace adze::serve
