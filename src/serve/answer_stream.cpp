#include "serve/answer_stream.h"

#include <utility>

#include <boost/asio/post.hpp>

#include "serve/api_error.h"

namespace adze::serve {
namespace {

constexpr int64_t kPictureTokens = 16;

}  // namespace

std::shared_ptr<Mailbox> Mailbox::make(boost::asio::io_context& context, int64_t most) {
  return {new Mailbox(context, most), [&context](Mailbox* mailbox) {
            boost::asio::post(context, [owned = std::unique_ptr<Mailbox>(mailbox)] {});
          }};
}

bool Mailbox::post(AnswerEvent event) {
  if (waiting_ >= most_ && event.kind != AnswerEvent::Kind::kFailure) {
    return false;
  }
  ++waiting_;
  boost::asio::post(context_, [self = shared_from_this(), event = std::move(event)]() mutable {
    self->events_.push_back(std::move(event));
    self->signal_->notify();
  });
  return true;
}

AnswerEvent Mailbox::take() {
  AnswerEvent event = std::move(events_.front());
  events_.pop_front();
  --waiting_;
  return event;
}

AnswerStream::Sample& AnswerStream::sample(int64_t index) {
  while (static_cast<int64_t>(samples_.size()) <= index) {
    samples_.push_back({.characters = {}, .stops = stops_, .first_token = {}, .held = {}});
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

// Who stops reading does not make the server keep what is written meanwhile. False: given up.
bool AnswerStream::send(AnswerEvent event) {
  if (!given_up_ && !mailbox_->post(std::move(event))) {
    given_up_ = true;
    AnswerEvent heard;
    heard.kind = AnswerEvent::Kind::kFailure;
    heard.failure = std::make_exception_ptr(
        ApiError(503,
                 "server_error",
                 "[stream] expected its events to be read, got none read for too long",
                 "",
                 "slow_reader"));
    mailbox_->post(std::move(heard));
  }
  return !given_up_;
}

void AnswerStream::on_prompt(const infer::PromptReport& report) {
  prompt_report_ = report;
  prompt_report_.logprobs.clear();
  AnswerEvent heard = event(AnswerEvent::Kind::kPrompt, 0);
  heard.prompt_report = report;
  send(std::move(heard));
}

bool AnswerStream::on_token(int64_t index,
                            const infer::SampledToken& token,
                            const infer::CachedText& text) {
  Sample& state = sample(index);
  std::string shown;
  if (options_.control_text || !tokenizer_.is_control(token.token)) {
    shown = state.stops.push(state.characters.push(tokenizer_.token_bytes(token.token)));
  }
  if (state.tokens++ == 0) {
    state.first_token = infer::Clock::now();
  }
  if (options_.keep_tokens) {
    state.held.push_back(token);
  }
  const bool picture = options_.cache_picture && state.tokens % kPictureTokens == 1;
  AnswerEvent heard = event(AnswerEvent::Kind::kText, index);
  heard.text = std::move(shown);
  heard.tokens = std::exchange(state.held, {});
  if (picture) {
    heard.cache = CacheState{text.figures(), text.kept()};
    heard.generated = state.tokens;
    heard.timings = {
        .queue_seconds = prompt_report_.queue_seconds,
        .prefill_seconds = prompt_report_.prefill_seconds,
        .decode_seconds =
            std::chrono::duration<double>(infer::Clock::now() - state.first_token).count()};
  }
  const bool something = !heard.text.empty() || !heard.tokens.empty() || picture;
  const bool wanted = something ? send(std::move(heard)) : !given_up_;
  return wanted && !state.stops.stopped();
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
  heard.timings = report.timings;
  heard.cache = CacheState{report.cache, report.kept};
  send(std::move(heard));
}

void AnswerStream::on_failure(std::exception_ptr failure) {
  AnswerEvent heard = event(AnswerEvent::Kind::kFailure, 0);
  heard.failure = std::move(failure);
  send(std::move(heard));
}

}  // namespace adze::serve
