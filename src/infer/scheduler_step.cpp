// What a step gave: prompts' probabilities, samples, the next tokens, the end of an answer.

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "infer/scheduler_sample.h"

namespace adze::infer {

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
    publish(sample);
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
    sample.text->truncate(sample.before + known);
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
      const std::string& owner = sample.job->request.owner;
      waiting_.push(owner, Queue::Kind::kFork, std::move(other));
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
  } else if (!sample.job->evicts && sample.total() > engine_.context()) {
    finish(sample, FinishReason::kContext);
  }
}

void Scheduler::finish(Sample& sample, FinishReason reason, std::optional<SampledToken> end_token) {
  const Job& job = *sample.job;
  // Guesses that nobody looked at any more go first. The last token of an answer has not been read:
  // in its place stands a guess, if anything.
  const bool all_read = end_token || sample.generated() == 0;
  const auto known = static_cast<int64_t>(sample.tokens.size()) - (all_read ? 0 : 1);
  if (sample.length() > known) {
    sample.text->truncate(sample.before + known);
  }
  publish(sample);
  FinishReport report;
  report.text = job.request.keeps ? keep(sample) : nullptr;
  report.reason = reason;
  report.end_token = std::move(end_token);
  report.timings = {.queue_seconds = job.prompt.queue_seconds,
                    .prefill_seconds = job.prompt.prefill_seconds,
                    .decode_seconds = seconds(Clock::now() - sample.first_token)};
  report.cache = sample.text->figures();
  report.kept = sample.text->kept();
  sample.text.reset();
  sample.swap = SwapReservation();  // whoever hears of the end finds room for what comes next
  sample.ended = true;
  job.observer->on_finish(sample.index, report);
}

// Its pages for later texts that begin like it.
void Scheduler::publish(const Sample& sample) {
  if (sample.before == 0) {  // else nobody knows how it begins
    engine_.publish(*sample.text,
                    std::span(sample.tokens).first(static_cast<size_t>(sample.length())));
  }
}

// The text for a later request. Throws QueueFull: others have filled the disk.
std::shared_ptr<const KeptText> Scheduler::keep(Sample& sample) const {
  core::StateWriter writer;
  sample.text->save(writer);
  try {
    SavedBytes data = options_.swap->save(writer.buffer());
    SwapReservation room = sample.swap.split(data.bytes());
    return std::make_shared<KeptText>(
        KeptText{.tokens = sample.text->length(),
                 .pending = {sample.tokens.begin() + sample.length(), sample.tokens.end()},
                 .data = std::move(data),
                 .room = std::move(room)});
  } catch (const core::Error& error) {
    throw QueueFull(error.what());
  }
}

}  // namespace adze::infer
