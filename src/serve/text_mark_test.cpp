#include "serve/text_mark.h"

#include <vector>

#include <gtest/gtest.h>

namespace adze::serve {
namespace {

std::string repeated(std::string_view text, size_t count) {
  std::string result;
  for (size_t i = 0; i < count; ++i) {
    result += text;
  }
  return result;
}

TEST(TextMark, IsInNoneOfTheTexts) {
  std::string each;  // every noncharacter behind every other one
  for (int first = 0; first < 32; ++first) {
    for (int second = 0; second < 32; ++second) {
      for (const int last : {first, second}) {
        each += "\xEF\xB7";
        each += static_cast<char>(0x90 + last);
      }
    }
  }
  const std::vector<std::string> texts = {"",
                                          "abc",
                                          "\xEF\xB7",
                                          "\xEF\xB7\xBA",  // a character of the same block
                                          std::string(kFirstMark),
                                          repeated(kFirstMark, 100'000),
                                          each,
                                          repeated(each, 100)};
  for (const std::string& text : texts) {
    for (const std::string& other : texts) {
      const std::vector<std::string_view> both = {text, other};
      const std::string mark = absent_mark(both);
      EXPECT_EQ(text.find(mark), std::string::npos);
      EXPECT_EQ(other.find(mark), std::string::npos);
      EXPECT_TRUE(is_mark(mark));
      EXPECT_LE(mark.size(), 9U);
      EXPECT_EQ(mark, absent_mark(both));
    }
  }
  EXPECT_EQ(absent_mark({}), kFirstMark);
  EXPECT_EQ(absent_mark(std::vector<std::string_view>{kFirstMark}), "\xEF\xB7\x91");
}

TEST(TextMark, StrangersBringNoOther) {
  for (const std::string& mark : {std::string(),
                                  std::string("a"),
                                  std::string("\xEF\xB7"),
                                  std::string("\xEF\xB7\xBA"),
                                  std::string(kFirstMark) + "a",
                                  repeated(kFirstMark, 9)}) {
    EXPECT_FALSE(is_mark(mark));
  }
  EXPECT_TRUE(is_mark(repeated(kFirstMark, 2)));
}

}  // namespace
}  // namespace adze::serve
