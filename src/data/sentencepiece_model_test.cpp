#include "data/sentencepiece_model.h"

#include <fstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "text/tokenizer.h"

namespace adze::data {
namespace {

std::string golden(const char* name) {
  std::ifstream file(std::string("tests/golden/tokenizers/") + name, std::ios::binary);
  EXPECT_TRUE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Fields of a message: (number, wire type, bytes).
std::string field(uint64_t number, uint64_t type, std::string_view bytes) {
  std::string message(1, static_cast<char>((number << 3) | type));
  if (type == 2) {
    message += static_cast<char>(bytes.size());
  }
  return message.append(bytes);
}

std::string piece(std::string_view text, char type) {
  return field(1, 2, field(1, 2, text) + field(3, 0, std::string(1, type)));
}

TEST(SentencePieceModel, ReadsWhatMatters) {
  const text::TokenizerSpec spec = sentencepiece_spec(golden("scored.model"), "m");
  EXPECT_EQ(spec.model, text::TokenizerModel::kScoredPairs);
  EXPECT_EQ(spec.tokens[0], "<unk>");
  EXPECT_EQ(spec.unknown, 0);
  EXPECT_EQ(spec.begin_of_text, 1);
  EXPECT_EQ(spec.end_of_text, 2);
  EXPECT_TRUE(spec.byte_fallback);
  EXPECT_FALSE(spec.add_begin_of_text);
  ASSERT_EQ(spec.normalizers.size(), 1U);
  EXPECT_FALSE(spec.normalizers.front().remove_extra_spaces);
  EXPECT_FALSE(spec.normalizers.front().content.empty());
}

TEST(SentencePieceModel, RefusesByField) {
  const auto refused = [](const std::string& bytes, std::string_view part) {
    try {
      sentencepiece_spec(bytes, "file.model");
      ADD_FAILURE() << part << " was accepted";
    } catch (const core::Error& error) {
      EXPECT_EQ(std::string(error.what()).find("[tokenizer] file.model: "), 0U) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  const std::string unknown = piece("<unk>", 2);
  refused("", "pieces of a SentencePiece model, got none");
  refused("IQ== 0\n", "8 more bytes");  // another kind of tokenizer.model
  refused("\x0f", "wire types");
  refused(piece("a", 7), "types 1 to 6, got 7");
  refused(unknown + "\x0a\x7f", "127 more bytes, got 0");
  refused(unknown + std::string(11, '\xff'), "at most 64 bits");
  refused(unknown + field(2, 2, field(3, 0, "\x03")), "model_type 1 (unigram) or 2 (BPE), got 3");
  refused(unknown + field(2, 2, std::string("\xc0\x01\x01")), "spaces before words");
  refused(unknown + field(3, 2, field(5, 0, std::string(1, '\0'))), "U+2581");
  refused(field(1, 0, "\x01"), "bytes in field 1");
  refused(field(1, 2, field(3, 2, "ab")), "a number in field 3");
}

TEST(SentencePieceModel, DamageIsAnErrorOrAnotherTokenizer) {
  const std::string whole = golden("likely_bytes.model");
  core::Rng rng(3);
  for (int round = 0; round < 300; ++round) {
    std::string damaged =
        whole.substr(0, round % 3 == 0 ? rng.next_uint64() % whole.size() : whole.size());
    for (int change = 0; change < 3 && !damaged.empty(); ++change) {
      damaged[rng.next_uint64() % damaged.size()] = static_cast<char>(rng.next_uint64());
    }
    try {
      const text::Tokenizer tokenizer(sentencepiece_spec(damaged, "m"));
      tokenizer.decode(tokenizer.encode("some \xef\xac\x81 text", text::SpecialTokens::kParse));
    } catch (const core::Error&) {
      continue;
    }
  }
}

}  // namespace
}  // namespace adze::data
