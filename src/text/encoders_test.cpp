// Tokenizers of characters against the obvious way to do the same.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "text/byte_alphabet.h"
#include "text/stream.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace adze::text {
namespace {

constexpr const char* kWordStart = "\u2581";

int32_t add(TokenizerSpec& spec,
            std::string text,
            double score,
            TokenKind kind = TokenKind::kNormal) {
  spec.tokens.push_back(std::move(text));
  spec.kinds.push_back(kind);
  spec.scores.push_back(score);
  return static_cast<int32_t>(spec.tokens.size()) - 1;
}

void add_bytes(TokenizerSpec& spec) {
  spec.byte_fallback = true;
  for (int byte = 0; byte < 256; ++byte) {
    add(spec, fmt::format("<0x{:02X}>", byte), 0, TokenKind::kByte);
  }
}

// Random tokens over few letters, so that they overlap in many ways; "d" only occurs within some.
TokenizerSpec random_spec(core::Rng& rng, TokenizerModel model, bool bytes) {
  TokenizerSpec spec;
  spec.model = model;
  spec.sentencepiece_rules = model == TokenizerModel::kUnigram;
  spec.unknown = add(spec, "<unk>", 0, TokenKind::kUnknown);
  add(spec, "<s>", 0, TokenKind::kControl);
  const std::vector<std::string> letters{"a", "b", "c", kWordStart, "\u00e9"};
  for (const std::string& letter : letters) {
    add(spec, letter, -5 - static_cast<double>(rng.next_uint64() % 4));
  }
  std::vector<std::string> known = letters;
  for (int count = 0; count < 25; ++count) {
    std::string text = known[rng.next_uint64() % known.size()] +
                       (rng.next_uint64() % 9 == 0 ? "d" : known[rng.next_uint64() % known.size()]);
    if (std::find(known.begin(), known.end(), text) == known.end()) {
      known.push_back(text);
      // Few different scores: ties are what goes wrong. All are exact in binary.
      add(spec, text, -static_cast<double>(rng.next_uint64() % 12) / 4);
    }
  }
  if (bytes) {
    add_bytes(spec);
  }
  spec.normalizers = {{.kind = NormalizerStep::Kind::kSentencePiece, .remove_extra_spaces = false}};
  spec.decoders = {{.kind = DecoderStep::Kind::kReplaceText, .pattern = kWordStart, .content = " "},
                   {.kind = DecoderStep::Kind::kByteFallback},
                   {.kind = DecoderStep::Kind::kFuse},
                   {.kind = DecoderStep::Kind::kStrip, .pattern = " ", .count = 1}};
  return spec;
}

std::string random_text(core::Rng& rng, size_t most) {
  const std::vector<std::string> parts{"a", "b", "c", " ", "\u00e9", "d", "\U0001f600"};
  std::string text;
  for (uint64_t count = rng.next_uint64() % most; count > 0; --count) {
    text += parts[rng.next_uint64() % parts.size()];
  }
  return text;
}

std::vector<std::string> characters(std::string_view text) {
  std::vector<std::string> result;
  while (!text.empty()) {
    result.emplace_back(text.substr(0, next_character(text).length));
    text.remove_prefix(result.back().size());
  }
  return result;
}

std::string with_spaces_marked(const std::string& text) {
  std::string result;
  for (const std::string& character : characters(text.empty() ? "" : " " + text)) {
    result += character == " " ? kWordStart : character;
  }
  return result;
}

std::optional<int32_t> id_of(const TokenizerSpec& spec, const std::string& text) {
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id] == text && spec.kinds[id] == TokenKind::kNormal) {
      return static_cast<int32_t>(id);
    }
  }
  return std::nullopt;
}

void append_unknown(const TokenizerSpec& spec,
                    const std::string& text,
                    bool& after_unknown,
                    std::vector<int32_t>& ids) {
  if (!spec.byte_fallback) {
    if (!after_unknown) {
      ids.push_back(*spec.unknown);
    }
    after_unknown = true;
    return;
  }
  for (const char byte : text) {
    const auto name = fmt::format("<0x{:02X}>", static_cast<uint8_t>(byte));
    ids.push_back(static_cast<int32_t>(std::find(spec.tokens.begin(), spec.tokens.end(), name) -
                                       spec.tokens.begin()));
  }
}

// Scan all neighbours again for each merge: the best score, of equals the leftmost.
std::vector<int32_t> merged_slowly(const TokenizerSpec& spec, const std::string& text) {
  std::vector<std::string> parts = characters(with_spaces_marked(text));
  while (true) {
    double best = -std::numeric_limits<double>::infinity();
    size_t place = parts.size();
    for (size_t index = 0; index + 1 < parts.size(); ++index) {
      const auto id = id_of(spec, parts[index] + parts[index + 1]);
      if (id && spec.scores[static_cast<size_t>(*id)] > best) {
        best = spec.scores[static_cast<size_t>(*id)];
        place = index;
      }
    }
    if (place == parts.size()) {
      break;
    }
    parts[place] += parts[place + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
  std::vector<int32_t> ids;
  bool after_unknown = false;
  for (const std::string& part : parts) {
    if (const auto id = id_of(spec, part)) {
      ids.push_back(*id);
      after_unknown = false;
    } else {
      append_unknown(spec, part, after_unknown, ids);
    }
  }
  return ids;
}

TEST(ScoredPairs, EqualTheObviousWay) {
  core::Rng rng(21);
  for (int round = 0; round < 60; ++round) {
    const TokenizerSpec spec = random_spec(rng, TokenizerModel::kScoredPairs, round % 2 == 0);
    const Tokenizer tokenizer(spec);
    for (int text_round = 0; text_round < 20; ++text_round) {
      // Long ones merge by other code.
      const std::string text = random_text(rng, text_round % 5 == 0 ? 250 : 25);
      EXPECT_EQ(tokenizer.encode(text, SpecialTokens::kPlain), merged_slowly(spec, text)) << text;
    }
  }
}

// The sum of the best way to cut the text, by trying all ends of the first token.
double best_sum(const TokenizerSpec& spec, const std::string& text, double unknown_score) {
  std::map<size_t, double> best{{text.size(), 0}};
  for (size_t start = text.size(); start-- > 0;) {
    if ((static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) {
      continue;
    }
    const size_t next = start + next_character(std::string_view(text).substr(start)).length;
    double sum = -std::numeric_limits<double>::infinity();
    bool single = false;
    for (const auto& [end, rest] : best) {
      if (end <= start) {
        continue;
      }
      if (const auto id = id_of(spec, text.substr(start, end - start))) {
        sum = std::max(sum, spec.scores[static_cast<size_t>(*id)] + rest);
        single |= end == next;
      }
    }
    best[start] = single ? sum : std::max(sum, unknown_score + best[next]);
  }
  return best[0];
}

TEST(Unigram, FindsTheBestSum) {
  core::Rng rng(22);
  for (int round = 0; round < 60; ++round) {
    TokenizerSpec spec = random_spec(rng, TokenizerModel::kUnigram, true);
    spec.single_precision = round % 2 == 0;  // sums are exact either way
    const Tokenizer tokenizer(spec);
    double worst = 0;
    for (size_t id = 0; id < spec.tokens.size(); ++id) {
      worst = spec.kinds[id] == TokenKind::kNormal ? std::min(worst, spec.scores[id]) : worst;
    }
    for (int text_round = 0; text_round < 20; ++text_round) {
      const std::string text = random_text(rng, 40);
      double sum = 0;
      std::string joined;
      for (const int32_t id : tokenizer.encode(text, SpecialTokens::kPlain)) {
        const auto position = static_cast<size_t>(id);
        joined += tokenizer.token_bytes(id);
        if (spec.kinds[position] != TokenKind::kByte) {
          sum += spec.scores[position];
        } else if (Utf8Step step = next_character(joined);
                   (static_cast<uint8_t>(joined.back()) & 0xC0) != 0x80) {
          sum += worst - 10;  // once for each unknown character, at its first byte
          (void)step;
        }
      }
      EXPECT_EQ(joined, text.empty() ? "" : " " + text);
      EXPECT_DOUBLE_EQ(sum, best_sum(spec, with_spaces_marked(text), worst - 10)) << text;
    }
  }
}

TEST(Unigram, LongTextsTakeLittleMemoryAndTime) {
  core::Rng rng(23);
  const Tokenizer tokenizer(random_spec(rng, TokenizerModel::kUnigram, false));
  EXPECT_FALSE(tokenizer.encode(std::string(1'000'000, 'a'), SpecialTokens::kPlain).empty());
  EXPECT_EQ(tokenizer.encode(std::string(1'000'000, 'z'), SpecialTokens::kPlain).size(), 2U);
}

TEST(ScoredPairs, HugePieceStaysFast) {
  core::Rng rng(24);
  const Tokenizer tokenizer(random_spec(rng, TokenizerModel::kScoredPairs, true));
  EXPECT_FALSE(tokenizer.encode(std::string(500'000, 'a'), SpecialTokens::kPlain).empty());
  EXPECT_FALSE(tokenizer.encode(std::string(500'000, ' '), SpecialTokens::kPlain).empty());
}

TEST(Characters, DecodingGivesTheTextBackHoweverCut) {
  core::Rng rng(25);
  for (int round = 0; round < 200; ++round) {
    const auto model = round % 2 == 0 ? TokenizerModel::kScoredPairs : TokenizerModel::kUnigram;
    const Tokenizer tokenizer(random_spec(rng, model, true));
    const std::string text = random_text(rng, 30);
    const auto ids = tokenizer.encode(text, SpecialTokens::kParse);
    EXPECT_EQ(tokenizer.decode(ids), text);
    TokenStream stream(tokenizer);
    std::string streamed;
    for (const int32_t id : ids) {
      streamed += stream.push(id);
    }
    EXPECT_EQ(streamed, text);
  }
}

TEST(Characters, BytesThatAreNotTextBecomeReplacements) {
  core::Rng rng(26);
  const Tokenizer tokenizer(random_spec(rng, TokenizerModel::kScoredPairs, true));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\xff\xe2\x82z", SpecialTokens::kPlain)),
            "a\ufffd\ufffdz");
}

TEST(Characters, PlainTextNeverGivesControlTokens) {
  core::Rng rng(27);
  for (const auto model : {TokenizerModel::kScoredPairs, TokenizerModel::kUnigram}) {
    TokenizerSpec spec = random_spec(rng, model, true);
    add(spec, "ab", 100, TokenKind::kControl);
    const Tokenizer tokenizer(spec);
    for (const int32_t id : tokenizer.encode("abab<s>", SpecialTokens::kPlain)) {
      EXPECT_FALSE(tokenizer.is_control(id));
    }
    EXPECT_EQ(tokenizer.encode("<s>", SpecialTokens::kParse), std::vector<int32_t>{1});
  }
}

TEST(ScoredPairs, UnusedTokensAreTakenApartAgain) {
  TokenizerSpec spec;
  spec.model = TokenizerModel::kScoredPairs;
  spec.unknown = add(spec, "<unk>", 0, TokenKind::kUnknown);
  const int32_t a = add(spec, "a", -9);
  const int32_t b = add(spec, "b", -9);
  add(spec, "ab", -1, TokenKind::kUnused);
  const int32_t aba = add(spec, "aba", -2);
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(tokenizer.encode("ab", SpecialTokens::kPlain), (std::vector<int32_t>{a, b}));
  EXPECT_EQ(tokenizer.encode("aba", SpecialTokens::kPlain), std::vector<int32_t>{aba});
}

TokenizerSpec word_piece_spec() {
  TokenizerSpec spec;
  spec.model = TokenizerModel::kWordPiece;
  spec.unknown = add(spec, "[UNK]", 0, TokenKind::kUnknown);
  for (const char* text : {"un", "##aff", "##able", "##a", "able", ",", "##,"}) {
    add(spec, text, 0);
  }
  spec.normalizers = {{.kind = NormalizerStep::Kind::kBert}};
  spec.pre_tokenizers = {{.kind = PreTokenizerStep::Kind::kBert}};
  spec.decoders = {{.kind = DecoderStep::Kind::kWordPiece, .pattern = "##"}};
  return spec;
}

TEST(WordPiece, LongestFirstOrUnknown) {
  const Tokenizer tokenizer(word_piece_spec());
  const auto ids = [&](std::string_view text) {
    return tokenizer.encode(text, SpecialTokens::kPlain);
  };
  EXPECT_EQ(ids("UNaffable"), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(ids("un,able"), (std::vector<int32_t>{1, 6, 5}));
  EXPECT_EQ(ids("unx able"), (std::vector<int32_t>{0, 5}));
  EXPECT_EQ(ids(std::string(101, 'a')), std::vector<int32_t>{0});
  EXPECT_EQ(tokenizer.decode(ids("un , able")), "un, able");
  EXPECT_EQ(tokenizer.find("aff"), 2);
}

TEST(Characters, HostileSpecsAreRefusedByName) {
  const auto refused = [](TokenizerSpec spec, std::string_view field) {
    try {
      const Tokenizer tokenizer(std::move(spec));
      ADD_FAILURE() << field << " was accepted";
    } catch (const core::Error& error) {
      EXPECT_NE(std::string(error.what()).find(field), std::string::npos) << error.what();
    }
  };
  core::Rng rng(28);
  for (const auto model : {TokenizerModel::kScoredPairs, TokenizerModel::kUnigram}) {
    TokenizerSpec spec = random_spec(rng, model, true);
    spec.scores[3] = std::nan("");
    refused(spec, "scores[3]");
    spec.scores.pop_back();
    refused(spec, "scores");
  }
  TokenizerSpec unigram = random_spec(rng, TokenizerModel::kUnigram, false);
  unigram.unknown.reset();
  refused(unigram, "unknown");
  TokenizerSpec words = word_piece_spec();
  words.max_word_characters = 0;
  refused(words, "max_word_characters");
  words = word_piece_spec();
  words.unknown.reset();
  refused(words, "unknown");
  TokenizerSpec scored = random_spec(rng, TokenizerModel::kScoredPairs, false);
  add(scored, std::string(600, 'a'), -1);
  refused(scored, "at most 512 bytes");
}

}  // namespace
}  // namespace adze::text
