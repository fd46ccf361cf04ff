#include "serve/submission.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include <fmt/format.h>

#include "serve/constraints.h"
#include "serve/prompt_tokens.h"

namespace adze::serve {
namespace {

// Log-probabilities of one request, alternatives included: some 200 bytes each as JSON.
constexpr int64_t kMostLogprobs = int64_t{1} << 21;

constexpr int64_t kMostText = std::numeric_limits<int64_t>::max();
// Tokens of a session's answer without max_tokens: not fewer because others use the disk.
constexpr int64_t kSessionAnswer = 1024;

// The longest answer to a prompt; throws where they do not fit the context together. usual: of both
// together, where the request names no longest answer.
int64_t answer_tokens(const CompletionRequest& request,
                      const AnswerLimits& limits,
                      int64_t prompt,
                      int64_t context,
                      bool evicts,
                      int64_t usual) {
  if (limits.max_tokens && request.max_tokens.value_or(0) > *limits.max_tokens) {
    throw bad_request(
        "max_tokens",
        fmt::format(
            "[max_tokens] expected at most {}, got {}", *limits.max_tokens, *request.max_tokens));
  }
  int64_t answer = request.max_tokens.value_or(evicts ? context : context - prompt);
  if (!request.max_tokens) {
    // At least one token: whoever finds no room for it says which room that is.
    answer = std::min(
        {answer, limits.max_tokens.value_or(answer), std::max<int64_t>(usual - prompt, 1)});
  }
  const bool fits = prompt + answer <= context && (answer == 0 || prompt < context);
  if (!evicts && !fits) {
    const char* field = request.chat ? "messages" : "prompt";
    throw bad_request(
        field,
        fmt::format("[{}] expected at most {} tokens, prompt and answer together (the context), "
                    "got {} and max_tokens {}; nothing is cut: shorten the prompt, ask for less, "
                    "or choose an evicting kv_policy such as window",
                    field,
                    context,
                    prompt,
                    request.max_tokens ? fmt::format("{}", answer) : "not given"),
        "context_length_exceeded");
  }
  return answer;
}

void limit_logprobs(const CompletionRequest& request, const Submission& submission) {
  if (!request.logprobs) {
    return;
  }
  int64_t tokens = 0;
  for (size_t i = 0; i < submission.prompts.size(); ++i) {
    tokens += submission.max_tokens[i] +
              (request.echo ? static_cast<int64_t>(submission.prompts[i].size()) : 0);
  }
  const int64_t wanted = tokens * request.samples * (1 + *request.logprobs);
  if (wanted > kMostLogprobs) {
    throw bad_request(request.chat ? "top_logprobs" : "logprobs",
                      fmt::format("[logprobs] expected at most {} values (tokens x answers x "
                                  "alternatives), got up to {}: lower max_tokens, n or the "
                                  "alternatives",
                                  kMostLogprobs,
                                  wanted));
  }
}

}  // namespace

std::optional<infer::Clock::time_point> answer_deadline(const std::optional<double>& seconds,
                                                        const AnswerLimits& limits,
                                                        infer::Clock::time_point since) {
  const std::optional<double>& most = limits.timeout_seconds;
  if (seconds && most && *seconds > *most) {
    throw bad_request(
        "timeout_seconds",
        fmt::format("[timeout_seconds] expected at most {}, got {}", *most, *seconds));
  }
  const std::optional<double>& chosen = seconds ? seconds : most;
  if (!chosen) {
    return std::nullopt;
  }
  return since +
         std::chrono::duration_cast<infer::Clock::duration>(std::chrono::duration<double>(*chosen));
}

infer::CacheChoice cache_choice(const CompletionRequest& request,
                                const NamedModel& named,
                                const std::string& tenant) {
  infer::CacheChoice choice = named.model->default_cache();
  if (!request.kv_store.empty()) {
    choice.store = request.kv_store;
  }
  if (!request.kv_policy.empty()) {
    choice.policy = request.kv_policy;
  }
  choice.tenant = tenant + "\n" + request.cache_salt;
  choice.adapter = named.adapter;
  return choice;
}

Submission prepare_submission(const CompletionRequest& request,
                              const NamedModel& named,
                              const std::string& tenant,
                              const SessionState* session,
                              const AnswerLimits& limits,
                              infer::Clock::time_point since) {
  const infer::LoadedModel& loaded = named.model->loaded();
  const infer::ModelEngine& engine = named.model->engine();
  Submission submission;
  infer::ScheduledRequest& scheduled = submission.scheduled;
  scheduled.sampling = request.sampling;
  scheduled.sampling.logprobs = request.logprobs;
  scheduled.samples = request.samples;
  scheduled.guesses = request.guesses;
  scheduled.end_tokens = loaded.tokenizer.end_of_generation();
  if (request.ignore_eos) {
    for (const int32_t token : scheduled.end_tokens) {
      scheduled.sampling.logit_bias.push_back(fmt::format("{}:-inf", token));
    }
  }
  scheduled.cache = cache_choice(request, named, tenant);
  if (request.echo && request.logprobs) {
    scheduled.prompt_logprobs = request.logprobs;
  }
  scheduled.owner = tenant;
  scheduled.deadline = answer_deadline(request.timeout_seconds, limits, since);
  const bool evicts = engine.evicts(scheduled.cache);
  const int64_t context =
      evicts ? engine.context() : named.model->scheduler().longest_text(scheduled.cache);
  if (evicts && request.guesses > 0) {
    submission.warnings.push_back(
        fmt::format("guesses: without effect under kv_policy {}", scheduled.cache.policy));
  }
  int64_t before = 0;
  if (session != nullptr) {
    submission.turn = next_turn(loaded, request, *session, evicts ? 0 : context);
    submission.prompts = {std::move(submission.turn->tokens)};
    scheduled.resumes = submission.turn->state.cache;
    scheduled.keeps = true;
    before = submission.turn->state.tokens();
    if (submission.turn->anew) {
      submission.warnings.push_back("session: all messages were read anew");
    }
  } else {
    submission.prompts = prompt_tokens(loaded, request, evicts ? 0 : context);
  }
  for (const std::vector<int32_t>& prompt : submission.prompts) {
    const int64_t tokens = before + static_cast<int64_t>(prompt.size());
    const int64_t usual =
        scheduled.keeps && !request.max_tokens
            ? named.model->scheduler().longest_kept_text(scheduled.cache, tokens + kSessionAnswer)
            : kMostText;
    submission.max_tokens.push_back(answer_tokens(request, limits, tokens, context, evicts, usual));
  }
  limit_logprobs(request, submission);
  scheduled.constraint = make_constraint(*named.model, request);
  return submission;
}

}  // namespace adze::serve
