#include "core/json.h"

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

}  // namespace
}  // namespace adze::core
