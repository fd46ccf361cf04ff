#include "text/stream.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"

namespace adze::text {
namespace {

const std::string lost = "\xEF\xBF\xBD";

std::string push_in_pieces(const std::string& bytes, uint64_t seed) {
  core::Rng rng(seed);
  Utf8Stream stream;
  std::string text;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t length = 1 + rng.next_uint64() % 5;
    text += stream.push(std::string_view(bytes).substr(begin, length));
    begin += length;
  }
  return text + stream.finish();
}

TEST(Utf8Stream, HoldsBackWhatIsIncomplete) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xE2"), "a");
  EXPECT_EQ(stream.push("\x82"), "");
  EXPECT_EQ(stream.push("\xAC!"), "\xE2\x82\xAC!");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8Stream, WhatNeverCompletesIsOneReplacement) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("\xF0\x9F\x98"), "");
  EXPECT_EQ(stream.finish(), lost);
  EXPECT_EQ(stream.push("b"), "b");  // ready for the next text
}

// The Unicode standard's own examples (section 3.9, tables 3-8 to 3-11).
TEST(Utf8Stream, OneReplacementForEachMaximalSubpart) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
       lost + lost + lost + lost + lost + lost + lost + lost + "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41",
       lost + lost + lost + lost + lost + lost + lost + lost + "A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42",
       lost + lost + lost + lost + lost + "A" + lost + lost + "B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", lost + lost + lost + lost + "A"},
  };
  for (const auto& [bytes, expected] : cases) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      EXPECT_EQ(push_in_pieces(bytes, seed), expected);
    }
  }
}

TEST(Utf8Stream, CutsNeverMatter) {
  core::Rng rng(3);
  for (int round = 0; round < 200; ++round) {
    std::string bytes;
    for (int index = 0; index < 40; ++index) {
      // Few values, so that sequences form.
      constexpr std::string_view kBytes = "a\x80\xBF\xC3\xE2\x82\xAC\xF0\x9F\x98\xED\xF4";
      bytes += kBytes[rng.next_uint64() % kBytes.size()];
    }
    EXPECT_EQ(push_in_pieces(bytes, 1), push_in_pieces(bytes, 2));
    Utf8Stream whole;
    const std::string text = whole.push(bytes);
    EXPECT_EQ(text + whole.finish(), push_in_pieces(bytes, 1));
  }
}

TEST(StopMatcher, HoldsBackThenStops) {
  StopMatcher matcher({"STOP"});
  EXPECT_EQ(matcher.push("one S"), "one ");
  EXPECT_EQ(matcher.push("TO"), "");
  EXPECT_FALSE(matcher.stopped());
  EXPECT_EQ(matcher.push("P two"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, GivesOutWhatDidNotBecomeAStop) {
  StopMatcher matcher({"STOP"});
  EXPECT_EQ(matcher.push("STO"), "");
  EXPECT_EQ(matcher.push("RY"), "STORY");
  EXPECT_EQ(matcher.push("ST"), "");
  EXPECT_EQ(matcher.finish(), "ST");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, OverlappingBeginnings) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.push("aaa"), "a");
  EXPECT_EQ(matcher.push("b"), "");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcher, TheFirstToEndWinsThenTheLongest) {
  StopMatcher first({"bcdef", "cd"});
  EXPECT_EQ(first.push("abcdef"), "ab");
  StopMatcher longest({"c", "abc", "bc"});
  EXPECT_EQ(longest.push("xabc"), "x");
}

TEST(StopMatcher, NoStopsPassEverything) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("text"), "text");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, CopiesMatchApart) {
  const StopMatcher first({"abc"});
  StopMatcher one = first;
  StopMatcher other = first;
  EXPECT_EQ(one.push("ab"), "");
  EXPECT_EQ(other.push("xab"), "x");
  EXPECT_EQ(one.push("c"), "");
  EXPECT_TRUE(one.stopped());
  EXPECT_FALSE(other.stopped());
}

TEST(StopMatcher, EmptyStopIsRefused) {
  EXPECT_THROW(StopMatcher({"a", ""}), core::InvalidOption);
}

// The specification, slow: the first end of any stop, the longest there.
std::string text_before_stop(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 0; end <= text.size(); ++end) {
    size_t found = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) {
        found = std::max(found, stop.size());
      }
    }
    if (found > 0) {
      return text.substr(0, end - found);
    }
  }
  return text;
}

TEST(StopMatcher, EqualsTheSlowSearchHoweverCut) {
  core::Rng rng(5);
  const auto word = [&](size_t length) {
    std::string letters;
    while (letters.size() < length) {
      letters += static_cast<char>('a' + rng.next_uint64() % 2);
    }
    return letters;
  };
  for (int round = 0; round < 500; ++round) {
    const std::vector<std::string> stops{word(2 + rng.next_uint64() % 6), word(5), word(7)};
    const std::string text = word(30);
    StopMatcher matcher(stops);
    std::string shown;
    for (size_t begin = 0; begin < text.size(); begin += 3) {
      shown += matcher.push(std::string_view(text).substr(begin, 3));
      EXPECT_TRUE(text_before_stop(text, stops).starts_with(shown));
    }
    EXPECT_EQ(shown + matcher.finish(), text_before_stop(text, stops));
  }
}

TEST(StopMatcher, RepetitiveTextStaysFast) {
  StopMatcher matcher({std::string(100'000, 'a') + "b"});
  size_t shown = 0;
  for (int index = 0; index < 1'000; ++index) {
    shown += matcher.push(std::string(300, 'a')).size();
  }
  EXPECT_EQ(shown, 200'000U);
}

}  // namespace
}  // namespace adze::text
