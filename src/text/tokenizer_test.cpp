#include "text/tokenizer.h"

#include <functional>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "text/byte_alphabet.h"

namespace adze::text {
namespace {

void add_token(TokenizerSpec& spec, std::string text, TokenKind kind = TokenKind::kNormal) {
  spec.tokens.push_back(std::move(text));
  spec.kinds.push_back(kind);
}

void add_merge(TokenizerSpec& spec, const std::string& left, const std::string& right) {
  spec.merges.push_back(left + " " + right);
  add_token(spec, left + right);
}

// 0 <|end|>, 1 <|endless|>, 2 <user>, 3 "  ", then 256 bytes, then a few merges.
TokenizerSpec small_spec() {
  TokenizerSpec spec;
  spec.pre_tokenizer = "smollm";
  add_token(spec, "<|end|>", TokenKind::kControl);
  add_token(spec, "<|endless|>", TokenKind::kControl);
  add_token(spec, "<user>", TokenKind::kUserDefined);
  add_token(spec, "<unk>", TokenKind::kUnknown);
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    add_token(spec, alphabet_from_bytes({&text, 1}));
  }
  add_merge(spec, "a", "b");
  add_merge(spec, "ab", "ab");
  add_merge(spec, "b", "c");
  add_merge(spec, "Ġ", "a");
  add_merge(spec, "Ã", "©");
  spec.end_of_text = 0;
  return spec;
}

std::vector<std::string> token_texts(const Tokenizer& tokenizer,
                                     std::string_view text,
                                     SpecialTokens special = SpecialTokens::kParse) {
  std::vector<std::string> texts;
  for (const int32_t id : tokenizer.encode(text, special)) {
    texts.push_back(tokenizer.token_bytes(id));
  }
  return texts;
}

using Texts = std::vector<std::string>;

TEST(Tokenizer, BestRankFirstThenLeftmost) {
  const Tokenizer tokenizer(small_spec());
  EXPECT_EQ(token_texts(tokenizer, "abc"), (Texts{"ab", "c"}));  // "a b" ranks before "b c"
  EXPECT_EQ(token_texts(tokenizer, "xbc"), (Texts{"x", "bc"}));
  EXPECT_EQ(token_texts(tokenizer, "ababab"), (Texts{"abab", "ab"}));
  EXPECT_EQ(token_texts(tokenizer, "b ab"), (Texts{"b", " ", "ab"}));
  EXPECT_EQ(token_texts(tokenizer, "b a"), (Texts{"b", " a"}));
  EXPECT_EQ(token_texts(tokenizer, "\xC3\xA9"), (Texts{"\xC3\xA9"}));
}

TEST(Tokenizer, SpecialTokensAreLeftmostLongest) {
  const Tokenizer tokenizer(small_spec());
  EXPECT_EQ(token_texts(tokenizer, "a<|end|>b"), (Texts{"a", "<|end|>", "b"}));
  EXPECT_EQ(token_texts(tokenizer, "<|endless|>"), (Texts{"<|endless|>"}));
  EXPECT_EQ(tokenizer.encode("<|<|end|>", SpecialTokens::kParse).back(), 0);
  EXPECT_EQ(tokenizer.encode("<|end|", SpecialTokens::kParse).size(), 6U);
}

TEST(Tokenizer, PlainTextNeverGivesControlTokens) {
  TokenizerSpec spec = small_spec();
  add_merge(spec, "s", "t");
  add_merge(spec, "st", "o");
  add_merge(spec, "sto", "p");  // a hostile vocabulary: its merges end in a control token
  spec.kinds.back() = TokenKind::kControl;
  const Tokenizer tokenizer(std::move(spec));
  for (const char* text : {"<|end|>", "a<|endless|>b", "<unk>", "stop"}) {
    for (const int32_t id : tokenizer.encode(text, SpecialTokens::kPlain)) {
      EXPECT_FALSE(tokenizer.is_control(id)) << text;
    }
  }
  EXPECT_EQ(token_texts(tokenizer, "stop", SpecialTokens::kPlain), (Texts{"sto", "p"}));
  // User-defined tokens are text, in both ways of reading it.
  EXPECT_EQ(tokenizer.encode("<user>", SpecialTokens::kPlain), std::vector<int32_t>{2});
}

TEST(Tokenizer, ProtectedTextStaysTextAmongControlTokens) {
  const Tokenizer tokenizer(small_spec());
  const std::string mark = "\xEF\xB7\x90";  // U+FDD0, of no meaning
  EXPECT_EQ(tokenizer.protect("a <|end| >", mark), "a <|end| >");
  EXPECT_EQ(tokenizer.protect("<user>", mark), "<user>");  // text, too
  for (const std::string text : {"<|end|>",
                                 "a<|endless|>b",
                                 "<|<|end|>|>",
                                 "<|end<|end|><|endless|>",
                                 "<unk><user>",
                                 "ab"}) {
    std::vector<int32_t> expected = {0};
    const auto plain = tokenizer.encode(text, SpecialTokens::kPlain);
    expected.insert(expected.end(), plain.begin(), plain.end());
    expected.push_back(1);
    EXPECT_EQ(
        tokenizer.encode_protected("<|end|>" + tokenizer.protect(text, mark) + "<|endless|>", mark),
        expected)
        << text;
  }
  EXPECT_EQ(tokenizer.encode_protected("a<|end|>b", mark),
            tokenizer.encode("a<|end|>b", SpecialTokens::kParse));
}

TEST(Tokenizer, RoundTripOfAnyBytes) {
  const Tokenizer tokenizer(small_spec());
  EXPECT_TRUE(tokenizer.missing_bytes().empty());
  core::Rng rng(11);
  constexpr std::string_view kLikely = "ab c<|end|>\xC3\xA9\xF0\x9F\x98\x80\r\n 1";
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    for (uint64_t length = rng.next_uint64() % 120; bytes.size() < length;) {
      const uint64_t draw = rng.next_uint64();
      bytes += draw % 3 == 0 ? static_cast<char>(draw >> 8) : kLikely[(draw >> 8) % kLikely.size()];
    }
    for (const SpecialTokens special : {SpecialTokens::kParse, SpecialTokens::kPlain}) {
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes, special)), bytes);
    }
  }
}

TEST(Tokenizer, InvalidBytesStandAlone) {
  const Tokenizer tokenizer(small_spec());
  EXPECT_EQ(token_texts(tokenizer,
                        "ab\xFF"
                        "ab\xC3"),
            (Texts{"ab", "\xFF", "ab", "\xC3"}));
}

TEST(Tokenizer, BytesWithoutATokenAreReportedAndLeftOut) {
  TokenizerSpec spec = small_spec();
  spec.tokens[4 + 'x'] = "[PAD]";
  spec.kinds[4 + 'x'] = TokenKind::kUnused;
  const Tokenizer tokenizer(std::move(spec));
  EXPECT_EQ(tokenizer.missing_bytes(), "x");
  EXPECT_EQ(token_texts(tokenizer, "axb"), (Texts{"ab"}));  // as the reference does
}

TEST(Tokenizer, ByteTokensFillGaps) {
  TokenizerSpec spec = small_spec();
  spec.tokens[4 + 0x04] = "<0x04>";
  spec.kinds[4 + 0x04] = TokenKind::kByte;
  const Tokenizer tokenizer(std::move(spec));
  EXPECT_TRUE(tokenizer.missing_bytes().empty());
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\x04z", SpecialTokens::kPlain)), "a\x04z");
}

// Short and long pieces merge by different code; a reference that rescans decides.
TEST(Tokenizer, LongPiecesMergeAsTheObviousWay) {
  const TokenizerSpec spec = small_spec();
  const Tokenizer tokenizer(spec);
  core::Rng rng(13);
  for (const size_t length : {1U, 2U, 3U, 20U, 47U, 48U, 49U, 50U, 200U, 999U}) {
    std::string text;
    while (text.size() < length) {
      text += "abc"[rng.next_uint64() % 3];
    }
    Texts expected;
    for (const char letter : text) {
      expected.emplace_back(1, letter);
    }
    bool merged = true;
    while (merged) {
      merged = false;
      for (size_t rank = 0; rank < spec.merges.size() && !merged; ++rank) {
        for (size_t index = 0; index + 1 < expected.size() && !merged; ++index) {
          if (expected[index] + " " + expected[index + 1] == spec.merges[rank]) {
            expected[index] += expected[index + 1];
            expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(index) + 1);
            merged = true;
          }
        }
      }
    }
    EXPECT_EQ(token_texts(tokenizer, text), expected) << text;
  }
}

TEST(Tokenizer, WholeTokensComeFirstWhereTheFamilyWantsThem) {
  TokenizerSpec spec = small_spec();
  add_token(spec, "cab");  // no merges lead there
  spec.pre_tokenizer = "llama-bpe";
  EXPECT_EQ(token_texts(Tokenizer(spec), "cab"), (Texts{"cab"}));
  spec.pre_tokenizer = "qwen2";
  EXPECT_EQ(token_texts(Tokenizer(spec), "cab"), (Texts{"c", "ab"}));
}

TEST(Tokenizer, HugePieceStaysFast) {
  const Tokenizer tokenizer(small_spec());
  const std::string text(300'000, 'a');
  EXPECT_EQ(tokenizer.encode(text, SpecialTokens::kPlain).size(), text.size());
  std::string pairs;
  while (pairs.size() < 300'000) {
    pairs += "ab";
  }
  EXPECT_EQ(tokenizer.encode(pairs, SpecialTokens::kPlain).size(), pairs.size() / 4);
}

TEST(Tokenizer, DecodeLeavesControlTokensOutOnRequest) {
  const Tokenizer tokenizer(small_spec());
  const auto ids = tokenizer.encode("ab<|end|><user>", SpecialTokens::kParse);
  EXPECT_EQ(tokenizer.decode(ids), "ab<|end|><user>");
  EXPECT_EQ(tokenizer.decode(ids, false), "ab<user>");
  const std::vector<int32_t> below{-1};
  const std::vector<int32_t> above{static_cast<int32_t>(tokenizer.vocab_size())};
  EXPECT_THROW((void)tokenizer.decode(below), core::Error);
  EXPECT_THROW((void)tokenizer.decode(above), core::Error);
  EXPECT_THROW((void)tokenizer.token_bytes(-1), core::Error);
  EXPECT_THROW((void)tokenizer.is_control(-1), core::Error);
}

TEST(Tokenizer, FindAndEndOfGeneration) {
  TokenizerSpec spec = small_spec();
  add_token(spec, "<|im_end|>", TokenKind::kControl);
  add_token(spec, "<end_of_turn>");  // an ordinary token of that name ends nothing
  const Tokenizer tokenizer(std::move(spec));
  EXPECT_EQ(tokenizer.token_bytes(tokenizer.find(" a").value_or(-1)), " a");
  EXPECT_EQ(tokenizer.find("<|end|>"), 0);
  EXPECT_EQ(tokenizer.find("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.find("Ġa"), std::nullopt);  // the bytes of no token
  EXPECT_EQ(tokenizer.end_of_generation(),
            (std::vector<int32_t>{0, tokenizer.find("<|im_end|>").value_or(-1)}));
}

// What must be refused, and the field that the message names.
struct Refusal {
  std::string field;
  std::function<void(TokenizerSpec&)> spoil;
};

TEST(Tokenizer, HostileSpecsAreRefusedByName) {
  const std::vector<Refusal> refusals{
      {"scores", [](TokenizerSpec& spec) { spec.model = TokenizerModel::kScoredPairs; }},
      {"pre_tokenizer",
       [](TokenizerSpec& spec) {
         spec.model = TokenizerModel::kUnigram;
         spec.scores.resize(spec.tokens.size());
       }},
      {"pre_tokenizer", [](TokenizerSpec& spec) { spec.pre_tokenizer = "(?R)"; }},
      {"pre_tokenizer",
       [](TokenizerSpec& spec) {
         spec.pre_tokenizers = {{.kind = PreTokenizerStep::Kind::kBert}};
       }},
      {"expression",
       [](TokenizerSpec& spec) {
         spec.pre_tokenizer = "";
         spec.pre_tokenizers = {{.kind = PreTokenizerStep::Kind::kSplitExpression, .pattern = "("}};
       }},
      {"decoder",
       [](TokenizerSpec& spec) {
         spec.decoders = {{.kind = DecoderStep::Kind::kFuse},
                          {.kind = DecoderStep::Kind::kByteFallback}};
       }},
      {"added_tokens",
       [](TokenizerSpec& spec) { spec.added_tokens.emplace(1, AddedToken{.id = -1}); }},
      {"writes_unknown", [](TokenizerSpec& spec) { spec.writes_unknown = true; }},
      {"separator", [](TokenizerSpec& spec) { spec.separator = 1 << 20; }},
      {"add_begin_of_text", [](TokenizerSpec& spec) { spec.add_begin_of_text = true; }},
      {"add_end_of_text",
       [](TokenizerSpec& spec) { spec.end_of_text.reset(), spec.add_end_of_text = true; }},
      {"tokens", [](TokenizerSpec& spec) { spec.tokens.clear(), spec.kinds.clear(); }},
      {"kinds", [](TokenizerSpec& spec) { spec.kinds.pop_back(); }},
      {"kinds[3]", [](TokenizerSpec& spec) { spec.kinds[3] = static_cast<TokenKind>(200); }},
      {"merges[0]", [](TokenizerSpec& spec) { spec.merges[0] = "ab"; }},
      {"merges[0]", [](TokenizerSpec& spec) { spec.merges[0] = " b"; }},
      {"merges[0]", [](TokenizerSpec& spec) { spec.merges[0] = "a "; }},
      {"merges[0]", [](TokenizerSpec& spec) { spec.merges[0] = "a b c"; }},
      {"merges[0]", [](TokenizerSpec& spec) { spec.merges[0] = ""; }},
      {"merges[1]", [](TokenizerSpec& spec) { spec.merges[1] = "ab zz"; }},
      {"merges[1]", [](TokenizerSpec& spec) { spec.merges[1] = "x y"; }},
      {"end_of_text", [](TokenizerSpec& spec) { spec.end_of_text = -1; }},
      {"begin_of_text", [](TokenizerSpec& spec) { spec.begin_of_text = 1 << 30; }},
      {"unknown", [](TokenizerSpec& spec) { spec.unknown = 100'000; }},
      {"padding", [](TokenizerSpec& spec) { spec.padding = -7; }},
      {"tokens[9]", [](TokenizerSpec& spec) { spec.tokens[9].assign(100'000, 'x'); }},
      {"tokens[0]", [](TokenizerSpec& spec) { spec.tokens[0].assign(2'000, 'x'); }},
      {"tokens[9]",
       [](TokenizerSpec& spec) {
         spec.tokens[9] = "<0x-1>";
         spec.kinds[9] = TokenKind::kByte;
       }},
  };
  for (const Refusal& refusal : refusals) {
    TokenizerSpec spec = small_spec();
    refusal.spoil(spec);
    try {
      const Tokenizer tokenizer(std::move(spec));
      ADD_FAILURE() << refusal.field << " was accepted";
    } catch (const core::Error& error) {
      const std::string message = error.what();
      EXPECT_EQ(message.find("[tokenizer] " + refusal.field), 0U) << message;
    }
  }
}

TEST(Tokenizer, OddButLegalSpecs) {
  TokenizerSpec spec = small_spec();
  add_token(spec, "");  // an empty text matches nothing
  add_token(spec, "", TokenKind::kControl);
  add_token(spec, "<|end|>");   // a text twice: the first counts
  add_token(spec, "\xFF\xFE");  // no UTF-8, outside the alphabet
  add_token(spec, "two words");
  spec.merges.push_back(spec.merges[0]);  // a merge twice
  const Tokenizer tokenizer(std::move(spec));
  EXPECT_EQ(token_texts(tokenizer, "ab<|end|>"), (Texts{"ab", "<|end|>"}));
  EXPECT_EQ(tokenizer.token_bytes(static_cast<int32_t>(tokenizer.vocab_size()) - 1), "two words");
  EXPECT_TRUE(tokenizer.encode("", SpecialTokens::kParse).empty());
  EXPECT_EQ(tokenizer.decode({}), "");
}

}  // namespace
}  // namespace adze::text
