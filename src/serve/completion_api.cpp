#include "serve/completion_api.h"

#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "model/model.h"
#include "serve/answer.h"
#include "serve/answer_stream.h"
#include "serve/completion_json.h"

namespace adze::serve {
namespace {

using boost::asio::awaitable;

// Events that a reader may be behind: seconds of one answer, a few steps of many.
constexpr int64_t kMostWaiting = 4096;
constexpr int64_t kMostWaitingChoice = 8;

// Cancels what is still running when a client goes or an answer fails.
class Jobs {
 public:
  explicit Jobs(infer::Scheduler& scheduler) : scheduler_(scheduler) {}
  ~Jobs() {
    for (const auto& job : jobs_) {
      scheduler_.cancel(job);
    }
  }
  void add(infer::Scheduler::JobPtr job) { jobs_.push_back(std::move(job)); }
  void release() { jobs_.clear(); }

 private:
  infer::Scheduler& scheduler_;
  std::vector<infer::Scheduler::JobPtr> jobs_;
};

// Queues all prompts, or none and throws.
void submit(const CompletionRequest& request,
            const Submission& submission,
            ServedModel& model,
            const std::shared_ptr<Mailbox>& mailbox,
            Jobs& jobs) {
  std::vector<infer::Scheduler::Asked> asked;
  for (size_t i = 0; i < submission.prompts.size(); ++i) {
    infer::ScheduledRequest one = submission.scheduled;
    one.prompt = submission.prompts[i];
    one.max_tokens = submission.max_tokens[i];
    auto stream = std::make_shared<AnswerStream>(
        mailbox,
        model.loaded().tokenizer,
        AnswerStreamOptions{.prompt = static_cast<int64_t>(i),
                            .stop = request.stop,
                            .keep_tokens = request.logprobs.has_value(),
                            // lm-eval drops the last of a completion's tokens, whatever it is.
                            .keep_end_token = request.logprobs && !request.chat,
                            .cache_picture = request.cache_picture && request.stream,
                            // Some models' tags of calls are control tokens.
                            .control_text = request.tool_choice.kind != ToolChoice::Kind::kNone});
    asked.emplace_back(std::move(one), std::move(stream));
  }
  for (auto& job : model.scheduler().submit_all(std::move(asked))) {
    jobs.add(std::move(job));
  }
}

// Throws ApiError (409): a live session goes with other things than these.
void bind(Session& session, SessionBinding asked) {
  const SessionBinding& own = session.binding;
  if (!session.answered()) {
    session.binding = std::move(asked);
    return;
  }
  for (const auto& [field, has, got] : {std::tuple("model", &own.model, &asked.model),
                                        {"model", &own.weights, &asked.weights},
                                        {"kv_store", &own.store, &asked.store},
                                        {"kv_policy", &own.policy, &asked.policy}}) {
    if (*got != *has) {
      throw session_conflict(session, field, *has, *got);
    }
  }
}

// Sends the chunks of an answer as they come. False: the answer ended with an error, which was
// sent, too. Throws ApiError and core::Error as long as nothing has been sent.
// on_finished: before the last chunks are sent, so that whoever has read them may go on.
awaitable<bool> follow(Exchange& exchange,
                       Mailbox& mailbox,
                       Answer& answer,
                       const std::function<void()>& on_finished,
                       bool& streaming) {
  std::optional<ApiError> failure;
  while (!answer.finished()) {
    if (exchange.peer_gone()) {
      throw PeerGone();
    }
    if (mailbox.empty()) {
      co_await mailbox.signal()->wait();
      continue;
    }
    std::vector<Json> chunks;
    try {
      chunks = answer.take(mailbox.take());
      if (answer.finished()) {
        on_finished();
      }
    } catch (const std::exception& error) {
      if (!streaming) {
        throw;
      }
      failure = to_api_error(error);
    }
    if (failure) {
      exchange.note(*failure);
      co_await exchange.send_event(dump(failure->body()));
      co_await exchange.end_events();
      co_return false;
    }
    for (const Json& chunk : chunks) {
      if (!streaming) {
        streaming = true;
        co_await exchange.begin_events();
      }
      co_await exchange.send_event(dump(chunk));
    }
  }
  co_return true;
}

}  // namespace

awaitable<void> answer_completion(const CompletionContext& context,
                                  Exchange& exchange,
                                  const CompletionRequest& request,
                                  NamedModel named) {
  if (!named.model->generates()) {
    throw bad_request("model",
                      fmt::format("[model] expected a model that writes text, got the encoder {}; "
                                  "use /v1/embeddings",
                                  named.model->loaded().model->spec.name));
  }
  Sessions::Lease* session = context.session;
  if (session != nullptr) {
    bind(session->session(),
         session_binding(request.model, named, cache_choice(request, named, "")));
  }
  const std::function<Submission()> prepare = [&] {
    return prepare_submission(request,
                              named,
                              context.tenant,
                              session != nullptr ? &session->session().state : nullptr,
                              context.limits,
                              context.since);
  };
  Submission submission = co_await context.workers.run(prepare);
  const auto choices = static_cast<int64_t>(submission.prompts.size()) * request.samples;
  const auto mailbox =
      Mailbox::make(context.io, std::max(kMostWaiting, kMostWaitingChoice * choices));
  Answer answer(request,
                named.model->loaded().tokenizer,
                submission.prompts,
                submission.warnings,
                context.metrics);
  Jobs jobs(named.model->scheduler());
  submit(request, submission, *named.model, mailbox, jobs);
  exchange.watch_peer(mailbox->signal());
  const std::function<void()> on_finished = [&] {
    jobs.release();
    if (session == nullptr) {
      return;
    }
    // A stop string leaves tokens in the cache that are not in the answer.
    const infer::FinishReport& finish = answer.finish();
    const bool whole = finish.reason != infer::FinishReason::kStop || finish.end_token;
    SessionState state = std::move(submission.turn->state);
    end_turn(state, named.model->loaded().tokenizer, answer.said(), whole ? finish.text : nullptr);
    session->finish(std::move(state));
  };
  bool streaming = false;
  if (!co_await follow(exchange, *mailbox, answer, on_finished, streaming)) {
    co_return;
  }
  if (!request.stream) {
    HttpResponse response;
    const std::function<std::string()> write = [&] { return dump(answer.whole()); };
    if (request.logprobs) {  // large
      response.body = co_await context.workers.run(write);
    } else {
      response.body = write();
    }
    co_await exchange.respond(std::move(response));
    co_return;
  }
  if (!streaming) {
    co_await exchange.begin_events();
  }
  if (request.include_usage) {
    co_await exchange.send_event(dump(answer.usage_chunk()));
  }
  co_await exchange.send_event("[DONE]");
  co_await exchange.end_events();
}

}  // namespace adze::serve
