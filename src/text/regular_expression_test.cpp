#include "text/regular_expression.h"

#include <chrono>

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::text {
namespace {

using Matches = std::vector<std::string>;

Matches matches_of(std::string_view expression, std::string_view text) {
  RegularExpression::Workspace workspace;
  workspace.begin(text.size());
  Matches matches;
  for_each_match(RegularExpression(expression), text, workspace, [&](size_t begin, size_t end) {
    matches.emplace_back(text.substr(begin, end - begin));
  });
  return matches;
}

// What Oniguruma with Ruby's syntax and PCRE2 read differently.
TEST(RegularExpression, ReadsTheDialectOfTokenizerFiles) {
  EXPECT_EQ(matches_of(R"(\h+)", "xAF0 g9"), (Matches{"AF0", "9"}));  // hexadecimal digits
  EXPECT_EQ(matches_of("^a", "a\nab\n"), (Matches{"a", "a"}));        // every line
  EXPECT_EQ(matches_of("b$", "ab\nb"), (Matches{"b", "b"}));
  EXPECT_EQ(matches_of("(?m:a.b)", "a\nb"), Matches{"a\nb"});  // m: . matches all
  EXPECT_EQ(matches_of("a{2}+", "aaaaa"), Matches{"aaaa"});    // no possessive interval
  EXPECT_EQ(matches_of("a{,2}b", "aaab"), Matches{"aab"});
  EXPECT_EQ(matches_of("a{x}", "a{x}"), Matches{"a{x}"});
  EXPECT_EQ(matches_of("[a[bc]]+", "abcd"), Matches{"abc"});  // a class within a class
  EXPECT_EQ(matches_of(R"([^\S\n]+)", "a \t\nb"), Matches{" \t"});
  EXPECT_EQ(matches_of(R"([\W1]+)", "a1!b"), Matches{"1!"});
  EXPECT_EQ(matches_of(R"(\s)", "\u180e\u0085"), Matches{"\u0085"});
  EXPECT_EQ(matches_of(R"(\w+)", "\u00e9\u0301x \u0663"), (Matches{"\u00e9\u0301x", "\u0663"}));
  EXPECT_EQ(matches_of(R"(\b\d)", "1a 2"), (Matches{"1", "2"}));
  EXPECT_EQ(matches_of(R"(\u00e9|\x{e8}|\v)", "\u00e9\u00e8\x0b"),
            (Matches{"\u00e9", "\u00e8", "\x0b"}));
  EXPECT_EQ(matches_of(R"(\p{^L}+)", "a1!b"), Matches{"1!"});
  EXPECT_EQ(matches_of("[[:upper:][:digit:]]+", "aB1c"), Matches{"B1"});
}

TEST(RegularExpression, EmptyMatchesDoNotFollowAMatch) {
  EXPECT_EQ(matches_of("a*", "baac"), (Matches{"", "aa", ""}));
  EXPECT_EQ(matches_of("(?=b)", "abb"), (Matches{"", ""}));
  EXPECT_EQ(matches_of("", ""), Matches{""});
}

TEST(RegularExpression, RefusesByName) {
  for (const char* expression : {"(",
                                 "a)",
                                 "[a",
                                 "[a&&b]",
                                 "[a[^b]]",
                                 R"(\1)",
                                 R"(\k<a>)",
                                 "(*FAIL)",
                                 R"(\K)",
                                 R"(\y)",
                                 "a(?i)b|c",
                                 R"(\p{)",
                                 R"(\p{Nonsense})",
                                 R"(\x{110000})",
                                 R"(\xff)",
                                 "(?~a)",
                                 R"(\)",
                                 "[[:nonsense:]]",
                                 "(?<=a+)b",
                                 "\xff"}) {
    try {
      const RegularExpression compiled(expression);
      ADD_FAILURE() << expression << " was accepted";
    } catch (const core::Error& error) {
      EXPECT_EQ(std::string(error.what()).find("[tokenizer] expression"), 0U) << error.what();
    }
  }
  EXPECT_THROW(RegularExpression(std::string(70'000, 'a')), core::Error);
  EXPECT_THROW(RegularExpression(std::string(1'000, '(') + std::string(1'000, ')')), core::Error);
}

TEST(RegularExpression, HostileOnesEndInAnError) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(matches_of("(a+)+$", std::string(64, 'a') + "b"), core::Error);
  EXPECT_THROW(matches_of("(?:a|a|ab)+[cd]", std::string(200, 'a')), core::Error);
  EXPECT_THROW(matches_of(".(?=x*[yz])", std::string(300'000, 'x')),
               core::Error);  // quadratic
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

TEST(RegularExpression, LooksBeyondOneWindow) {
  const std::string text = std::string(20'000, ' ') + "\u00e9x";
  EXPECT_EQ(matches_of("x", text), Matches{"x"});
  EXPECT_EQ(matches_of(R"(\p{L})", text), (Matches{"\u00e9", "x"}));
}

TEST(RegularExpression, EscapedTextMatchesItself) {
  const std::string text = "a.b*[c] (d) {2}|^$\\ #\u2581";
  EXPECT_EQ(matches_of(escaped_expression(text), text), Matches{text});
}

}  // namespace
}  // namespace adze::text
