#include "infer/token_constraint.h"

#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/rng.h"
#include "text/byte_alphabet.h"

namespace adze::infer {
namespace {

constexpr int32_t kEnd = 0;

// 0 the end, 1 another control token, then 256 bytes, then pieces of JSON, words, half characters.
text::TokenizerSpec small_spec() {
  text::TokenizerSpec spec;
  spec.pre_tokenizer = "smollm";
  const auto add = [&](std::string_view bytes) {
    spec.tokens.push_back(text::alphabet_from_bytes(bytes));
    spec.kinds.push_back(text::TokenKind::kNormal);
  };
  for (const char* control : {"<|im_end|>", "<|im_start|>"}) {
    spec.tokens.emplace_back(control);
    spec.kinds.push_back(text::TokenKind::kControl);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    add({&character, 1});
  }
  for (const char* piece :
       {"{\"",      "\":",   "\": ", "\", \"", "\"}", "true", "false", "null",     "12",
        "345",      "-1",    "0.",   "[[",     "]]",  "],",   "name",  "na",       "ame\"",
        " the",     "cat",   "dog",  "ca",     "\\u", "\\\"", "\\",    "\xC3\xA9", "\xF0\x9F",
        "\xA6\x99", "x\xC3", "e5",   "}}",     "  ",  "\n"}) {
    add(piece);
  }
  spec.end_of_text = kEnd;
  return spec;
}

class TokenConstraintTest : public testing::Test {
 protected:
  TokenConstraint constraint(const std::string& schema) const {
    return {vocabulary_, text::JsonGrammar::from_schema(nlohmann::ordered_json::parse(schema))};
  }
  bool has(const std::vector<uint64_t>& bits, int32_t token) const {
    return (bits[static_cast<size_t>(token) / 64] >> (static_cast<size_t>(token) % 64) & 1) != 0;
  }
  std::vector<uint64_t> allowed(const TokenConstraint& one) const {
    std::vector<uint64_t> bits(vocabulary_->num_words(), ~uint64_t{0});
    one.allowed(bits);
    return bits;
  }

  text::Tokenizer tokenizer_{small_spec()};
  std::shared_ptr<const TokenVocabulary> vocabulary_ =
      std::make_shared<TokenVocabulary>(tokenizer_);
};

constexpr const char* kSchemas[] = {
    R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": -3, "maximum": 400}}, "required": ["name"],
        "additionalProperties": false})",
    R"({"type": "array", "items": {"type": ["string", "null", "boolean"]}, "minItems": 1})",
    R"({"enum": ["cat", "catdog", "dog", 12, 12345, true, null]})",
    R"({"type": "string", "pattern": "^(cat|d.g)+$"})",
    R"({"type": "object"})",
    R"({"anyOf": [{"type": "array", "items": {"type": "array"}}, {"type": "number"}]})",
};

// A token is allowed exactly where all its bytes are, one after the other; the end where the text
// is complete.
TEST_F(TokenConstraintTest, AllowsWhatTheMatcherAllows) {
  core::Rng random(1);
  for (const char* schema : kSchemas) {
    for (int walk = 0; walk < 20; ++walk) {
      const auto grammar = text::JsonGrammar::from_schema(nlohmann::ordered_json::parse(schema));
      text::JsonMatcher matcher(grammar);
      TokenConstraint one(vocabulary_, grammar);
      std::string written;
      for (int step = 0; step < 40; ++step) {
        const std::vector<uint64_t> bits = allowed(one);
        std::vector<int32_t> choices;
        for (int32_t token = 0; token < tokenizer_.vocab_size(); ++token) {
          text::JsonMatcher copy = matcher;
          bool fits = !tokenizer_.is_control(token);
          for (const char byte : tokenizer_.token_bytes(token)) {
            fits = fits && copy.accept(static_cast<uint8_t>(byte));
          }
          fits = token == kEnd ? matcher.complete() : fits;
          ASSERT_EQ(has(bits, token), fits)
              << schema << " after " << written << ": " << tokenizer_.token_bytes(token);
          if (fits && token != kEnd) {
            choices.push_back(token);
          }
        }
        ASSERT_TRUE(!choices.empty() || one.complete());
        if (choices.empty()) {
          break;
        }
        const int32_t token = choices[random.next_uint64() % choices.size()];
        one.accept(token);
        for (const char byte : tokenizer_.token_bytes(token)) {
          ASSERT_TRUE(matcher.accept(static_cast<uint8_t>(byte)));
        }
        written += tokenizer_.token_bytes(token);
        ASSERT_EQ(one.complete(), matcher.complete());
      }
    }
  }
}

TEST_F(TokenConstraintTest, ARefusedTokenChangesNothing) {
  TokenConstraint one = constraint(R"({"enum": ["cat", "dog"]})");
  one.accept(*tokenizer_.find("\""));
  const auto before = allowed(one);
  EXPECT_THROW(one.accept(*tokenizer_.find("name")), core::Error);
  EXPECT_THROW(one.accept(kEnd), core::Error);
  EXPECT_EQ(allowed(one), before);
  one.accept(*tokenizer_.find("cat"));
  one.accept(*tokenizer_.find("\""));
  EXPECT_TRUE(one.complete());
  EXPECT_TRUE(one.must_end());
  one.accept(kEnd);
  EXPECT_TRUE(one.must_end());
}

TEST_F(TokenConstraintTest, CopiesGoTheirOwnWaysOnAnyThread) {
  const TokenConstraint start = constraint(kSchemas[0]);
  const auto expected = allowed(start);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      core::Rng random(static_cast<uint64_t>(thread));
      for (int walk = 0; walk < 20; ++walk) {
        TokenConstraint one = start;
        for (int step = 0; step < 20 && !one.must_end(); ++step) {
          const auto bits = allowed(one);
          std::vector<int32_t> choices;
          for (int32_t token = 1; token < tokenizer_.vocab_size(); ++token) {
            if (has(bits, token)) {
              choices.push_back(token);
            }
          }
          one.accept(choices[random.next_uint64() % choices.size()]);
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(allowed(start), expected);
}

TEST_F(TokenConstraintTest, WantsATokenForEachByteOfJson) {
  text::TokenizerSpec spec = small_spec();
  spec.tokens.erase(spec.tokens.begin() + 2 + '{');
  spec.kinds.pop_back();
  const text::Tokenizer lacking(std::move(spec));
  EXPECT_THROW(TokenVocabulary{lacking}, core::Error);
}

}  // namespace
}  // namespace adze::infer
