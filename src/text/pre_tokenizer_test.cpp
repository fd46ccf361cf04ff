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

PreTokenizer of_family(std::string_view name) {
  return PreTokenizer(pre_tokenizer_family(name).steps);
}

std::vector<std::string> pieces_of(const PreTokenizer& pre_tokenizer, std::string_view text) {
  std::vector<std::string> pieces;
  const auto workspace = pre_tokenizer.make_workspace();
  pre_tokenizer.split(
      text, true, *workspace, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
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

}  // namespace
}  // namespace adze::text
