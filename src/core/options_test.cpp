#include "core/options.h"

#include <limits>

#include <gtest/gtest.h>

#include "core/command.h"
#include "core/error.h"

namespace adze::core {
namespace {

enum class Colour { kRed };

struct Inner {
  double rate = 0.5;
  std::optional<int64_t> limit;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("rate", self.rate, "a rate");
    visit("limit", self.limit, "a limit");
  }
};

struct Outer {
  bool enabled = false;
  int64_t count = 3;
  uint64_t seed = 7;
  std::string name = "default";
  std::vector<std::string> words;
  Inner inner;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("enabled", self.enabled, "a switch");
    visit("count", self.count, "a count");
    visit("seed", self.seed, "a seed");
    visit("name", self.name, "a name");
    visit("words", self.words, "a list");
    visit("", self.inner, "");
  }
};

struct Forgetful {
  int64_t visited = 0;
  int64_t forgotten = 0;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("visited", self.visited, "");
  }
};

TEST(FieldCount, CountsMembersOfEveryKind) {
  struct Empty {};
  struct One {
    int64_t a;
  };
  struct Many {
    bool a;
    std::string b;
    std::vector<double> c;
    std::optional<std::string> d;
    Colour e;
    Inner f;
    double g = 3;
  };
  static_assert(field_count<Empty>() == 0);
  static_assert(field_count<One>() == 1);
  static_assert(field_count<Many>() == 7);
  static_assert(field_count<Inner>() == 2);
  static_assert(field_count<Outer>() == 6);
}

TEST(FieldCount, ShowsAForgottenMember) {
  EXPECT_EQ(visited_field_count<Outer>(), field_count<Outer>());
  EXPECT_EQ(visited_field_count<Inner>(), field_count<Inner>());
  EXPECT_EQ(visited_field_count<CommonOptions>(), field_count<CommonOptions>());
  EXPECT_NE(visited_field_count<Forgetful>(), field_count<Forgetful>());
}

TEST(Options, NestedFieldsAreListedInLine) {
  Outer options;
  const auto list = list_options(options);
  std::vector<std::string> names;
  for (const Option& option : list) {
    names.push_back(option.name);
  }
  EXPECT_EQ(
      names,
      (std::vector<std::string>{"enabled", "count", "seed", "name", "words", "rate", "limit"}));
}

TEST(Options, JsonRoundTrip) {
  Outer options;
  options.seed = std::numeric_limits<uint64_t>::max();
  options.words = {"a", "b"};
  options.inner.limit = -4;
  const nlohmann::json values = options_to_json(list_options(options));
  EXPECT_EQ(values["rate"], 0.5);
  Outer copy;
  options_from_json(list_options(copy), nlohmann::json::parse(values.dump()));
  EXPECT_EQ(options_to_json(list_options(copy)), values);
  EXPECT_EQ(copy.seed, options.seed);
  options_from_json(list_options(copy), {{"limit", nullptr}});
  EXPECT_FALSE(copy.inner.limit.has_value());
}

TEST(Options, JsonOfAWrongTypeIsRefused) {
  const std::vector<nlohmann::json> wrong = {{{"enabled", 1}},
                                             {{"count", 1.5}},
                                             {{"count", "1"}},
                                             {{"seed", -1}},
                                             {{"name", 3}},
                                             {{"words", "a"}},
                                             {{"words", {1, 2}}},
                                             {{"rate", "x"}},
                                             {{"limit", 1.5}},
                                             {{"count", nullptr}},
                                             nlohmann::json::array(),
                                             3};
  for (const nlohmann::json& values : wrong) {
    Outer options;
    EXPECT_THROW(options_from_json(list_options(options), values), InvalidOption) << values;
  }
}

TEST(Options, JsonIntegersOutsideTheTypeAreRefused) {
  Outer options;
  EXPECT_THROW(
      options_from_json(list_options(options), {{"count", std::numeric_limits<uint64_t>::max()}}),
      InvalidOption);
}

TEST(Options, UnknownJsonKeyNamesTheNearest) {
  Outer options;
  try {
    options_from_json(list_options(options), {{"cuont", 1}});
    FAIL();
  } catch (const UsageError& failure) {
    EXPECT_NE(std::string(failure.what()).find("did you mean count?"), std::string::npos);
  }
}

TEST(NearestName, FindsMisspelledAndShortenedNames) {
  const std::vector<std::string> names = {"generate", "tokenize", "detokenize", "chat", "list"};
  EXPECT_EQ(nearest_name("genrate", names), "generate");
  EXPECT_EQ(nearest_name("gen", names), "generate");
  EXPECT_EQ(nearest_name("tokenise", names), "tokenize");
  EXPECT_EQ(nearest_name("detokenise", names), "detokenize");
  EXPECT_EQ(nearest_name("caht", names), "chat");
  EXPECT_EQ(nearest_name("lsit", names), "list");
  EXPECT_EQ(nearest_name("list", names), "list");
}

TEST(NearestName, GivesNothingWhereNothingIsNear) {
  const std::vector<std::string> names = {"generate", "chat"};
  EXPECT_EQ(nearest_name("quaternion", names), "");
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name("chat", {}), "");
}

}  // namespace
}  // namespace adze::core
