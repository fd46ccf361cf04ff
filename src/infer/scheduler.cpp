#include "infer/scheduler.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "infer/prompt_lookup.h"

namespace adze::infer {
namespace {

// Prompt rows are handed out in this unit, a page of the cache.
constexpr int64_t kRowUnit = 32;

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

double mebibytes(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

}  // namespace

class Scheduler::Job {
 public:
  Job(ScheduledRequest r, std::shared_ptr<RequestObserver> o, bool e)
      : request(std::move(r)), observer(std::move(o)), evicts(e) {}

  const ScheduledRequest request;
  const std::shared_ptr<RequestObserver> observer;
  const bool evicts;
  const Clock::time_point submitted = Clock::now();
  std::atomic<bool> cancelled = false;

  // Of the thread that steps:
  bool over = false;      // nothing more is said to the observer
  bool admitted = false;  // for the first time
  PromptReport prompt;
};

struct Scheduler::Sample {
  JobPtr job;
  int64_t index;
  Sampler sampler;
  std::unique_ptr<SamplingConstraint> constraint;
  std::vector<int32_t> tokens;  // prompt, answer
  std::unique_ptr<CachedText> text;
  std::vector<std::byte> saved;  // the text, while it makes room
  int64_t swap_bytes = 0;        // reserved for that
  bool ended = false;
  bool decoding = false;  // has its first token
  std::optional<PromptLookup> lookup;
  std::vector<int32_t>
      step;             // the newest token and guesses of what follows, while they are checked
  int64_t trusted = 1;  // guesses of the next step, at most
  Clock::time_point first_token;

  Sample(JobPtr j, int64_t i, int64_t vocab_size)
      : job(std::move(j)),
        index(i),
        sampler(options(job->request.sampling, i), vocab_size),
        constraint(job->request.constraint ? job->request.constraint->clone() : nullptr),
        tokens(job->request.prompt) {}

  static SamplingOptions options(SamplingOptions options, int64_t index) {
    options.seed += static_cast<uint64_t>(index);
    return options;
  }
  int64_t prompt_tokens() const { return static_cast<int64_t>(job->request.prompt.size()); }
  int64_t generated() const { return static_cast<int64_t>(tokens.size()) - prompt_tokens(); }
  int64_t length() const { return text ? text->length() : 0; }
  // Tokens that the cache does not hold yet: one while decoding.
  int64_t pending() const { return static_cast<int64_t>(tokens.size()) - length(); }
  bool scores_prompt() const { return job->request.prompt_logprobs && !decoding; }
};

Scheduler::Scheduler(StepEngine& engine, const SchedulerOptions& options)
    : engine_(engine), options_(options) {
  core::check(options_.max_sequences > 0 && options_.step_rows > 0, "a scheduler that does work");
}

Scheduler::~Scheduler() = default;

Scheduler::JobPtr Scheduler::submit(ScheduledRequest request,
                                    std::shared_ptr<RequestObserver> observer) {
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (prompt_tokens == 0) {
    throw core::InvalidOption("prompt", "no token", "at least one token");
  }
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= engine_.vocab_size()) {
      throw core::InvalidOption("prompt",
                                fmt::format("the token {}", token),
                                fmt::format("ids from 0 to {}", engine_.vocab_size() - 1));
    }
  }
  core::check(request.samples > 0 && request.max_tokens >= 0, "samples > 0, max_tokens >= 0");
  const bool evicts = engine_.evicts(request.cache);
  const int64_t context = engine_.context();
  if (!evicts && prompt_tokens > context) {
    throw ContextExceeded(fmt::format(
        "[prompt] expected at most {} tokens, the context, got {}", context, prompt_tokens));
  }
  int64_t longest = prompt_tokens + request.max_tokens;
  if (!evicts) {
    longest = std::min(longest, context);
  }
  const int64_t bytes = engine_.most_bytes(request.cache, longest);
  const bool recomputable = engine_.recomputable(request.cache);
  const int64_t budget =
      recomputable ? engine_.cache_bytes() : std::min(engine_.cache_bytes(), options_.swap_bytes);
  if (bytes > budget) {
    throw core::InvalidOption(
        "max_tokens",
        fmt::format("{} tokens in all, {:.1f} MiB of cache", longest, mebibytes(bytes)),
        fmt::format("as many as fit {:.1f} MiB{}",
                    mebibytes(budget),
                    recomputable ? "" : " (this policy cannot be recomputed)"));
  }
  const Sampler validated(request.sampling, engine_.vocab_size());
  auto job = std::make_shared<Job>(std::move(request), std::move(observer), evicts);
  {
    const std::lock_guard lock(mutex_);
    if (queued_ >= options_.max_queue) {
      throw QueueFull(
          fmt::format("[queue] expected fewer than {} requests to wait, got {}; try "
                      "again later",
                      options_.max_queue,
                      queued_));
    }
    ++queued_;
    submitted_.push_back(job);
  }
  changed_.notify_one();
  return job;
}

void Scheduler::cancel(const JobPtr& job) {
  job->cancelled = true;
  wake();
}

void Scheduler::wait(std::chrono::milliseconds longest) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, longest, [this] { return woken_ || !submitted_.empty(); });
  woken_ = false;
}

void Scheduler::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_one();
}

SchedulerFigures Scheduler::figures() const {
  const std::lock_guard lock(mutex_);
  return figures_;
}

bool Scheduler::step() {
  take_submitted();
  drop_ended();
  admit();
  std::vector<Planned> planned = plan();
  const bool busy = !planned.empty();
  if (busy && make_room(planned)) {
    run(planned);
    remove_ended();
  }
  count();
  return busy;
}

void Scheduler::take_submitted() {
  std::deque<JobPtr> jobs;
  {
    const std::lock_guard lock(mutex_);
    jobs.swap(submitted_);
  }
  for (JobPtr& job : jobs) {
    auto& queue = waiting_[job->request.cache.tenant];
    queue.push_back(std::make_unique<Sample>(std::move(job), 0, engine_.vocab_size()));
  }
}

void Scheduler::drop_ended() {
  const auto now = Clock::now();
  const auto check = [&](Sample& sample) {
    Job& job = *sample.job;
    if (job.cancelled) {
      job.over = true;
    } else if (!job.over && job.request.deadline && *job.request.deadline <= now) {
      fail(job,
           std::make_exception_ptr(DeadlinePassed(fmt::format(
               "[timeout_seconds] expected an answer within {:.3f} s, got {} of {} tokens",
               seconds(*job.request.deadline - job.submitted),
               sample.generated(),
               job.request.max_tokens))));
    }
  };
  for (const SamplePtr& sample : running_) {
    check(*sample);
  }
  for (const SamplePtr& sample : returning_) {
    check(*sample);
  }
  for (const auto& [tenant, queue] : waiting_) {
    for (const SamplePtr& sample : queue) {
      check(*sample);
    }
  }
  remove_ended();
}

void Scheduler::remove_ended() {
  const auto ended = [this](const SamplePtr& sample) {
    if (!sample->ended && !sample->job->over) {
      return false;
    }
    swap_reserved_ -= sample->swap_bytes;
    return true;
  };
  std::erase_if(running_, ended);
  std::erase_if(returning_, ended);
  for (auto entry = waiting_.begin(); entry != waiting_.end();) {
    std::erase_if(entry->second, ended);
    entry = entry->second.empty() ? waiting_.erase(entry) : std::next(entry);
  }
}

// Takes what comes next off its queue; null: none.
Scheduler::SamplePtr Scheduler::next_waiting() {
  SamplePtr sample;
  if (!returning_.empty()) {
    sample = std::move(returning_.front());
    returning_.pop_front();
  } else if (!waiting_.empty()) {
    auto entry = waiting_.upper_bound(last_tenant_);
    if (entry == waiting_.end()) {
      entry = waiting_.begin();
    }
    last_tenant_ = entry->first;
    sample = std::move(entry->second.front());
    entry->second.pop_front();
    if (entry->second.empty()) {
      waiting_.erase(entry);
    }
  }
  return sample;
}

void Scheduler::admit() {
  // What the running texts will need soon.
  int64_t promised = 0;
  for (const SamplePtr& sample : running_) {
    promised += sample->text->bytes_to_append(sample->pending() + kRowUnit);
  }
  while (static_cast<int64_t>(running_.size()) < options_.max_sequences) {
    const std::string turn = last_tenant_;
    SamplePtr sample = next_waiting();
    if (!sample) {
      return;
    }
    const auto& choice = sample->job->request.cache;
    const int64_t needed =
        sample->text ? sample->text->bytes_to_append(sample->pending() + kRowUnit)
                     : engine_.most_bytes(choice, static_cast<int64_t>(sample->tokens.size()) + 1);
    const int64_t room = engine_.free_bytes() + engine_.reclaimable_bytes() - promised;
    int64_t swap = 0;
    if (sample->swap_bytes == 0 && !engine_.recomputable(choice)) {
      swap = engine_.most_bytes(choice, sample->prompt_tokens() + sample->job->request.max_tokens);
    }
    const bool fits = needed <= room && swap_reserved_ + swap <= options_.swap_bytes;
    if (!fits && !running_.empty()) {
      // Back to where it was: nobody overtakes it.
      if (sample->job->admitted) {
        returning_.push_front(std::move(sample));
      } else {
        waiting_[choice.tenant].push_front(std::move(sample));
        last_tenant_ = turn;
      }
      return;
    }
    swap_reserved_ += swap;
    sample->swap_bytes += swap;
    if (open_text(*sample)) {
      promised += sample->text->bytes_to_append(sample->pending() + kRowUnit);
      running_.push_back(std::move(sample));
    } else {
      swap_reserved_ -= sample->swap_bytes;
    }
  }
}

// False: the request has failed.
bool Scheduler::open_text(Sample& sample) {
  Job& job = *sample.job;
  try {
    if (!sample.saved.empty()) {
      engine_.reclaim(static_cast<int64_t>(sample.saved.size()));
      core::StateReader reader("swap", sample.saved);
      sample.text = engine_.load(job.request.cache, reader);
      sample.saved = {};
    } else if (!sample.text) {
      // Whoever wants the prompt's probabilities has to compute them.
      const size_t known = sample.scores_prompt() ? 1 : sample.tokens.size();
      job.prompt.logprobs.clear();  // of a prompt that made room half-way
      sample.text = engine_.open(job.request.cache, std::span(sample.tokens).first(known));
    }
  } catch (...) {
    fail(job, std::current_exception());
    return false;
  }
  if (!job.admitted) {
    job.admitted = true;
    job.prompt.cached_tokens = sample.length();
    job.prompt.queue_seconds = seconds(Clock::now() - job.submitted);
    const std::lock_guard lock(mutex_);
    figures_.cached_tokens += sample.length();
  }
  return true;
}

std::vector<Scheduler::Planned> Scheduler::plan() {
  std::vector<Planned> planned;
  int64_t prompts = 0;
  for (const SamplePtr& sample : running_) {
    prompts += sample->pending() > 1 || !sample->decoding ? 1 : 0;
  }
  const int64_t share =
      prompts == 0 ? 0 : std::max(kRowUnit, options_.step_rows / prompts / kRowUnit * kRowUnit);
  int64_t budget = std::max(options_.step_rows, share);
  for (const SamplePtr& sample : running_) {
    const bool decodes = sample->pending() == 1 && sample->decoding;
    const int64_t rows = std::min({sample->pending(),
                                   decodes ? 1 : std::min(share, budget),
                                   sample->text->rows_before_cut()});
    budget -= decodes ? 0 : rows;
    if (rows > 0) {
      planned.push_back({sample.get(), rows, 0});
    }
  }
  // What is left goes to the oldest prompts.
  for (Planned& part : planned) {
    if (budget <= 0) {
      break;
    }
    const int64_t more =
        std::min(
            {part.sample->pending(), part.rows + budget, part.sample->text->rows_before_cut()}) -
        part.rows;
    part.rows += more;
    budget -= more;
  }
  for (Planned& part : planned) {
    Sample& sample = *part.sample;
    const bool reaches_end = part.rows == sample.pending();
    part.wanted = sample.scores_prompt() ? part.rows : reaches_end ? 1 : 0;
    if (sample.lookup && sample.decoding && sample.pending() == 1) {
      guess(sample);
      part.rows = part.wanted = static_cast<int64_t>(sample.step.size());
    }
  }
  return planned;
}

// What the next step appends to a sample that decodes. Rows are not free: as many guesses as were
// right last time, twice as many if all were.
void Scheduler::guess(Sample& sample) const {
  const int64_t room = std::min({sample.trusted,
                                 sample.job->request.guesses,
                                 sample.text->rows_to_guess(),
                                 sample.text->rows_before_cut() - 1,
                                 engine_.context() - static_cast<int64_t>(sample.tokens.size())});
  sample.step = {sample.tokens.back()};
  const std::vector<int32_t> guessed = sample.lookup->guess(std::max<int64_t>(room, 0));
  sample.step.insert(sample.step.end(), guessed.begin(), guessed.end());
}

// False: nothing is left to run.
bool Scheduler::make_room(std::vector<Planned>& planned) {
  const auto needed = [&planned] {
    int64_t bytes = 0;
    for (const Planned& part : planned) {
      bytes += part.sample->text->bytes_to_append(part.rows);
    }
    return bytes;
  };
  for (int64_t bytes = needed(); engine_.free_bytes() < bytes; bytes = needed()) {
    engine_.reclaim(bytes);
    if (engine_.free_bytes() >= bytes) {
      break;
    }
    const auto with_text = std::find_if(returning_.rbegin(), returning_.rend(), [](auto& sample) {
      return sample->text != nullptr;
    });
    if (with_text != returning_.rend()) {
      preempt(with_text->get());
      continue;
    }
    if (running_.size() <= 1) {
      break;  // the step will say what is wrong
    }
    SamplePtr victim = std::move(running_.back());
    running_.pop_back();
    std::erase_if(planned, [&](const Planned& part) { return part.sample == victim.get(); });
    preempt(victim.get());
    returning_.push_front(std::move(victim));
  }
  return !planned.empty();
}

void Scheduler::preempt(Sample* victim) {
  if (!victim->text->recomputable()) {
    core::StateWriter writer;
    victim->text->save(writer);
    victim->saved = writer.buffer();
  }
  victim->text.reset();
  victim->step.clear();
  const std::lock_guard lock(mutex_);
  ++figures_.preemptions;
}

void Scheduler::run(const std::vector<Planned>& planned) {
  std::vector<StepPart> parts;
  for (const Planned& part : planned) {
    const auto first = static_cast<size_t>(part.sample->length());
    const auto tokens = std::span<const int32_t>(part.sample->tokens);
    parts.push_back({.text = part.sample->text.get(),
                     .tokens = part.sample->step.empty()
                                   ? tokens.subspan(first, static_cast<size_t>(part.rows))
                                   : std::span<const int32_t>(part.sample->step),
                     .wanted = part.wanted});
  }
  std::vector<const float*> logits;
  try {
    logits = engine_.step(parts);
  } catch (...) {
    for (const Planned& part : planned) {
      fail(*part.sample->job, std::current_exception());
    }
    return;
  }
  int64_t prompt_rows = 0;
  for (const Planned& part : planned) {
    const bool decodes = part.sample->decoding && part.sample->pending() == 1;
    prompt_rows += decodes ? 0 : part.rows;
  }
  for (size_t i = 0; i < planned.size(); ++i) {
    Sample& sample = *planned[i].sample;
    if (sample.job->over) {
      continue;
    }
    try {
      advance(sample, logits[i], planned[i].rows, planned[i].wanted);
    } catch (...) {
      fail(*sample.job, std::current_exception());
    }
  }
  const std::lock_guard lock(mutex_);
  ++figures_.steps;
  figures_.prompt_tokens += prompt_rows;
}

// After a step that appended `rows` tokens to the sample's text.
void Scheduler::advance(Sample& sample, const float* logits, int64_t rows, int64_t wanted) {
  const ScheduledRequest& request = sample.job->request;
  if (sample.scores_prompt()) {
    report_prompt(sample, logits, rows, wanted);
  }
  if (!sample.decoding) {
    engine_.publish(*sample.text,
                    std::span(sample.tokens).first(static_cast<size_t>(sample.length())));
  }
  if (!sample.step.empty()) {
    check_guesses(sample, logits);
    return;
  }
  if (sample.pending() > 0) {
    return;
  }
  const auto vocab_size = static_cast<size_t>(engine_.vocab_size());
  const std::span<const float> last(logits + static_cast<size_t>(wanted - 1) * vocab_size,
                                    vocab_size);
  if (!sample.decoding) {
    sample.decoding = true;
    sample.first_token = Clock::now();
    Job& job = *sample.job;
    if (sample.index == 0) {
      job.prompt.prefill_seconds =
          seconds(sample.first_token - job.submitted) - job.prompt.queue_seconds;
      job.observer->on_prompt(job.prompt);
      if (request.samples > 1) {
        fork_samples(sample, last);
      }
    }
    if (request.max_tokens == 0) {
      finish(sample, FinishReason::kLength);
      return;
    }
  }
  sample_token(sample, last);
}

// Samples from each row that a right guess has led to; the rest is taken back.
void Scheduler::check_guesses(Sample& sample, const float* logits) {
  const std::vector<int32_t> step = std::exchange(sample.step, {});
  const auto vocab_size = static_cast<size_t>(engine_.vocab_size());
  size_t row = 0;
  while (true) {
    sample_token(sample, {logits + row * vocab_size, vocab_size});
    if (sample.ended) {
      return;
    }
    if (row + 1 == step.size() || step[row + 1] != sample.tokens.back()) {
      break;
    }
    ++row;
  }
  const auto known = static_cast<int64_t>(sample.tokens.size()) - 1;
  if (sample.length() > known) {
    sample.text->truncate(known);
  }
  const bool all_right = row + 1 == step.size();
  sample.trusted = all_right ? 2 * sample.trusted : std::max<int64_t>(static_cast<int64_t>(row), 1);
  sample.trusted = std::min(sample.trusted, sample.job->request.guesses);
}

void Scheduler::report_prompt(Sample& sample, const float* logits, int64_t rows, int64_t wanted) {
  core::check(rows == wanted, "logits of every row");
  const auto vocab_size = static_cast<size_t>(engine_.vocab_size());
  const int64_t first = sample.length() - rows;
  for (int64_t row = 0; row < rows && first + row + 1 < sample.prompt_tokens(); ++row) {
    sample.job->prompt.logprobs.push_back(
        score_token({logits + static_cast<size_t>(row) * vocab_size, vocab_size},
                    sample.tokens[static_cast<size_t>(first + row + 1)],
                    *sample.job->request.prompt_logprobs,
                    workspace_));
  }
}

// The other samples of a request go on from its prompt; they share its pages.
void Scheduler::fork_samples(Sample& sample, std::span<const float> logits) {
  for (int64_t index = 1; index < sample.job->request.samples; ++index) {
    auto other = std::make_unique<Sample>(sample.job, index, engine_.vocab_size());
    other->decoding = true;
    other->first_token = sample.first_token;
    other->text = sample.text->fork();
    if (sample.job->request.max_tokens == 0) {
      finish(*other, FinishReason::kLength);
      continue;
    }
    sample_token(*other, logits);
    if (!other->ended) {
      returning_.push_back(std::move(other));
    }
  }
}

void Scheduler::sample_token(Sample& sample, std::span<const float> logits) {
  const ScheduledRequest& request = sample.job->request;
  const auto tokens = std::span<const int32_t>(sample.tokens);
  const auto prompt_tokens = static_cast<size_t>(sample.prompt_tokens());
  const SampledToken sampled = sample.sampler.sample(
      logits,
      {.prompt = tokens.first(prompt_tokens), .generated = tokens.subspan(prompt_tokens)},
      static_cast<uint64_t>(sample.generated()),
      workspace_,
      sample.constraint ? sample.constraint->allowed() : std::span<const uint64_t>());
  if (std::find(request.end_tokens.begin(), request.end_tokens.end(), sampled.token) !=
      request.end_tokens.end()) {
    finish(sample, FinishReason::kStop, sampled);
    return;
  }
  sample.tokens.push_back(sampled.token);
  if (sample.lookup) {
    sample.lookup->append(sampled.token);
  } else if (request.guesses > 0) {
    sample.lookup.emplace(sample.tokens);
  }
  if (sample.constraint) {
    sample.constraint->accept(sampled.token);
  }
  {
    const std::lock_guard lock(mutex_);
    ++figures_.generated_tokens;
  }
  if (!sample.job->observer->on_token(sample.index, sampled, *sample.text)) {
    finish(sample, FinishReason::kStop);
  } else if (sample.generated() >= request.max_tokens) {
    finish(sample, FinishReason::kLength);
  } else if (!sample.job->evicts &&
             static_cast<int64_t>(sample.tokens.size()) > engine_.context()) {
    finish(sample, FinishReason::kContext);
  }
}

void Scheduler::finish(Sample& sample, FinishReason reason, std::optional<SampledToken> end_token) {
  const Job& job = *sample.job;
  // Guesses that nobody looked at any more go first.
  if (sample.length() > static_cast<int64_t>(sample.tokens.size())) {
    sample.text->truncate(static_cast<int64_t>(sample.tokens.size()));
  }
  engine_.publish(*sample.text,
                  std::span(sample.tokens).first(static_cast<size_t>(sample.length())));
  FinishReport report;
  report.reason = reason;
  report.end_token = std::move(end_token);
  report.timings = {.queue_seconds = job.prompt.queue_seconds,
                    .prefill_seconds = job.prompt.prefill_seconds,
                    .decode_seconds = seconds(Clock::now() - sample.first_token)};
  report.cache = sample.text->figures();
  report.kept = sample.text->kept();
  sample.text.reset();
  sample.ended = true;
  job.observer->on_finish(sample.index, report);
}

void Scheduler::fail(Job& job, const std::exception_ptr& failure) {
  if (!job.over) {
    job.over = true;
    job.observer->on_failure(failure);
  }
}

void Scheduler::count() {
  int64_t waiting = static_cast<int64_t>(returning_.size());
  int64_t queued = 0;
  for (const auto& [tenant, queue] : waiting_) {
    queued += static_cast<int64_t>(queue.size());
  }
  const std::lock_guard lock(mutex_);
  queued_ = queued + static_cast<int64_t>(submitted_.size());
  figures_.waiting = waiting + queued_;
  figures_.running = static_cast<int64_t>(running_.size());
}

}  // namespace adze::infer
