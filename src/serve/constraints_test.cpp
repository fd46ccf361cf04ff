#include "serve/constraints.h"

#include <gtest/gtest.h>

#include "serve/tool_calls.h"
#include "text/byte_alphabet.h"

namespace adze::serve {
namespace {

// Token 0 ends the text; token 1 + b is byte b; the last ones hold the end of a tag and more.
text::Tokenizer small_tokenizer() {
  text::TokenizerSpec spec;
  spec.pre_tokenizer = "smollm";
  const auto add = [&spec](const std::string& text, text::TokenKind kind) {
    spec.tokens.push_back(text);
    spec.kinds.push_back(kind);
  };
  add("<|end|>", text::TokenKind::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    add(text::alphabet_from_bytes({&text, 1}), text::TokenKind::kNormal);
  }
  add(text::alphabet_from_bytes(">{"), text::TokenKind::kNormal);
  add(text::alphabet_from_bytes(">x"), text::TokenKind::kNormal);
  spec.end_of_text = 0;
  return text::Tokenizer(std::move(spec));
}

bool allows(infer::SamplingConstraint& constraint, int32_t token) {
  const auto bits = constraint.allowed();
  return bits.empty() || (bits[static_cast<size_t>(token / 64)] >> (token % 64) & 1) != 0;
}

class ToolCalls : public testing::Test {
 protected:
  std::unique_ptr<infer::SamplingConstraint> start(bool parallel) {
    const std::vector<Tool> tools = {
        {.name = "f", .definition = {}, .parameters = {{"enum", {1, 23}}}}};
    return tool_call_constraint(vocabulary_,
                                text::JsonGrammar::from_schema(call_schema(tools, "")),
                                nullptr,
                                tokenizer_.vocab_size() + 64,
                                parallel)
        ->clone();
  }
  // Writes the text byte by byte, each of them allowed.
  void write(infer::SamplingConstraint& constraint, std::string_view text) {
    for (const char c : text) {
      const int32_t token = 1 + static_cast<unsigned char>(c);
      ASSERT_TRUE(allows(constraint, token)) << text << " at " << c;
      constraint.accept(token);
    }
  }

  text::Tokenizer tokenizer_ = small_tokenizer();
  std::shared_ptr<const infer::TokenVocabulary> vocabulary_ =
      std::make_shared<infer::TokenVocabulary>(tokenizer_);
};

TEST_F(ToolCalls, TextIsFreeAndCallsAreNot) {
  const auto constraint = start(true);
  write(*constraint, "Hello {<tool_call> ");
  EXPECT_FALSE(allows(*constraint, 1 + 'x'));
  EXPECT_FALSE(allows(*constraint, 0));
  write(*constraint, R"({"name":"f","arguments":2)");
  EXPECT_FALSE(allows(*constraint, 1 + '}'));
  write(*constraint, "3}");
  EXPECT_TRUE(allows(*constraint, 0));
  write(*constraint, R"(</tool_call> and <tool_call>{"name":"f")");
  EXPECT_FALSE(allows(*constraint, 1 + 'x'));
}

TEST_F(ToolCalls, TheFirstCallMayEndTheAnswer) {
  const auto constraint = start(false);
  write(*constraint, R"(<tool_call>{"name":"f","arguments":1})");
  EXPECT_TRUE(allows(*constraint, 0));
  EXPECT_FALSE(allows(*constraint, 1 + '<'));
}

TEST_F(ToolCalls, ATokenMayHoldTheEndOfTheTagAndMore) {
  const auto constraint = start(true);
  write(*constraint, "<tool_call");
  const auto other = constraint->clone();
  constraint->accept(257);  // >{
  EXPECT_FALSE(allows(*constraint, 1 + 'x'));
  write(*constraint, "\"name\"");
  other->accept(258);  // >x: no call, then
  EXPECT_TRUE(allows(*other, 1 + 'x'));
}

TEST(KnownTokens, RowsWithoutATokenAreForbidden) {
  const auto constraint = known_tokens(70, 200)->clone();
  EXPECT_EQ(constraint->allowed().size(), 4);
  EXPECT_TRUE(allows(*constraint, 0));
  EXPECT_TRUE(allows(*constraint, 69));
  EXPECT_FALSE(allows(*constraint, 70));
  EXPECT_FALSE(allows(*constraint, 199));
}

}  // namespace
}  // namespace adze::serve
