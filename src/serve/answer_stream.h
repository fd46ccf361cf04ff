#pragma once
// From the scheduler's thread to the server's: what a request's observer hears becomes text in
// whole characters, ended by stop strings, in a mailbox that a coroutine empties.

#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "infer/scheduler.h"
#include "serve/http_server.h"
#include "text/stream.h"
#include "text/tokenizer.h"

namespace adze::serve {

struct CacheState {
  infer::CacheFigures figures;
  std::vector<std::vector<infer::PositionRange>> kept;  // by layer
};

struct AnswerEvent {
  enum class Kind { kPrompt, kText, kFinish, kFailure };
  Kind kind = Kind::kText;
  int64_t prompt = 0;  // which of the request's prompts
  int64_t sample = 0;
  std::string text;                           // that came with this event
  std::vector<infer::SampledToken> tokens;    // likewise
  infer::PromptReport prompt_report;          // kPrompt
  std::optional<infer::FinishReport> finish;  // kFinish
  int64_t generated = 0;                      // kFinish: tokens sampled, an end token included
  std::optional<CacheState> cache;            // now and then, if asked for
  std::exception_ptr failure;                 // kFailure
};

// All members but post() belong to the server's thread.
class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  // Whoever lets go last, it ends on the server's thread.
  static std::shared_ptr<Mailbox> make(boost::asio::io_context& context);

  void post(AnswerEvent event);  // any thread
  bool empty() const { return events_.empty(); }
  AnswerEvent take();
  const std::shared_ptr<Signal>& signal() const { return signal_; }

 private:
  explicit Mailbox(boost::asio::io_context& context)
      : context_(context), signal_(std::make_shared<Signal>(context)) {}

  boost::asio::io_context& context_;
  std::shared_ptr<Signal> signal_;
  std::deque<AnswerEvent> events_;
};

struct AnswerStreamOptions {
  int64_t prompt = 0;
  std::vector<std::string> stop;
  bool keep_tokens = false;     // for log-probabilities
  bool keep_end_token = false;  // with the others, though it has no text
  bool cache_picture = false;   // every kPictureTokens tokens
};

class AnswerStream : public infer::RequestObserver {
 public:
  // The tokenizer belongs to the model whose scheduler this is for, and so outlives it.
  AnswerStream(std::shared_ptr<Mailbox> mailbox,
               const text::Tokenizer& tokenizer,
               AnswerStreamOptions options)
      : mailbox_(std::move(mailbox)), tokenizer_(tokenizer), options_(std::move(options)) {}

  void on_prompt(const infer::PromptReport& report) override;
  bool on_token(int64_t sample,
                const infer::SampledToken& token,
                const infer::CachedText& text) override;
  void on_finish(int64_t sample, const infer::FinishReport& report) override;
  void on_failure(std::exception_ptr failure) override;

 private:
  struct Sample {
    text::Utf8Stream characters;
    text::StopMatcher stops;
    int64_t tokens = 0;
    std::vector<infer::SampledToken> held;  // whose text is held back
  };
  Sample& sample(int64_t index);
  AnswerEvent event(AnswerEvent::Kind kind, int64_t sample) const;

  std::shared_ptr<Mailbox> mailbox_;
  const text::Tokenizer& tokenizer_;
  AnswerStreamOptions options_;
  std::vector<Sample> samples_;
};

}  // namespace adze::serve
