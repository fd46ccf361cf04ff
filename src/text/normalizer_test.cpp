#include "text/normalizer.h"

#include <cstring>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace adze::text {
namespace {

using Kind = NormalizerStep::Kind;

std::string normalized(const std::vector<NormalizerStep>& steps, std::string_view text) {
  RegularExpression::Workspace workspace;
  workspace.begin(text.size());
  return Normalizer(steps).normalize(text, workspace);
}

// A table with one replacement, of a single byte: root, the byte's unit, its value.
std::string small_charsmap(char byte, std::string_view replacement) {
  std::vector<uint32_t> units(512, 0xFF);
  const auto label = static_cast<uint8_t>(byte);
  units[0] = 256U << 10;                                // children from 256 on
  units[256 ^ label] = label | (1U << 8) | (4U << 10);  // has a leaf, 4 away
  units[(256 ^ label) ^ 4] = 0;                         // the first text
  std::string table(4, '\0');
  const auto size = static_cast<uint32_t>(units.size() * 4);
  std::memcpy(table.data(), &size, 4);
  table.append(reinterpret_cast<const char*>(units.data()), size);
  return table.append(replacement).append(1, '\0');
}

TEST(Normalizer, Forms) {
  EXPECT_EQ(normalized({{.kind = Kind::kNfc}}, "e\u0301 \u1112\u1161\u11ab"), "\u00e9 \ud55c");
  EXPECT_EQ(normalized({{.kind = Kind::kNfd}}, "x\u00e9"), "xe\u0301");
  EXPECT_EQ(normalized({{.kind = Kind::kNfkc}}, "\ufb01\u2163"), "fiIV");
  EXPECT_EQ(normalized({{.kind = Kind::kNfkd}, {.kind = Kind::kStripAccents}}, "\u00c5\ufb01"),
            "Afi");
  EXPECT_EQ(normalized({{.kind = Kind::kLowercase}}, "A\u0130\u03a3"), "ai\u0307\u03c3");
}

// Only parts of a text go through the library: the cuts must not show.
TEST(Normalizer, FormsOfPartsAreThoseOfTheWhole) {
  core::Rng rng(5);
  const std::u32string letters =
      U"ae\u00e9\u00c5 \u0301\u0323\u0308\u1100\u1161\u11a8\uac00\u212b\ufb01\u0915\u093c1";
  for (int round = 0; round < 2'000; ++round) {
    std::string text;
    for (uint64_t count = rng.next_uint64() % 12; count > 0; --count) {
      append_utf8(text, letters[rng.next_uint64() % letters.size()]);
    }
    // A letter that nothing is safe from, in front and behind, sends all of it through at once.
    for (const NormalForm form :
         {NormalForm::kNfc, NormalForm::kNfd, NormalForm::kNfkc, NormalForm::kNfkd}) {
      const std::string parts = normal_form(text, form);
      EXPECT_EQ(normal_form(parts, form), parts) << "idempotent";
      const NormalForm decomposed = form == NormalForm::kNfc || form == NormalForm::kNfd
                                        ? NormalForm::kNfd
                                        : NormalForm::kNfkd;
      EXPECT_EQ(normal_form(parts, decomposed), normal_form(text, decomposed)) << "equivalent";
    }
  }
}

TEST(Normalizer, ReplacePrependStrip) {
  EXPECT_EQ(normalized({{.kind = Kind::kReplaceText, .pattern = "aa", .content = "b"}}, "aaaxa"),
            "baxa");
  EXPECT_EQ(normalized({{.kind = Kind::kReplaceExpression, .pattern = " {2,}", .content = "_"}},
                       "a   b "),
            "a_b ");
  EXPECT_EQ(normalized({{.kind = Kind::kPrepend, .content = ">"}}, "a"), ">a");
  EXPECT_EQ(normalized({{.kind = Kind::kPrepend, .content = ">"}}, ""), "");
  EXPECT_EQ(normalized({{.kind = Kind::kStrip, .right = false}}, "\u00a0 a "), "a ");
  EXPECT_EQ(normalized({{.kind = Kind::kStrip}}, " \t\u2003"), "");
}

TEST(Normalizer, Bert) {
  const NormalizerStep plain{.kind = Kind::kBert};
  EXPECT_EQ(normalized({plain}, "A\u00c9\u4e2dB\tc\x01\u200b\ufffd"), "ae \u4e2d b c");
  const NormalizerStep cased{.kind = Kind::kBert, .strip_accents = false, .lowercase = false};
  EXPECT_EQ(normalized({cased}, "A\u00c9"), "A\u00c9");
}

TEST(Normalizer, SentencePieceSpaces) {
  const auto step = [](bool prefix, bool remove) {
    return NormalizerStep{
        .kind = Kind::kSentencePiece, .add_prefix_space = prefix, .remove_extra_spaces = remove};
  };
  EXPECT_EQ(normalized({step(true, true)}, "  a  b "), "\u2581a\u2581b");
  EXPECT_EQ(normalized({step(true, false)}, " a  b"), "\u2581\u2581a\u2581\u2581b");
  EXPECT_EQ(normalized({step(false, false)}, "a b"), "a\u2581b");
  EXPECT_EQ(normalized({step(true, true)}, "   "), "");
  EXPECT_EQ(normalized({step(true, false)}, ""), "");
}

TEST(Normalizer, Charsmap) {
  const std::string table = small_charsmap('x', "yz");
  EXPECT_EQ(normalized({{.kind = Kind::kCharsmap, .content = table}}, "axb"), "ayzb");
  EXPECT_EQ(normalized({{.kind = Kind::kSentencePiece, .content = table}}, "axb"), "\u2581ayzb");
}

TEST(Normalizer, BrokenTablesAreRefused) {
  const std::string table = small_charsmap('x', "yz");
  for (const size_t size : {1U, 4U, 5U, 7U, 100U, 2052U}) {
    EXPECT_THROW(Normalizer({{.kind = Kind::kCharsmap, .content = table.substr(0, size)}}),
                 core::Error)
        << size;
  }
  // Any damage is an error or another text, never a read outside.
  core::Rng rng(9);
  for (int round = 0; round < 2'000; ++round) {
    std::string damaged = table;
    for (int change = 0; change < 4; ++change) {
      damaged[4 + rng.next_uint64() % (damaged.size() - 5)] = static_cast<char>(rng.next_uint64());
    }
    try {
      normalized({{.kind = Kind::kSentencePiece, .content = damaged}}, "axbxy\xc3\xa9");
    } catch (const core::Error&) {
      continue;
    }
  }
}

TEST(Normalizer, TextThatGrowsWithoutEndIsAnError) {
  const std::vector<NormalizerStep> steps(
      12, {.kind = Kind::kReplaceText, .pattern = "a", .content = "aaaaaaaa"});
  EXPECT_THROW(normalized(steps, std::string(100, 'a')), core::Error);
}

}  // namespace
}  // namespace adze::text
