#include "infer/sampler.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "core/check.h"
#include "core/error.h"

namespace adze::infer {
namespace {

// The candidate that covers `uniform` when their weights are laid end to end in order of id.
int32_t draw(const std::vector<Candidate>& candidates, double total, double uniform) {
  double left = uniform * total;
  for (const Candidate& candidate : candidates) {
    left -= static_cast<double>(candidate.weight);
    if (left < 0) {
      return candidate.token;
    }
  }
  return candidates.back().token;  // rounding left a remainder
}

// The `count` likeliest, best first.
std::vector<TokenLogprob> largest_logprobs(std::span<const float> logits,
                                           double log_total,
                                           size_t count,
                                           SamplerWorkspace& workspace) {
  std::vector<TokenLogprob> result;
  if (count == 0) {
    return result;
  }
  const float floor = floor_of_largest(workspace.block_maxima, count, workspace.scratch);
  gather_above(logits, workspace.block_maxima, floor, workspace.ranked);
  keep_best(workspace.ranked, count);
  std::sort(workspace.ranked.begin(), workspace.ranked.end(), ranks_before);
  for (const Candidate& candidate : workspace.ranked) {
    result.push_back({candidate.token, static_cast<float>(candidate.logit - log_total)});
  }
  return result;
}

// Leaves -inf of the tokens without a bit.
void forbid(std::span<const uint64_t> allowed, std::vector<float>& logits) {
  for (size_t begin = 0; begin < logits.size(); begin += 64) {
    const uint64_t bits = allowed[begin / 64];
    const size_t end = std::min(begin + 64, logits.size());
    if (bits == 0) {
      std::fill(&logits[begin], logits.data() + end, -kLogitInfinity);
    } else if (bits != ~uint64_t{0}) {
      for (size_t token = begin; token < end; ++token) {
        logits[token] = (bits >> (token - begin) & 1) != 0 ? logits[token] : -kLogitInfinity;
      }
    }
  }
}

[[noreturn]] void report_not_finite(std::span<const float> logits) {
  const auto bad =
      std::find_if(logits.begin(), logits.end(), [](float value) { return !std::isfinite(value); });
  throw core::error("sampler",
                    "expected finite logits, got {} for token {}: the model or its file is damaged",
                    *bad,
                    bad - logits.begin());
}

void require(bool legal, const char* field, double value, const char* range) {
  if (!legal) {
    throw core::InvalidOption(field, fmt::format("{}", value), range);
  }
}

}  // namespace

void SamplingOptions::validate() const {
  // Written so that NaN fails.
  require(temperature >= 0 && temperature <= 100, "temperature", temperature, "0 to 100");
  require(top_k >= 0, "top-k", static_cast<double>(top_k), "0 (off) or more");
  require(top_p > 0 && top_p <= 1, "top-p", top_p, "above 0, up to 1 (off)");
  require(min_p >= 0 && min_p <= 1, "min-p", min_p, "0 (off) to 1");
  require(repetition_penalty > 0 && repetition_penalty <= 100,
          "repetition-penalty",
          repetition_penalty,
          "above 0, up to 100; 1 is off");
  require(penalty_window >= 0,
          "penalty-window",
          static_cast<double>(penalty_window),
          "0 (all tokens) or more");
  require(std::abs(frequency_penalty) <= 2, "frequency-penalty", frequency_penalty, "-2 to 2");
  require(std::abs(presence_penalty) <= 2, "presence-penalty", presence_penalty, "-2 to 2");
  for (const std::string& entry : logit_bias) {
    parse_logit_bias(entry);
  }
  if (logprobs) {
    require(
        *logprobs >= 0 && *logprobs <= 100, "logprobs", static_cast<double>(*logprobs), "0 to 100");
  }
}

std::pair<int32_t, float> parse_logit_bias(std::string_view text) {
  const auto fail = [text]() -> core::InvalidOption {
    return {"logit-bias", text, "ID:BIAS with ID a token and BIAS in [-100, 100] or -inf"};
  };
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    throw fail();
  }
  const auto parse = [&](std::string_view part, auto& value) {
    const char* end = part.data() + part.size();
    const auto [stop, code] = std::from_chars(part.data(), end, value);
    if (code != std::errc() || stop != end) {
      throw fail();
    }
  };
  int32_t token = 0;
  float bias = 0;
  parse(text.substr(0, colon), token);
  parse(text.substr(colon + 1), bias);
  if (token < 0 || !(bias == -kLogitInfinity || std::abs(bias) <= 100)) {
    throw fail();
  }
  return {token, bias};
}

Sampler::Sampler(SamplingOptions options, int64_t vocab_size)
    : options_(std::move(options)), random_(options_.seed), vocab_size_(vocab_size) {
  core::check(vocab_size > 0, "vocab_size ", vocab_size);
  options_.validate();
  for (const std::string& entry : options_.logit_bias) {
    bias_.push_back(parse_logit_bias(entry));
    if (bias_.back().first >= vocab_size) {
      throw core::InvalidOption(
          "logit-bias", entry, fmt::format("a token from 0 to {}", vocab_size - 1));
    }
  }
}

bool Sampler::changes_logits() const {
  return !bias_.empty() || options_.repetition_penalty != 1 || options_.frequency_penalty != 0 ||
         options_.presence_penalty != 0;
}

// Keskar et al., "CTRL", section 4.1, with the usual sign rule: a penalty above 1 makes a token
// less likely whether its logit is positive or negative. A token counts once, however often it is
// there.
void Sampler::penalise_repetition(const TokenHistory& history, SamplerWorkspace& workspace) const {
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  size_t left = options_.penalty_window == 0 ? std::numeric_limits<size_t>::max()
                                             : static_cast<size_t>(options_.penalty_window);
  const auto generated = history.generated.last(std::min(left, history.generated.size()));
  left -= generated.size();
  const auto prompt = history.prompt.last(std::min(left, history.prompt.size()));
  for (const auto window : {generated, prompt}) {
    for (const int32_t token : window) {
      if (std::exchange(workspace.counts[static_cast<size_t>(token)], 1) == 0) {
        float& logit = workspace.adjusted[static_cast<size_t>(token)];
        logit = logit > 0 ? std::min(logit / penalty, std::numeric_limits<float>::max())
                          : logit * penalty;
      }
    }
  }
  for (const auto window : {generated, prompt}) {
    for (const int32_t token : window) {
      workspace.counts[static_cast<size_t>(token)] = 0;
    }
  }
}

void Sampler::penalise_generated(std::span<const int32_t> generated,
                                 SamplerWorkspace& workspace) const {
  for (const int32_t token : generated) {
    ++workspace.counts[static_cast<size_t>(token)];
  }
  for (const int32_t token : generated) {
    const int32_t count = std::exchange(workspace.counts[static_cast<size_t>(token)], 0);
    if (count > 0) {
      workspace.adjusted[static_cast<size_t>(token)] -= static_cast<float>(
          options_.presence_penalty + options_.frequency_penalty * static_cast<double>(count));
    }
  }
}

void Sampler::adjust(std::span<const float> logits,
                     const TokenHistory& history,
                     SamplerWorkspace& workspace) const {
  for (const auto part : {history.prompt, history.generated}) {
    for (const int32_t token : part) {
      if (token < 0 || token >= vocab_size_) {
        throw core::error(
            "sampler", "expected tokens from 0 to {}, got {}", vocab_size_ - 1, token);
      }
    }
  }
  workspace.adjusted.assign(logits.begin(), logits.end());
  workspace.counts.resize(logits.size());
  for (const auto& [token, bias] : bias_) {
    workspace.adjusted[static_cast<size_t>(token)] += bias;
  }
  if (options_.repetition_penalty != 1) {
    penalise_repetition(history, workspace);
  }
  if (options_.frequency_penalty != 0 || options_.presence_penalty != 0) {
    penalise_generated(history.generated, workspace);
  }
}

// Leaves the tokens that pass top-k, top-p and min-p in workspace.candidates, by id.
void Sampler::keep_candidates(std::span<const float> logits,
                              float largest,
                              SamplerWorkspace& workspace) const {
  const float min_p_floor = largest + std::log(static_cast<float>(options_.min_p));  // 0: -inf
  const auto top_k = static_cast<size_t>(options_.top_k);
  Candidate last{-kLogitInfinity, std::numeric_limits<int32_t>::max(), 0.0F};
  if (top_k > 0 && top_k < logits.size()) {
    const float floor = floor_of_largest(workspace.block_maxima, top_k, workspace.scratch);
    gather_above(logits, workspace.block_maxima, floor, workspace.ranked);
    keep_best(workspace.ranked, top_k);
    last = *std::max_element(workspace.ranked.begin(), workspace.ranked.end(), ranks_before);
    if (options_.top_p < 1) {
      const double total = set_weights(workspace.ranked, largest, 1.0F);
      last = weight_cutoff(workspace.ranked, options_.top_p * total);
    }
  } else if (options_.top_p < 1) {
    last = share_cutoff(logits, workspace.block_maxima, largest, options_.top_p, workspace.ranked);
  }
  gather_above(
      logits, workspace.block_maxima, std::max(min_p_floor, last.logit), workspace.candidates);
  // Equals of the last one to keep are in; those behind it go.
  std::erase_if(workspace.candidates,
                [&](const Candidate& candidate) { return ranks_before(last, candidate); });
}

int32_t Sampler::choose(std::span<const float> logits,
                        float largest,
                        uint64_t index,
                        SamplerWorkspace& workspace) const {
  if (options_.temperature == 0) {
    gather_above(logits, workspace.block_maxima, largest, workspace.candidates);
    return workspace.candidates.front().token;
  }
  keep_candidates(logits, largest, workspace);
  const double total =
      set_weights(workspace.candidates, largest, static_cast<float>(options_.temperature));
  return draw(workspace.candidates, total, random_.uniform_at(index));
}

SampledToken score_token(std::span<const float> logits,
                         int32_t token,
                         int64_t alternatives,
                         SamplerWorkspace& workspace) {
  float poison = 0;
  const float largest = find_maxima(logits, workspace.block_maxima, &poison);
  if (poison != 0) {
    report_not_finite(logits);
  }
  const double log_total = largest + std::log(total_weight(logits, largest));
  const size_t count = std::min(static_cast<size_t>(alternatives), logits.size());
  return {.token = token,
          .logprob = static_cast<float>(logits[static_cast<size_t>(token)] - log_total),
          .top_logprobs = largest_logprobs(logits, log_total, count, workspace)};
}

SampledToken Sampler::sample(std::span<const float> logits,
                             const TokenHistory& history,
                             uint64_t index,
                             SamplerWorkspace& workspace,
                             std::span<const uint64_t> allowed) const {
  core::check(static_cast<int64_t>(logits.size()) == vocab_size_, "logits ", logits.size());
  core::check(allowed.empty() || allowed.size() == (logits.size() + 63) / 64, allowed.size());
  float poison = 0;
  float largest = find_maxima(logits, workspace.block_maxima, &poison);
  if (poison != 0) {  // NaN differs from everything
    report_not_finite(logits);
  }
  SampledToken result;
  double log_total = 0;
  if (options_.logprobs) {
    log_total = largest + std::log(total_weight(logits, largest));
    const auto count = static_cast<size_t>(std::min(*options_.logprobs, vocab_size_));
    result.top_logprobs = largest_logprobs(logits, log_total, count, workspace);
  }
  if (changes_logits() || !allowed.empty()) {
    if (changes_logits()) {
      adjust(logits, history, workspace);
    } else {
      workspace.adjusted.assign(logits.begin(), logits.end());
    }
    if (!allowed.empty()) {
      forbid(allowed, workspace.adjusted);
    }
    largest = find_maxima(workspace.adjusted, workspace.block_maxima, &poison);
    if (largest == -kLogitInfinity) {
      throw core::error("sampler",
                        "expected a token that {} allows, got -inf for all",
                        allowed.empty() ? "logit-bias" : "the constraint");
    }
    result.token = choose(workspace.adjusted, largest, index, workspace);
  } else {
    result.token = choose(logits, largest, index, workspace);
  }
  if (options_.logprobs) {
    result.logprob = static_cast<float>(logits[static_cast<size_t>(result.token)] - log_total);
  }
  return result;
}

}  // namespace adze::infer
