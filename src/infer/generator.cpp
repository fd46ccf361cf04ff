#include "infer/generator.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "infer/append_tokens.h"
#include "infer/prompt_lookup.h"
#include "infer/surprisal.h"
#include "kv/cache_registry.h"
#include "kv/rotation.h"
#include "model/forward.h"

namespace adze::infer {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The context limits the text, but under a policy that counts positions within the cache.
int64_t most_cached(const kv::KvPolicy& policy, int64_t context) {
  return policy.most_cached(policy.endless() ? std::numeric_limits<int64_t>::max() : context);
}

// Room for the longest text, for the pages that a cut packs anew, and for one fork of them.
int64_t pool_bytes(const kv::KvStore& store,
                   const kv::KvPolicy& policy,
                   int64_t slots,
                   int64_t context) {
  const int64_t tokens = most_cached(policy, context) + 4 * kv::kPageTokens;
  const int64_t raw = (tokens / kv::kPageTokens + 1) * store.raw_page_bytes();
  return 2 * slots * std::max(raw, store.most_slot_bytes(tokens));
}

// Positions that rows may be rotated to, for ropes that stretch with the context.
int64_t rope_context(const kv::KvPolicy& policy, int64_t context) {
  return policy.needs().rank_positions ? most_cached(policy, context) : context;
}

}  // namespace

struct Generator::Implementation {
  model::ModelPtr model;
  int64_t context;
  int64_t chunk;
  kv::KvStorePtr store;
  kv::KvPolicyPtr policy;
  kv::CacheLayoutPtr layout;
  kv::PagePool pool;
  kv::Rotation rotation;
  SamplerWorkspace workspace;

  Implementation(model::ModelPtr m, const CacheOptions& options)
      : model(std::move(m)),
        context(options.context > 0 ? options.context : model->spec.context_length),
        chunk(options.prefill_chunk),
        store(kv::make_store(options.kv_store, model->spec)),
        policy(kv::make_policy(options.kv_policy)),
        layout(kv::make_cache_layout(model->spec)),
        pool(pool_bytes(*store, *policy, layout->num_slots, context)),
        rotation(model->spec, rope_context(*policy, context)) {}

  // Logits of the tokens after the last `wanted` of `tokens`, [wanted, vocab_size]; these are in
  // one chunk.
  at::Tensor next_logits(kv::Sequence& sequence,
                         std::span<const int32_t> tokens,
                         int64_t wanted,
                         const ProgressCallback& on_progress) {
    at::Tensor last;  // [wanted, hidden_size]
    const int64_t rows = std::max(chunk, wanted);
    append_tokens(
        *model, rotation, sequence, tokens, rows, [&](int64_t first, const at::Tensor& hidden) {
          last = hidden.narrow(0, hidden.size(0) - wanted, wanted);
          if (on_progress) {
            on_progress(first + hidden.size(0), static_cast<int64_t>(tokens.size()));
          }
        });
    at::Tensor logits = model::logits(*model, last);
    keep_last_logits(
        sequence, logits.const_data_ptr<float>() + (wanted - 1) * logits.size(1), logits.size(1));
    return logits;
  }
};

void CacheOptions::validate() const {
  if (context < 0 || context > (int64_t{1} << 30)) {
    throw core::InvalidOption(
        "context", std::to_string(context), "1 to 1073741824 tokens, or 0 for the model's own");
  }
  if (prefill_chunk < 1 || prefill_chunk > 65536) {
    throw core::InvalidOption("prefill-chunk", std::to_string(prefill_chunk), "1 to 65536");
  }
}

ContextFull::ContextFull(int64_t tokens, int64_t context)
    : Error(fmt::format("[context] expected at most {} tokens, got {}; shorten the prompt or "
                        "--max-tokens, use /reset in a chat, a larger --context, or an evicting "
                        "--kv-policy such as window",
                        context,
                        tokens)) {}

double GenerationResult::prefill_tokens_per_second() const {
  return prefill_seconds > 0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0;
}

double GenerationResult::decode_tokens_per_second() const {
  return decode_seconds > 0 ? static_cast<double>(decoded_tokens) / decode_seconds : 0;
}

Generator::Generator(std::shared_ptr<const model::Model> model, const CacheOptions& options) {
  options.validate();
  if (!model->spec.causal) {
    throw core::error("model",
                      "expected a model that writes text, got the encoder {}; adze embed uses it",
                      model->spec.name);
  }
  implementation_ = std::make_unique<Implementation>(std::move(model), options);
  const Implementation& self = *implementation_;
  const int64_t trained = std::max(self.context, self.model->spec.context_length);
  if (self.policy->endless() && most_cached(*self.policy, self.context) > trained) {
    throw core::InvalidOption(
        "kv-policy",
        self.policy->name(),
        fmt::format("at most {} cached tokens, the model's context, or a larger --context",
                    trained));
  }
}

Generator::~Generator() = default;

kv::Sequence Generator::new_sequence() {
  Implementation& self = *implementation_;
  return {self.pool, self.store, self.policy, self.layout};
}

int64_t Generator::context() const {
  return implementation_->context;
}
int64_t Generator::prefill_chunk() const {
  return implementation_->chunk;
}
const model::Model& Generator::model() const {
  return *implementation_->model;
}
kv::PagePool& Generator::pool() {
  return implementation_->pool;
}
kv::Rotation& Generator::rotation() {
  return implementation_->rotation;
}

GenerationResult Generator::generate(kv::Sequence& sequence,
                                     std::span<const int32_t> prompt,
                                     const GenerationRequest& request,
                                     const TokenCallback& on_token,
                                     const ProgressCallback& on_progress) {
  Implementation& self = *implementation_;
  if (prompt.empty()) {
    throw core::error("prompt", "expected at least one token, got none");
  }
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  // The first answer token needs no room: it is sampled from the prompt's logits.
  if (!self.policy->endless() && sequence.num_tokens() + prompt_tokens > self.context) {
    throw ContextFull(sequence.num_tokens() + prompt_tokens, self.context);
  }
  if (request.guesses < 0 || request.guesses > kMostGuesses ||
      (request.guesses > 0 && self.policy->evicts())) {
    throw core::InvalidOption("guesses",
                              std::to_string(request.guesses),
                              self.policy->evicts()
                                  ? fmt::format("0 with the policy {}", self.policy->name())
                                  : fmt::format("0 to {}", kMostGuesses));
  }
  const Sampler sampler(request.sampling, self.model->spec.vocab_size);
  GenerationResult result;
  result.prompt_tokens = prompt_tokens;
  std::vector<int32_t> generated;
  std::optional<PromptLookup> lookup;
  if (request.guesses > 0) {
    lookup.emplace(prompt);
  }

  auto start = std::chrono::steady_clock::now();
  sequence.begin_turn(prompt_tokens, request.max_tokens);
  at::Tensor logits = self.next_logits(sequence, prompt, 1, on_progress);
  result.prefill_seconds = seconds_since(start);
  start = std::chrono::steady_clock::now();
  const int64_t before = sequence.num_tokens();  // the answer
  int64_t known = before;                        // tokens of the sequence that are no guesses
  std::vector<int32_t> step;                     // the newest token, then guesses of what follows
  size_t row = 0;                                // of `logits`: what follows step[row]
  int64_t trusted = 1;                           // guesses of the next step, at most
  while (static_cast<int64_t>(generated.size()) < request.max_tokens) {
    const auto vocab_size = static_cast<size_t>(logits.size(1));
    SampledToken sampled =
        sampler.sample({logits.const_data_ptr<float>() + row * vocab_size, vocab_size},
                       {.prompt = prompt, .generated = generated},
                       generated.size(),
                       self.workspace);
    const int32_t token = sampled.token;
    result.decoded_tokens += result.decode_steps > 0 ? 1 : 0;
    if (std::find(request.end_tokens.begin(), request.end_tokens.end(), token) !=
        request.end_tokens.end()) {
      result.finish = FinishReason::kStop;
      break;
    }
    generated.push_back(token);
    result.tokens.push_back(std::move(sampled));
    if (!on_token(result.tokens.back())) {
      result.finish = FinishReason::kStop;
      break;
    }
    if (static_cast<int64_t>(generated.size()) == request.max_tokens) {
      break;
    }
    // With this token in the sequence:
    const int64_t length = before + static_cast<int64_t>(generated.size());
    if (!self.policy->endless() && length > self.context) {
      result.finish = FinishReason::kContext;
      break;
    }
    if (lookup) {
      lookup->append(token);
    }
    known = length;
    if (row + 1 < step.size() && step[row + 1] == token) {
      ++row;  // guessed: its logits are there
      continue;
    }
    if (sequence.num_tokens() >= length) {
      sequence.truncate(length - 1);  // wrong guesses
    }
    // Rows are not free: as many guesses as were right last time, twice as many if all were.
    const auto right = static_cast<int64_t>(row);
    trusted = row + 1 == step.size() ? 2 * trusted : std::max<int64_t>(right, 1);
    trusted = std::min(trusted, request.guesses);
    step = {token};
    row = 0;
    if (lookup) {
      int64_t room = std::min(trusted, self.context - length);
      if (!self.store->sealed_is_raw()) {  // what would open a new page could not be taken back
        room = std::min(room, kv::kPageTokens - 1 - (length - 1) % kv::kPageTokens);
      }
      const auto guess = lookup->guess(room);
      step.insert(step.end(), guess.begin(), guess.end());
    }
    logits = self.next_logits(sequence, step, static_cast<int64_t>(step.size()), {});
    ++result.decode_steps;
  }
  if (sequence.num_tokens() > known) {
    sequence.truncate(known);  // guesses that nobody looked at any more
  }
  result.decode_seconds = seconds_since(start);
  return result;
}

}  // namespace adze::infer
