#pragma once
// Continuous batching: each step gives every text that decodes its next token and spends what is
// left of the row budget on prompts, in pieces. Texts come in as pages allow; where they run out,
// the newest text makes room and goes on later. What a text says does not depend on any of it.
//
// Order: owners take turns (turn_queue.h). A long prompt gets an equal share of the rows, so that a
// short one is not kept waiting.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "infer/finish_reason.h"
#include "infer/sampler.h"
#include "infer/step_engine.h"
#include "infer/swap_space.h"
#include "infer/turn_queue.h"

namespace adze::infer {

using Clock = std::chrono::steady_clock;

struct SchedulerOptions {
  int64_t max_sequences = 16;                 // that decode or prefill at once
  int64_t max_queue = 1024;                   // requests that wait; twice as many of many owners
  int64_t step_rows = 256;                    // of prompts, in a step
  std::shared_ptr<SwapSpace> swap = nullptr;  // for texts that cannot be recomputed; none: refused
};

struct SampleTimings {
  double queue_seconds = 0;    // until first admitted
  double prefill_seconds = 0;  // from there to the first token
  double decode_seconds = 0;   // from there to the last
};

struct PromptReport {
  int64_t cached_tokens = 0;  // that another text had left in the cache
  double queue_seconds = 0;
  double prefill_seconds = 0;
  std::vector<SampledToken> logprobs;  // of prompt tokens 1, 2, ..., if asked for
};

// A text between two requests: on disk, so that it holds no pages and keeps nobody waiting.
struct KeptText {
  int64_t tokens;                // that its cache holds
  std::vector<int32_t> pending;  // sampled after these and not read yet: at most one
  SavedBytes data;               // CachedText::save()
  SwapReservation room;          // for it
};

struct FinishReport {
  FinishReason reason = FinishReason::kStop;
  std::optional<SampledToken> end_token;  // that ended it, not part of the answer
  SampleTimings timings;
  CacheFigures cache;
  std::vector<std::vector<PositionRange>> kept;
  std::shared_ptr<const KeptText> text;  // ScheduledRequest::keeps
};

// Hears of one request, on the thread that steps. Must not throw.
class RequestObserver {
 public:
  virtual ~RequestObserver() = default;
  virtual void on_prompt(const PromptReport& report) = 0;
  // False: the text is enough. `text` is what the cache holds before this token.
  virtual bool on_token(int64_t sample, const SampledToken& token, const CachedText& text) = 0;
  virtual void on_finish(int64_t sample, const FinishReport& report) = 0;
  // The whole request; nothing follows.
  virtual void on_failure(std::exception_ptr failure) = 0;
};

// Which tokens may come next; one a sample.
class SamplingConstraint {
 public:
  virtual ~SamplingConstraint() = default;
  virtual std::unique_ptr<SamplingConstraint> clone() const = 0;
  virtual std::span<const uint64_t> allowed() = 0;  // a bit a token
  virtual void accept(int32_t token) = 0;
};

struct ScheduledRequest {
  std::vector<int32_t> prompt;  // at least one token
  // What goes on with the prompt: a text of the same model, store and policy. It stays as it is.
  std::shared_ptr<const KeptText> resumes;
  bool keeps = false;        // the text, with its answer: one sample
  SamplingOptions sampling;  // sample i draws with seed + i
  int64_t samples = 1;
  int64_t max_tokens = 256;  // 0: the prompt alone
  std::vector<int32_t> end_tokens;
  // 0 to kMostGuesses: up to so many tokens that repetition suggests are checked with the next one.
  // Changes speed only; without effect under a policy that evicts.
  int64_t guesses = 0;
  std::optional<int64_t> prompt_logprobs;  // with so many alternatives
  std::shared_ptr<const SamplingConstraint> constraint;
  CacheChoice cache;
  std::string owner;  // owners take turns, whatever their tenants are
  std::optional<Clock::time_point> deadline;
};

// No room now: too many wait, or the disk for texts that make room is promised to others.
class QueueFull : public core::Error {
 public:
  using Error::Error;
};
class DeadlinePassed : public core::Error {
 public:
  using Error::Error;
};
class ContextExceeded : public core::Error {
 public:
  using Error::Error;
};

struct SchedulerFigures {
  int64_t waiting = 0;  // samples
  int64_t running = 0;
  int64_t preemptions = 0;
  int64_t steps = 0;
  int64_t prompt_tokens = 0;  // computed
  int64_t cached_tokens = 0;  // taken from the prefix cache
  int64_t generated_tokens = 0;
};

class Scheduler {
 public:
  class Job;
  using JobPtr = std::shared_ptr<Job>;

  Scheduler(StepEngine& engine, const SchedulerOptions& options);
  ~Scheduler();

  // Any thread. The observer lives at least until it has heard the end. Throws before anything is
  // queued: QueueFull; ContextExceeded; core::Error for what can never be served.
  JobPtr submit(ScheduledRequest request, std::shared_ptr<RequestObserver> observer);
  // All of them or none, of one owner. Throws core::InvalidOption also where the queue can never
  // hold as many.
  using Asked = std::pair<ScheduledRequest, std::shared_ptr<RequestObserver>>;
  std::vector<JobPtr> submit_all(std::vector<Asked> requests);
  // Any thread: the next step drops it. The observer hears nothing more once that step is over.
  void cancel(const JobPtr& job);
  // Any thread: until there is something to do, or wake(), or the time is over.
  void wait(std::chrono::milliseconds longest);
  void wake();
  SchedulerFigures figures() const;  // any thread
  // Any thread. Tokens, prompt and answer together, that a text may have: the context, or less
  // where the cache holds less; without bound for a policy that evicts, if the cache holds that.
  int64_t longest_text(const CacheChoice& choice) const;
  // Any thread. What a text that is kept should have at most, where nobody says how long it may
  // get: as the disk that is free now allows, but `least` where the disk can ever hold that.
  int64_t longest_kept_text(const CacheChoice& choice, int64_t least) const;

  // One step; false: nothing to do. Throws what is nobody's fault in particular (no memory): then
  // fail_all() is due.
  bool step();
  // Ends all requests so; the scheduler is as good as new.
  void fail_all(const std::exception_ptr& failure);

 private:
  struct Sample;
  using SamplePtr = std::unique_ptr<Sample>;
  using Queue = TurnQueue<SamplePtr>;
  struct Planned {
    Sample* sample;
    int64_t rows;  // guesses included
    int64_t wanted;
  };

  JobPtr make_job(ScheduledRequest request, std::shared_ptr<RequestObserver> observer) const;
  int64_t longest_text(const CacheChoice& choice, int64_t most_bytes) const;
  void refuse_if_full(const std::string& owner, int64_t count) const;
  void take_submitted();
  void drop_ended();
  void admit();
  void open_text(Sample& sample);
  int64_t bytes_soon(const Sample& sample) const;
  void report_admission(Sample& sample);
  std::vector<Planned> plan();
  bool make_room(std::vector<Planned>& planned);
  bool preempt_waiting();
  void preempt(Sample& victim);
  void run(const std::vector<Planned>& planned);
  void advance(Sample& sample, const float* logits, int64_t rows, int64_t wanted);
  void report_prompt(Sample& sample, const float* logits, int64_t rows, int64_t wanted);
  void fork_samples(Sample& sample, std::span<const float> logits);
  void sample_token(Sample& sample, std::span<const float> logits);
  void guess(Sample& sample) const;
  void check_guesses(Sample& sample, const float* logits);
  void finish(Sample& sample, FinishReason reason, std::optional<SampledToken> end_token = {});
  void publish(const Sample& sample);
  std::shared_ptr<const KeptText> keep(Sample& sample) const;
  void fail(Job& job, const std::exception_ptr& failure);
  void remove_ended();
  void count();

  StepEngine& engine_;
  SchedulerOptions options_;
  SamplerWorkspace workspace_;

  std::list<SamplePtr> running_;  // oldest first
  Queue waiting_;                 // forks hold their text

  mutable std::mutex mutex_;  // what follows
  std::condition_variable changed_;
  std::deque<JobPtr> submitted_;
  bool woken_ = false;
  std::map<std::string, int64_t> queued_;  // by owner, requests that nobody has looked at yet
  SchedulerFigures figures_;
};

}  // namespace adze::infer
