#include "serve/answer_stream.h"

#include <gtest/gtest.h>

#include "serve/api_error.h"
#include "text/byte_alphabet.h"

namespace adze::serve {
namespace {

text::Tokenizer byte_tokenizer() {
  text::TokenizerSpec spec;
  spec.pre_tokenizer = "smollm";
  spec.tokens = {"<|end|>"};
  spec.kinds = {text::TokenKind::kControl};
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    spec.tokens.push_back(text::alphabet_from_bytes({&text, 1}));
    spec.kinds.push_back(text::TokenKind::kNormal);
  }
  spec.end_of_text = 0;
  return text::Tokenizer(std::move(spec));
}

class NoText : public infer::CachedText {
 public:
  int64_t length() const override { return 0; }
  int64_t rows_before_cut() const override { return 0; }
  int64_t bytes_to_append(int64_t /*rows*/) const override { return 0; }
  std::unique_ptr<CachedText> fork() const override { return nullptr; }
  void begin_turn(int64_t, int64_t) override {}
  int64_t rows_to_guess() const override { return 0; }
  void truncate(int64_t /*length*/) override {}
  bool recomputable() const override { return true; }
  void save(core::StateWriter& /*writer*/) const override {}
  infer::CacheFigures figures() const override { return {}; }
  std::vector<std::vector<infer::PositionRange>> kept() const override { return {}; }
};

class Stream {
 public:
  explicit Stream(AnswerStreamOptions options, int64_t most = 100)
      : mailbox_(Mailbox::make(context_, most)),
        stream_(mailbox_, tokenizer_, std::move(options)) {}
  ~Stream() {
    mailbox_.reset();
    context_.restart();
    context_.run();
  }

  bool say(int32_t token) {
    return stream_.on_token(
        0, {.token = token, .logprob = std::nullopt, .top_logprobs = {}}, text_);
  }
  bool say(char letter) { return say(1 + letter); }
  void finish() { stream_.on_finish(0, {}); }

  std::vector<AnswerEvent> events() {
    context_.restart();
    context_.poll();
    std::vector<AnswerEvent> events;
    while (!mailbox_->empty()) {
      events.push_back(mailbox_->take());
    }
    return events;
  }
  std::string shown() {
    std::string text;
    for (const AnswerEvent& event : events()) {
      text += event.text;
    }
    return text;
  }

 private:
  boost::asio::io_context context_;
  text::Tokenizer tokenizer_ = byte_tokenizer();
  std::shared_ptr<Mailbox> mailbox_;
  AnswerStream stream_;
  NoText text_;
};

TEST(AnswerStream, ControlTokensHaveNoTextUnlessAskedFor) {
  for (const bool asked : {false, true}) {
    Stream stream({.stop = {}, .control_text = asked});
    stream.say('a');
    stream.say(0);
    stream.say('b');
    EXPECT_EQ(stream.shown(), asked ? "a<|end|>b" : "ab");
  }
}

TEST(AnswerStream, StopsBeforeAStopString) {
  Stream stream({.stop = {"bc"}});
  EXPECT_TRUE(stream.say('a'));
  EXPECT_TRUE(stream.say('b'));
  EXPECT_FALSE(stream.say('c'));
  stream.finish();
  EXPECT_EQ(stream.shown(), "a");
}

TEST(AnswerStream, PicturesComeWithTimings) {
  Stream stream({.stop = {}, .cache_picture = true});
  for (int i = 0; i < 33; ++i) {
    stream.say('a');
  }
  int pictures = 0;
  for (const AnswerEvent& event : stream.events()) {
    if (event.cache) {
      EXPECT_EQ(event.generated, 1 + 16 * pictures++);
      EXPECT_GE(event.timings.decode_seconds, 0);
    }
  }
  EXPECT_EQ(pictures, 3);
}

TEST(AnswerStream, GivesUpWhoDoesNotRead) {
  Stream stream({.stop = {}}, 5);
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(stream.say('a'));
  }
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(stream.say('b'));
  }
  stream.finish();
  const auto events = stream.events();
  ASSERT_EQ(events.size(), 6);
  ASSERT_EQ(events.back().kind, AnswerEvent::Kind::kFailure);
  try {
    std::rethrow_exception(events.back().failure);
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 503);
    EXPECT_EQ(error.body()["error"]["code"], "slow_reader");
  }
}

TEST(AnswerStream, GoesOnWhereEventsAreRead) {
  Stream stream({.stop = {}}, 5);
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(stream.say('a'));
    EXPECT_EQ(stream.shown(), "a");
  }
}

}  // namespace
}  // namespace adze::serve
