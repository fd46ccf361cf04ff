#pragma once
// What the scheduler remembers of a request and of each of its texts. Internal to the scheduler.

#include <utility>

#include "infer/prompt_lookup.h"
#include "infer/scheduler.h"

namespace adze::infer {

inline double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

class Scheduler::Job {
 public:
  Job(ScheduledRequest r, std::shared_ptr<RequestObserver> o, bool e, SwapReservation s)
      : request(std::move(r)), observer(std::move(o)), evicts(e), swap(std::move(s)) {}

  const ScheduledRequest request;
  const std::shared_ptr<RequestObserver> observer;
  const bool evicts;
  const Clock::time_point submitted = Clock::now();
  std::atomic<bool> cancelled = false;

  // Of the thread that steps:
  SwapReservation swap;   // of samples to come
  bool over = false;      // nothing more is said to the observer
  bool admitted = false;  // for the first time
  PromptReport prompt;
};

struct Scheduler::Sample {
  JobPtr job;
  int64_t index;
  Sampler sampler;
  std::unique_ptr<SamplingConstraint> constraint;
  int64_t before;               // tokens of the text that it resumes, which are not in `tokens`
  std::vector<int32_t> tokens;  // prompt, answer
  std::unique_ptr<CachedText> text;
  std::optional<SavedBytes> saved;  // the text, while it makes room
  SwapReservation swap;             // for that
  bool ended = false;
  bool decoding = false;  // has its first token
  std::optional<PromptLookup> lookup;
  // The newest token and guesses of what follows, while they are checked.
  std::vector<int32_t> step;
  int64_t trusted = 1;  // guesses of the next step, at most
  Clock::time_point first_token;

  Sample(JobPtr j, int64_t i, int64_t vocab_size)
      : job(std::move(j)),
        index(i),
        sampler(options(job->request.sampling, i), vocab_size),
        constraint(job->request.constraint ? job->request.constraint->clone() : nullptr),
        before(job->request.resumes ? job->request.resumes->tokens : 0),
        tokens(job->request.prompt),
        swap(job->swap.split(job->swap.bytes() / (job->request.samples - index))) {}

  static SamplingOptions options(SamplingOptions options, int64_t index) {
    options.seed += static_cast<uint64_t>(index);
    return options;
  }
  int64_t prompt_tokens() const { return static_cast<int64_t>(job->request.prompt.size()); }
  int64_t generated() const { return static_cast<int64_t>(tokens.size()) - prompt_tokens(); }
  int64_t total() const { return before + static_cast<int64_t>(tokens.size()); }
  int64_t length() const { return text ? text->length() - before : 0; }  // of `tokens`
  // The text as it lies on disk, where that is what there is of it.
  const SavedBytes* on_disk() const {
    if (text) {
      return nullptr;
    }
    const auto& resumes = job->request.resumes;
    return saved ? &*saved : resumes ? &resumes->data : nullptr;
  }
  bool recomputable() const { return before == 0 && text->recomputable(); }
  // Tokens that the cache does not hold yet: one while decoding.
  int64_t pending() const { return static_cast<int64_t>(tokens.size()) - length(); }
  bool scores_prompt() const { return job->request.prompt_logprobs && !decoding; }
};

}  // namespace adze::infer
