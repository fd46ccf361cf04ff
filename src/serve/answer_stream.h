#pragma once
// From the scheduler's thread to the server's: what a request's observer hears becomes text in
// whole characters, ended by stop strings, in a mailbox that a coroutine empties.

#include <atomic>
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
  std::optional<CacheState> cache;            // kFinish, and now and then if asked for
  infer::SampleTimings timings;               // with the cache: up to now
  int64_t generated = 0;                      // likewise: tokens sampled, an end token included
  std::exception_ptr failure;                 // kFailure
};

// All members but post() belong to the server's thread.
class Mailbox : public std::enable_shared_from_this<Mailbox> {
 public:
  // Whoever lets go last, it ends on the server's thread. `most`: events that may wait.
  static std::shared_ptr<Mailbox> make(boost::asio::io_context& context, int64_t most);

  // Any thread. False: full, and the event is lost; a failure is always taken.
  bool post(AnswerEvent event);
  bool empty() const { return events_.empty(); }
  AnswerEvent take();
  const std::shared_ptr<Signal>& signal() const { return signal_; }

 private:
  Mailbox(boost::asio::io_context& context, int64_t most)
      : context_(context), most_(most), signal_(std::make_shared<Signal>(context)) {}

  boost::asio::io_context& context_;
  int64_t most_;
  std::atomic<int64_t> waiting_ = 0;
  std::shared_ptr<Signal> signal_;
  std::deque<AnswerEvent> events_;
};

struct AnswerStreamOptions {
  int64_t prompt = 0;
  std::vector<std::string> stop;
  bool keep_tokens = false;     // for log-probabilities
  bool keep_end_token = false;  // with the others, though it has no text
  bool cache_picture = false;   // every kPictureTokens tokens
  bool control_text = false;    // control tokens are text, too
};

class AnswerStream : public infer::RequestObserver {
 public:
  // The tokenizer belongs to the model whose scheduler this is for, and so outlives it.
  AnswerStream(std::shared_ptr<Mailbox> mailbox,
               const text::Tokenizer& tokenizer,
               AnswerStreamOptions options)
      : mailbox_(std::move(mailbox)),
        tokenizer_(tokenizer),
        options_(std::move(options)),
        stops_(options_.stop) {}

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
    infer::Clock::time_point first_token;
    std::vector<infer::SampledToken> held;  // whose text is held back
  };
  Sample& sample(int64_t index);
  AnswerEvent event(AnswerEvent::Kind kind, int64_t sample) const;
  bool send(AnswerEvent event);

  std::shared_ptr<Mailbox> mailbox_;
  const text::Tokenizer& tokenizer_;
  AnswerStreamOptions options_;
  text::StopMatcher stops_;  // at the start of each sample
  infer::PromptReport prompt_report_;
  std::vector<Sample> samples_;
  bool given_up_ = false;  // nobody reads
};

}  // namespace adze::serve
