#include "serve/answer_stream.h"

#include <boost/asio/post.hpp>

namespace adze::serve {
namespace {

constexpr int64_t kPictureTokens = 16;

}  // namespace

std::shared_ptr<Mailbox> Mailbox::make(boost::asio::io_context& context) {
  return {new Mailbox(context), [&context](Mailbox* mailbox) {
            boost::asio::post(context, [owned = std::unique_ptr<Mailbox>(mailbox)] {});
          }};
}

void Mailbox::post(AnswerEvent event) {
  boost::asio::post(context_, [self = shared_from_this(), event = std::move(event)]() mutable {
    self->events_.push_back(std::move(event));
    self->signal_->notify();
  });
}

AnswerEvent Mailbox::take() {
  AnswerEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

AnswerStream::Sample& AnswerStream::sample(int64_t index) {
  while (static_cast<int64_t>(samples_.size()) <= index) {
    samples_.push_back({.characters = {}, .stops = text::StopMatcher(options_.stop), .held = {}});
  }
  return samples_[static_cast<size_t>(index)];
}

AnswerEvent AnswerStream::event(AnswerEvent::Kind kind, int64_t sample) const {
  AnswerEvent event;
  event.kind = kind;
  event.prompt = options_.prompt;
  event.sample = sample;
  return event;
}

void AnswerStream::on_prompt(const infer::PromptReport& report) {
  AnswerEvent heard = event(AnswerEvent::Kind::kPrompt, 0);
  heard.prompt_report = report;
  mailbox_->post(std::move(heard));
}

bool AnswerStream::on_token(int64_t index,
                            const infer::SampledToken& token,
                            const infer::CachedText& text) {
  Sample& state = sample(index);
  const std::string shown =
      state.stops.push(state.characters.push(tokenizer_.token_bytes(token.token)));
  state.tokens += 1;
  if (options_.keep_tokens) {
    state.held.push_back(token);
  }
  const bool picture = options_.cache_picture && state.tokens % kPictureTokens == 1;
  AnswerEvent heard = event(AnswerEvent::Kind::kText, index);
  heard.text = shown;
  heard.tokens = std::exchange(state.held, {});
  if (picture) {
    heard.cache = CacheState{text.figures(), text.kept()};
  }
  if (!heard.text.empty() || !heard.tokens.empty() || picture) {
    mailbox_->post(std::move(heard));
  }
  return !state.stops.stopped();
}

void AnswerStream::on_finish(int64_t index, const infer::FinishReport& report) {
  Sample& state = sample(index);
  AnswerEvent heard = event(AnswerEvent::Kind::kFinish, index);
  if (!state.stops.stopped()) {
    heard.text = state.stops.push(state.characters.finish());
  }
  if (!state.stops.stopped()) {
    heard.text += state.stops.finish();
  }
  heard.tokens = std::exchange(state.held, {});
  if (options_.keep_end_token && report.end_token) {
    heard.tokens.push_back(*report.end_token);
  }
  heard.finish = report;
  heard.generated = state.tokens + (report.end_token ? 1 : 0);  // what was sampled
  heard.cache = CacheState{report.cache, report.kept};
  mailbox_->post(std::move(heard));
}

void AnswerStream::on_failure(std::exception_ptr failure) {
  AnswerEvent heard = event(AnswerEvent::Kind::kFailure, 0);
  heard.failure = std::move(failure);
  mailbox_->post(std::move(heard));
}

}  // namespace adze::serve
