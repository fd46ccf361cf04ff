#include "serve/answer.h"

#include <gtest/gtest.h>

#include "infer/loaded_model.h"
#include "text/byte_alphabet.h"

namespace adze::serve {
namespace {

// 0 <s>, which begins each text, 1 <|end|>, then 256 bytes.
constexpr int32_t kFirstByte = 2;

text::Tokenizer tokenizer_with_begin() {
  text::TokenizerSpec spec;
  spec.pre_tokenizer = "smollm";
  spec.tokens = {"<s>", "<|end|>"};
  spec.kinds = {text::TokenKind::kControl, text::TokenKind::kControl};
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    spec.tokens.push_back(text::alphabet_from_bytes({&text, 1}));
    spec.kinds.push_back(text::TokenKind::kNormal);
  }
  spec.begin_of_text = 0;
  spec.end_of_text = 1;
  spec.add_begin_of_text = true;
  return text::Tokenizer(std::move(spec));
}

infer::SampledToken scored(int32_t token) {
  return {.token = token, .logprob = -1.0F, .top_logprobs = {}};
}

// The text as it was given; what it has not, offsets do not count.
TEST(Answer, EchoesThePromptAsItWasGiven) {
  const text::Tokenizer tokenizer = tokenizer_with_begin();
  const std::vector<std::string> texts = {"ab", "<s>ab"};
  const std::vector<std::string> offsets = {"[0,0,1]", "[0,3,4]"};
  CompletionRequest request;
  request.echo = true;
  request.stream = true;
  request.logprobs = 0;
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string& text : texts) {
    request.prompts.emplace_back(text);
    prompts.push_back(tokenizer.encode(text, text::SpecialTokens::kParse));
    infer::add_begin_of_text(tokenizer, prompts.back());
  }
  const std::vector<std::string> warnings;
  Metrics metrics;
  Answer answer(request, tokenizer, prompts, warnings, metrics);
  for (size_t i = 0; i < texts.size(); ++i) {
    ASSERT_EQ(prompts[i], (std::vector<int32_t>{0, kFirstByte + 'a', kFirstByte + 'b'}));
    AnswerEvent event;
    event.kind = AnswerEvent::Kind::kPrompt;
    event.prompt = static_cast<int64_t>(i);
    event.prompt_report.logprobs = {scored(prompts[i][1]), scored(prompts[i][2])};
    const std::vector<Json> chunks = answer.take(std::move(event));
    ASSERT_EQ(chunks.size(), 1U);
    const Json& choice = chunks[0]["choices"][0];
    EXPECT_EQ(choice["text"].get<std::string>(), texts[i]);
    EXPECT_EQ(choice["logprobs"]["text_offset"].dump(), offsets[i]);
  }
  AnswerEvent event;
  event.text = "c";
  event.tokens = {scored(1), scored(kFirstByte + 'c')};
  const std::vector<Json> chunks = answer.take(std::move(event));
  ASSERT_EQ(chunks.size(), 1U);
  EXPECT_EQ(chunks[0]["choices"][0]["logprobs"]["text_offset"].dump(), "[2,2]");
}

}  // namespace
}  // namespace adze::serve
