#include "serve/completion_api.h"

#include <algorithm>
#include <functional>
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
    jobs.add(model.scheduler().submit(std::move(one), std::move(stream)));
  }
}

// Sends the chunks of an answer as they come. False: the answer ended with an error, which was
// sent, too. Throws ApiError and core::Error as long as nothing has been sent.
awaitable<bool> follow(Exchange& exchange, Mailbox& mailbox, Answer& answer, bool& streaming) {
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
  const auto since = infer::Clock::now();
  const std::function<Submission()> prepare = [&] {
    return prepare_submission(request, named, context.tenant, context.limits, since);
  };
  const Submission submission = co_await context.workers.run(prepare);
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
  bool streaming = false;
  if (!co_await follow(exchange, *mailbox, answer, streaming)) {
    co_return;
  }
  jobs.release();
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
