#include "text/pre_tokenizer.h"

#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/pre_tokenizer_families.h"

namespace adze::text {
namespace {

using Kind = PreTokenizerStep::Kind;
using Pieces = std::vector<std::string>;

PreTokenizer of_family(std::string_view name) {
  return PreTokenizer(pre_tokenizer_family(name).steps);
}

Pieces pieces_of(const PreTokenizer& pre_tokenizer, std::string_view text, bool at_start = true) {
  Pieces pieces;
  const auto workspace = pre_tokenizer.make_workspace();
  PreTokenizer::expressions(*workspace).begin(text.size());
  pre_tokenizer.split(
      text, at_start, *workspace, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

Pieces pieces_of(const PreTokenizerStep& step, std::string_view text) {
  return pieces_of(PreTokenizer({step}), text);
}

// Another library with another regular-expression engine agrees (golden/make_golden.py).
TEST(PreTokenizer, CutsAsTheReference) {
  std::ifstream file("src/text/golden/tokenizer_golden.json");
  ASSERT_TRUE(file);
  const auto golden = nlohmann::json::parse(file);
  size_t compared = 0;
  for (const auto& [name, expected] : golden.items()) {
    if (name == "texts" || name == "ids") {
      continue;
    }
    const PreTokenizer pre_tokenizer = of_family(name);
    for (size_t index = 0; index < expected.size(); ++index) {
      const auto text = golden["texts"][index].get<std::string>();
      EXPECT_EQ(pieces_of(pre_tokenizer, text), expected[index].get<std::vector<std::string>>())
          << name << ": " << golden["texts"][index];
      ++compared;
    }
  }
  EXPECT_GT(compared, 500U);
}

TEST(PreTokenizer, DigitsStandAloneBeforeWordsAreCut) {
  // One expression for all would see the "1" behind the spaces and leave it one of them.
  const std::vector<std::string> expected{"a", "  ", "1", "2"};
  EXPECT_EQ(pieces_of(of_family("smollm"), "a  12"), expected);
}

TEST(PreTokenizer, NoTextNoPieces) {
  EXPECT_TRUE(pieces_of(of_family("llama-bpe"), "").empty());
}

TEST(PreTokenizer, UnknownNameListsTheKnownOnes) {
  try {
    of_family("smolm");
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_NE(std::string(error.what()).find("'smolm'"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("smollm, starcoder"), std::string::npos);
  }
}

TEST(PreTokenizer, LongRunsTakeLinearTime) {
  for (const char* unit : {" ", "\n", "a", "1", "!", "A", "\xE4\xB8\x80", " \n"}) {
    std::string text;
    while (text.size() < 300'000) {
      text += unit;
    }
    for (const char* name : {"smollm", "gpt-4o", "deepseek-v3"}) {
      size_t bytes = 0;
      for (const std::string& piece : pieces_of(of_family(name), text)) {
        bytes += piece.size();
      }
      EXPECT_EQ(bytes, text.size());
    }
  }
}

TEST(PreTokenizer, Behaviors) {
  const auto step = [](SplitBehavior behavior, bool invert = false) {
    return PreTokenizerStep{
        .kind = Kind::kSplitText, .pattern = "-", .behavior = behavior, .invert = invert};
  };
  const std::string text = "-a--b-";
  EXPECT_EQ(pieces_of(step(SplitBehavior::kRemoved), text), (Pieces{"a", "b"}));
  EXPECT_EQ(pieces_of(step(SplitBehavior::kIsolated), text),
            (Pieces{"-", "a", "-", "-", "b", "-"}));
  EXPECT_EQ(pieces_of(step(SplitBehavior::kMergedWithPrevious), text),
            (Pieces{"-", "a-", "-", "b-"}));
  EXPECT_EQ(pieces_of(step(SplitBehavior::kMergedWithNext), text), (Pieces{"-a", "-", "-b", "-"}));
  EXPECT_EQ(pieces_of(step(SplitBehavior::kContiguous), text), (Pieces{"-", "a", "--", "b", "-"}));
  EXPECT_EQ(pieces_of(step(SplitBehavior::kRemoved, true), text), (Pieces{"-", "-", "-", "-"}));
}

TEST(PreTokenizer, MetaspaceSchemes) {
  const auto step = [](PrependScheme scheme, bool split) {
    return PreTokenizerStep{
        .kind = Kind::kMetaspace, .pattern = "_", .prepend = scheme, .split = split};
  };
  EXPECT_EQ(pieces_of(step(PrependScheme::kAlways, true), "a  b"), (Pieces{"_a", "_", "_b"}));
  EXPECT_EQ(pieces_of(step(PrependScheme::kNever, true), "a b"), (Pieces{"a", "_b"}));
  EXPECT_EQ(pieces_of(step(PrependScheme::kAlways, false), " a b"), Pieces{"_a_b"});
  const PreTokenizer first({step(PrependScheme::kFirst, false)});
  EXPECT_EQ(pieces_of(first, "a", true), Pieces{"_a"});
  EXPECT_EQ(pieces_of(first, "a", false), Pieces{"a"});
}

// Steps behind ByteLevel see its alphabet, where the byte 0xBC of a letter is the fraction 1/4.
TEST(PreTokenizer, StepsBehindBytesSeeTheAlphabet) {
  EXPECT_EQ(pieces_of(of_family("falcon"), "\xD0\xBC"), (Pieces{"\xD0", "\xBC"}));
}

TEST(PreTokenizer, TooManyStepsAreRefused) {
  EXPECT_THROW(PreTokenizer(std::vector<PreTokenizerStep>(65, {.kind = Kind::kDigits})),
               core::Error);
}

TEST(PreTokenizerFamilies, AreRecognisedWrittenOut) {
  for (const char* name : {"gpt-2",
                           "olmo",
                           "smollm",
                           "falcon",
                           "llama-bpe",
                           "qwen2",
                           "tekken",
                           "deepseek-llm",
                           "deepseek-coder",
                           "deepseek-v3",
                           "gpt-4o",
                           "bloom"}) {
    TokenizerSpec spec;
    spec.pre_tokenizer = name;
    spec = with_family_written_out(std::move(spec));
    EXPECT_TRUE(spec.pre_tokenizer.empty());
    EXPECT_EQ(name_of_family(spec), name);
    EXPECT_EQ(step_of_no_family(spec), std::nullopt);
    spec.pre_tokenizers.insert(spec.pre_tokenizers.begin(), {.kind = Kind::kWhitespace});
    EXPECT_EQ(name_of_family(spec), std::nullopt);
    EXPECT_EQ(step_of_no_family(spec), spec.pre_tokenizers.front());
  }
}

}  // namespace
}  // namespace adze::text
