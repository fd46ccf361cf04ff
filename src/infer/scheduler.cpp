#include "infer/scheduler.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "infer/scheduler_sample.h"

namespace adze::infer {
namespace {

// Prompt rows are handed out in this unit, a page of the cache.
constexpr int64_t kRowUnit = 32;

double mebibytes(int64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

}  // namespace

Scheduler::Scheduler(StepEngine& engine, const SchedulerOptions& options)
    : engine_(engine), options_(options) {
  core::check(options_.max_sequences > 0 && options_.step_rows > 0, "a scheduler that does work");
}

Scheduler::~Scheduler() = default;

// Checked, with the disk that it may need.
Scheduler::JobPtr Scheduler::make_job(ScheduledRequest request,
                                      std::shared_ptr<RequestObserver> observer) const {
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
  core::check(request.samples == 1 || !request.keeps, "one sample of a text that is kept");
  const int64_t before = request.resumes ? request.resumes->tokens : 0;
  const bool evicts = engine_.evicts(request.cache);
  const int64_t context = engine_.context();
  if (!evicts && before + prompt_tokens > context) {
    throw ContextExceeded(fmt::format("[prompt] expected at most {} tokens, the context, got {}",
                                      context,
                                      before + prompt_tokens));
  }
  if (const auto most = engine_.whole_prompt(request.cache); most && before == 0) {
    if (request.prompt_logprobs) {
      throw core::InvalidOption("logprobs",
                                "those of the prompt",
                                fmt::format("those of the answer alone: {} lets rows of the prompt "
                                            "go before they are scored",
                                            request.cache.policy));
    }
    if (prompt_tokens > *most) {
      throw core::InvalidOption(
          "prompt",
          fmt::format("{} tokens", prompt_tokens),
          fmt::format("at most {}, which {} reads in one step", *most, request.cache.policy));
    }
  }
  int64_t longest = before + prompt_tokens + request.max_tokens;
  if (!evicts) {
    longest = std::min(longest, context);
  }
  const int64_t bytes = engine_.most_bytes(request.cache, longest);
  const bool recomputable = engine_.recomputable(request.cache) && before == 0 && !request.keeps;
  const int64_t swap_bytes = recomputable ? 0 : bytes * request.samples;
  const int64_t swap_space = options_.swap ? options_.swap->bytes() : 0;
  const auto refuse = [&](std::string_view what, int64_t used, int64_t budget) {
    throw core::InvalidOption(
        "max_tokens",
        fmt::format("{} tokens in all, {:.1f} MiB", longest, mebibytes(used)),
        fmt::format("as many as fit {:.1f} MiB of {}", mebibytes(budget), what));
  };
  if (bytes > engine_.cache_bytes()) {
    refuse("cache", bytes, engine_.cache_bytes());
  }
  if (swap_bytes > swap_space) {
    refuse("swap space, which each text that cannot be recomputed or is kept needs",
           swap_bytes,
           swap_space);
  }
  const Sampler validated(request.sampling, engine_.vocab_size());
  SwapReservation swap;
  if (swap_bytes > 0) {
    auto reserved = options_.swap->reserve(swap_bytes);
    if (!reserved) {
      throw QueueFull(fmt::format(
          "[swap] expected {:.1f} MiB of swap space, got {:.1f} of {:.1f} MiB promised to other "
          "requests; try again later",
          mebibytes(swap_bytes),
          mebibytes(options_.swap->reserved_bytes()),
          mebibytes(swap_space)));
    }
    swap = std::move(*reserved);
  }
  return std::make_shared<Job>(std::move(request), std::move(observer), evicts, std::move(swap));
}

Scheduler::JobPtr Scheduler::submit(ScheduledRequest request,
                                    std::shared_ptr<RequestObserver> observer) {
  return submit_all({{std::move(request), std::move(observer)}}).front();
}

std::vector<Scheduler::JobPtr> Scheduler::submit_all(std::vector<Asked> requests) {
  const auto count = static_cast<int64_t>(requests.size());
  if (count == 0) {
    return {};
  }
  if (count > options_.max_queue) {
    throw core::InvalidOption("prompt",
                              fmt::format("{} prompts", count),
                              fmt::format("at most {}, as many as may wait", options_.max_queue));
  }
  std::vector<JobPtr> jobs;
  for (Asked& asked : requests) {
    jobs.push_back(make_job(std::move(asked.first), std::move(asked.second)));
  }
  const std::string& owner = jobs.front()->request.owner;
  {
    const std::lock_guard lock(mutex_);
    refuse_if_full(owner, count);
    queued_[owner] += count;
    submitted_.insert(submitted_.end(), jobs.begin(), jobs.end());
  }
  changed_.notify_one();
  return jobs;
}

// A full queue is full for those who have their share of it: nobody keeps others out.
void Scheduler::refuse_if_full(const std::string& owner, int64_t count) const {
  int64_t total = 0;
  int64_t own = 0;
  int64_t owners = 1;
  for (const auto& [name, queued] : queued_) {
    total += queued;
    own += name == owner ? queued : 0;
    owners += name == owner ? 0 : 1;
  }
  const int64_t share = std::max<int64_t>(options_.max_queue / owners, 1);
  const bool below_share = own + count <= share && total + count <= 2 * options_.max_queue;
  if (total + count > options_.max_queue && !below_share) {
    throw QueueFull(fmt::format(
        "[queue] expected room for {}, got {} of {} requests that wait; try again later",
        count == 1 ? "a request" : fmt::format("{} prompts", count),
        total,
        options_.max_queue));
  }
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

int64_t Scheduler::longest_text(const CacheChoice& choice) const {
  const int64_t swap_bytes = options_.swap ? options_.swap->bytes() : 0;
  return longest_text(choice,
                      engine_.recomputable(choice) ? engine_.cache_bytes()
                                                   : std::min(engine_.cache_bytes(), swap_bytes));
}

// Half of the disk is left to those who come next, so that they need not wait for this text's end.
int64_t Scheduler::longest_kept_text(const CacheChoice& choice, int64_t least) const {
  if (!options_.swap) {
    return 0;
  }
  const int64_t all = options_.swap->bytes();
  const int64_t free = all - options_.swap->reserved_bytes();
  return std::max(longest_text(choice, std::min(engine_.cache_bytes(), free / 2)),
                  std::min(longest_text(choice, std::min(engine_.cache_bytes(), all)), least));
}

int64_t Scheduler::longest_text(const CacheChoice& choice, int64_t most_bytes) const {
  const int64_t limit = engine_.evicts(choice) ? int64_t{1} << 30 : engine_.context();
  const auto fits = [&](int64_t tokens) {
    return engine_.most_bytes(choice, tokens) <= most_bytes;
  };
  int64_t most = 0;
  for (int64_t step = limit; step > 0;) {  // halved whenever it would be too much
    if (step <= limit - most && fits(most + step)) {
      most += step;
    } else {
      step /= 2;
    }
  }
  return most;
}

void Scheduler::take_submitted() {
  while (true) {
    JobPtr job;
    {
      const std::lock_guard lock(mutex_);
      if (submitted_.empty()) {
        return;
      }
      job = submitted_.front();
    }
    const std::string owner = job->request.owner;
    waiting_.push(owner,
                  Queue::Kind::kNew,
                  std::make_unique<Sample>(std::move(job), 0, engine_.vocab_size()));
    const std::lock_guard lock(mutex_);
    submitted_.pop_front();  // not before it is safe elsewhere
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
           std::make_exception_ptr(DeadlinePassed(
               fmt::format("[timeout_seconds] expected an answer in time, got {} of {} tokens",
                           sample.generated(),
                           job.request.max_tokens))));
    }
  };
  for (const SamplePtr& sample : running_) {
    check(*sample);
  }
  waiting_.for_each([&](const SamplePtr& sample) { check(*sample); });
  remove_ended();
}

void Scheduler::remove_ended() {
  const auto ended = [](const SamplePtr& sample) { return sample->ended || sample->job->over; };
  std::erase_if(running_, ended);
  waiting_.remove_if(ended);
}

// Of new pages, for a text in the cache.
int64_t Scheduler::bytes_soon(const Sample& sample) const {
  return sample.text->bytes_to_append(sample.pending() + kRowUnit);
}

void Scheduler::admit() {
  // What the running texts will need soon.
  int64_t promised = 0;
  for (const SamplePtr& sample : running_) {
    promised += bytes_soon(*sample);
  }
  while (static_cast<int64_t>(running_.size()) < options_.max_sequences) {
    const SamplePtr* front = waiting_.front();
    if (front == nullptr) {
      return;
    }
    Sample& sample = **front;
    const bool alone = running_.empty();  // nobody would make room: the step will say what is wrong
    const auto fits = [&](int64_t bytes) {
      const int64_t room = engine_.free_bytes() - promised;
      return alone || bytes <= room || bytes <= room + engine_.reclaimable_bytes();
    };
    if (sample.on_disk() != nullptr &&
        !fits(engine_.most_bytes(sample.job->request.cache, sample.total() + 1))) {
      return;  // nobody overtakes it
    }
    const bool fresh = sample.text == nullptr && !sample.saved;
    try {
      open_text(sample);
    } catch (...) {
      fail(*sample.job, std::current_exception());
      waiting_.pop();
      continue;
    }
    if (!fits(bytes_soon(sample))) {
      // What it shares with the prefix cache is not to be counted as room for others.
      if (fresh) {
        sample.text.reset();
      }
      return;
    }
    promised += bytes_soon(sample);
    running_.push_back(waiting_.pop());
    report_admission(*running_.back());
  }
}

void Scheduler::open_text(Sample& sample) {
  const ScheduledRequest& request = sample.job->request;
  const CacheChoice& choice = request.cache;
  if (const SavedBytes* stored = sample.on_disk()) {
    const int64_t bytes = std::max(stored->bytes(), engine_.most_bytes(choice, sample.total() + 1));
    engine_.reclaim(bytes);
    while (engine_.free_bytes() < bytes && preempt_waiting()) {
      engine_.reclaim(bytes);
    }
    const std::vector<std::byte> data = stored->read();
    core::StateReader reader("swap", data);
    sample.text = engine_.load(choice, reader);
    if (!sample.saved) {
      sample.text->begin_turn(sample.prompt_tokens(), request.max_tokens);
    }
    sample.saved.reset();
  } else if (!sample.text) {
    // Whoever wants the prompt's probabilities has to compute them.
    sample.job->prompt.logprobs.clear();  // of a prompt that made room half-way
    sample.text = engine_.open(choice, sample.tokens, request.max_tokens, !sample.scores_prompt());
  }
}

void Scheduler::report_admission(Sample& sample) {
  Job& job = *sample.job;
  if (!job.admitted) {
    job.admitted = true;
    job.prompt.cached_tokens = sample.length();
    job.prompt.queue_seconds = seconds(Clock::now() - job.submitted);
    const std::lock_guard lock(mutex_);
    figures_.cached_tokens += sample.length();
  }
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
    const int64_t rows =
        std::min({sample->pending(),
                  std::max(decodes ? 1 : std::min(share, budget), sample->text->rows_at_once()),
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
                                 engine_.context() - sample.total()});
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
    if (preempt_waiting()) {
      continue;
    }
    if (running_.size() <= 1) {
      break;  // the step will say what is wrong
    }
    SamplePtr victim = std::move(running_.back());
    running_.pop_back();
    std::erase_if(planned, [&](const Planned& part) { return part.sample == victim.get(); });
    preempt(*victim);
    const std::string& owner = victim->job->request.owner;
    waiting_.push(owner, Queue::Kind::kReturning, std::move(victim));
  }
  return !planned.empty();
}

// The last of those that wait with a text; false: there is none.
bool Scheduler::preempt_waiting() {
  Sample* with_text = nullptr;
  waiting_.for_each(
      [&](const SamplePtr& sample) { with_text = sample->text ? sample.get() : with_text; });
  if (with_text != nullptr) {
    preempt(*with_text);
  }
  return with_text != nullptr;
}

void Scheduler::preempt(Sample& victim) {
  if (!victim.recomputable() && !victim.job->over) {
    core::StateWriter writer;
    victim.text->save(writer);
    try {
      victim.saved = options_.swap->save(writer.buffer());
    } catch (const core::Error& error) {  // others have filled the disk
      fail(*victim.job, std::make_exception_ptr(QueueFull(error.what())));
    }
  }
  victim.text.reset();
  victim.step.clear();
  const std::lock_guard lock(mutex_);
  ++figures_.preemptions;
}

void Scheduler::fail(Job& job, const std::exception_ptr& failure) {
  if (!job.over) {
    job.over = true;
    job.observer->on_failure(failure);
  }
}

void Scheduler::fail_all(const std::exception_ptr& failure) {
  std::deque<JobPtr> submitted;
  {
    const std::lock_guard lock(mutex_);
    submitted.swap(submitted_);
  }
  for (const SamplePtr& sample : running_) {
    fail(*sample->job, failure);
  }
  waiting_.for_each([&](const SamplePtr& sample) { fail(*sample->job, failure); });
  for (const JobPtr& job : submitted) {
    fail(*job, failure);
  }
  running_.clear();
  waiting_.clear();
  count();
}

void Scheduler::count() {
  const std::lock_guard lock(mutex_);
  queued_ = waiting_.new_items();
  for (const JobPtr& job : submitted_) {
    ++queued_[job->request.owner];
  }
  figures_.waiting = waiting_.size() + static_cast<int64_t>(submitted_.size());
  figures_.running = static_cast<int64_t>(running_.size());
}

}  // namespace adze::infer
