#include "core/command.h"

#include <array>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"

namespace adze::core {
namespace {

struct SampleOptions {
  double temperature = 0.8;
  int64_t max_tokens = 128;
  uint64_t seed = 0;
  std::string text;
  std::optional<std::string> file;
  std::optional<int64_t> logprobs;
  std::vector<int64_t> ids;
  std::vector<std::string> stop;
  CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("temperature", self.temperature, "softmax temperature");
    visit("max-tokens", self.max_tokens, "tokens at most");
    visit("seed", self.seed, "same seed, same text");
    visit("text", self.text, "the text");
    visit("file", self.file, "a file");
    visit("logprobs", self.logprobs, "how many");
    visit("ids", self.ids, "token ids");
    visit("stop", self.stop, "stop strings");
    visit("", self.common, "");
  }
};

struct Parsed {
  SampleOptions options;
  std::string positional;
  bool run = false;
};

Parsed parse(const std::vector<std::string>& arguments, bool with_positional = false) {
  Parsed parsed;
  CommandLine line{.name = "sample",
                   .summary = "Summary.",
                   .options = list_options(parsed.options),
                   .positionals = {}};
  if (with_positional) {
    line.positionals = {{"MODEL", &parsed.positional, "a model"}};
  }
  parsed.run = parse_command_line(line, arguments);
  return parsed;
}

// The message of the UsageError that the arguments cause.
std::string refusal(const std::vector<std::string>& arguments, bool with_positional = false) {
  try {
    parse(arguments, with_positional);
  } catch (const UsageError& failure) {
    return failure.what();
  }
  ADD_FAILURE() << "accepted";
  return "";
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
}

TEST(CommandLine, ReadsEveryType) {
  const auto parsed = parse({"--temperature",
                             "0.25",
                             "--max-tokens=7",
                             "--seed",
                             "18446744073709551615",
                             "--text",
                             "a b",
                             "--file",
                             "f",
                             "--logprobs",
                             "3",
                             "--ids",
                             "1",
                             "2",
                             "3",
                             "--stop",
                             "x",
                             "--json",
                             "--threads=2"});
  EXPECT_TRUE(parsed.run);
  EXPECT_EQ(parsed.options.temperature, 0.25);
  EXPECT_EQ(parsed.options.max_tokens, 7);
  EXPECT_EQ(parsed.options.seed, 18446744073709551615U);
  EXPECT_EQ(parsed.options.text, "a b");
  EXPECT_EQ(parsed.options.file, "f");
  EXPECT_EQ(parsed.options.logprobs, 3);
  EXPECT_EQ(parsed.options.ids, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(parsed.options.stop, std::vector<std::string>{"x"});
  EXPECT_TRUE(parsed.options.common.json);
  EXPECT_EQ(parsed.options.common.threads, 2);
}

TEST(CommandLine, KeepsDefaults) {
  const auto parsed = parse({});
  EXPECT_EQ(parsed.options.temperature, 0.8);
  EXPECT_FALSE(parsed.options.file.has_value());
}

TEST(CommandLine, TakesTextThatLooksLikeAFlag) {
  EXPECT_EQ(parse({"--text", "--verbose"}).options.text, "--verbose");
  EXPECT_EQ(parse({"--text", "-5 degrees"}).options.text, "-5 degrees");
  EXPECT_EQ(parse({"--text=--help"}).options.text, "--help");
  EXPECT_EQ(parse({"--text", "--help"}).options.text, "--help");
  EXPECT_EQ(parse({"--text", "-h"}).options.text, "-h");
  EXPECT_EQ(parse({"--text", "--config"}).options.text, "--config");
  EXPECT_EQ(parse({"--text", ""}).options.text, "");
  EXPECT_EQ(parse({"--text", "[1,2]"}).options.text, "[1,2]");
  EXPECT_EQ(parse({"--text", "\"quoted\""}).options.text, "\"quoted\"");
  EXPECT_EQ(parse({"--text", "'quoted'"}).options.text, "'quoted'");
  EXPECT_EQ(parse({"--stop", "a,b"}).options.stop, std::vector<std::string>{"a,b"});
  EXPECT_EQ(parse({"--stop", "[a,b]"}).options.stop, std::vector<std::string>{"[a,b]"});
  EXPECT_EQ(parse({"--stop", "%%"}).options.stop, std::vector<std::string>{"%%"});
  EXPECT_EQ(parse({"--text", "{}"}).options.text, "{}");
}

TEST(CommandLine, TakesNegativeNumbers) {
  EXPECT_EQ(parse({"--max-tokens", "-1"}).options.max_tokens, -1);
  EXPECT_EQ(parse({"--ids", "1", "-2"}).options.ids, (std::vector<int64_t>{1, -2}));
}

TEST(CommandLine, ListsEndAtTheNextFlagAndAddUp) {
  const auto parsed =
      parse({"--stop", "--a", "-b", "--ids", "1", "2", "--stop=c", "--ids=3", "--json"});
  EXPECT_EQ(parsed.options.stop, (std::vector<std::string>{"--a", "-b", "c"}));
  EXPECT_EQ(parsed.options.ids, (std::vector<int64_t>{1, 2, 3}));
}

TEST(CommandLine, ReadsPositionals) {
  EXPECT_EQ(parse({"--ids", "1", "2", "--", "--odd name"}, true).positional, "--odd name");
  EXPECT_EQ(parse({"-"}, true).positional, "-");
  EXPECT_EQ(parse({"m.gguf", "--json"}, true).positional, "m.gguf");
  EXPECT_EQ(parse({"--json", "m.gguf"}, true).positional, "m.gguf");
  expect_contains(refusal({}, true), "MODEL");
  expect_contains(refusal({"a", "b"}, true), "b");
  expect_contains(refusal({"stray"}), "stray");
}

TEST(CommandLine, UnknownFlagNamesTheNearest) {
  expect_contains(refusal({"--temprature", "1"}), "--temperature");
  expect_contains(refusal({"--max_tokens=1"}), "--max-tokens");
  expect_contains(refusal({"--thread", "2"}), "--threads");
  expect_contains(refusal({"-n", "2"}), "-n");
  expect_contains(refusal({"--quaternion"}), "--quaternion");
  expect_contains(refusal({"--jsn"}, true), "--json");  // before the missing MODEL
}

TEST(CommandLine, ValuesOfAWrongTypeNameFlagValueAndType) {
  for (const auto& [flag, value, legal] : std::vector<std::array<std::string, 3>>{
           {"--temperature", "warm", "a number"},
           {"--max-tokens", "1.5", "an integer"},
           {"--max-tokens", "99999999999999999999", "an integer"},
           {"--max-tokens", "", "an integer"},
           {"--seed", "-1", "an integer, at least 0"},
           {"--logprobs", "x", "an integer"},
           {"--ids", "x", "an integer"}}) {
    const std::string message = refusal({flag, value});
    expect_contains(message, flag.substr(2));
    expect_contains(message, legal);
    expect_contains(message, value);
  }
}

TEST(CommandLine, MissingAndRepeatedValuesAreRefused) {
  expect_contains(refusal({"--max-tokens"}), "max-tokens");
  expect_contains(refusal({"--max-tokens", "1", "--max-tokens", "2"}), "max-tokens");
}

TEST(CommandLine, SwitchesCanBeTurnedOff) {
  EXPECT_FALSE(parse({"--no-json"}).options.common.json);
  EXPECT_FALSE(parse({"--json=false"}).options.common.json);
  expect_contains(refusal({"--json=perhaps"}), "json");
}

TEST(CommandLine, HelpShowsFlagsWithDefaultsAndStops) {
  testing::internal::CaptureStdout();
  EXPECT_FALSE(parse({"--max-tokens", "5", "--help"}).run);
  const std::string text = testing::internal::GetCapturedStdout();
  for (const char* part : {"Usage: adze sample",
                           "--temperature N",
                           "(default 0.8)",
                           "(default 128)",
                           "--stop LIST",
                           "--text TEXT",
                           "--config FILE"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

class ConfigFile : public testing::Test {
 protected:
  ConfigFile()
      : path_(std::filesystem::temp_directory_path() / fmt::format("adze-config-{}", ::getpid())) {}
  ~ConfigFile() override { std::filesystem::remove(path_); }

  std::string write(std::string_view text) {
    std::ofstream(path_) << text;
    return path_.string();
  }

  std::filesystem::path path_;
};

TEST_F(ConfigFile, FlagsWinOverTheFile) {
  const std::string path = write(R"({"max-tokens": 9, "seed": 4, "ids": [5, 6]})");
  const auto parsed = parse({"--seed", "8", "--config", path, "--ids", "1"});
  EXPECT_EQ(parsed.options.max_tokens, 9);
  EXPECT_EQ(parsed.options.seed, 8U);
  EXPECT_EQ(parsed.options.ids, std::vector<int64_t>{1});
  EXPECT_EQ(parse({"--config=" + path}).options.seed, 4U);
}

TEST_F(ConfigFile, DumpedFlagsAreAConfig) {
  testing::internal::CaptureStdout();
  EXPECT_FALSE(parse({"--max-tokens", "5", "--stop", "a", "--dump-config"}).run);
  const std::string path = write(testing::internal::GetCapturedStdout());
  const auto parsed = parse({"--config", path});
  EXPECT_EQ(parsed.options.max_tokens, 5);
  EXPECT_EQ(parsed.options.stop, std::vector<std::string>{"a"});
}

TEST_F(ConfigFile, DamagedFilesAreRefused) {
  EXPECT_THROW(parse({"--config", "/no/such/file"}), Error);
  EXPECT_THROW(parse({"--config", write("{")}), Error);
  EXPECT_THROW(parse({"--config", write(R"({"sede": 1})")}), UsageError);
  EXPECT_THROW(parse({"--config", write(R"({"seed": "x"})")}), UsageError);
  expect_contains(refusal({"--config"}), "config");
}

TEST(CommonOptions, ValidatesThreads) {
  CommonOptions options;
  EXPECT_NO_THROW(options.validate());
  for (const int64_t threads : {int64_t{-1}, int64_t{1025}}) {
    options.threads = threads;
    EXPECT_THROW(options.validate(), InvalidOption);
  }
}

}  // namespace
}  // namespace adze::core
