#pragma once
// What the scheduler asks of a model and its cache. It sees token ids and logits, never a tensor,
// so that it is tested with an engine of a few lines.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/state_stream.h"

namespace adze::infer {

struct CacheChoice {
  std::string store = "f16";    // as kv/cache_registry.h names them
  std::string policy = "full";  // likewise
  std::string tenant;           // texts of two tenants never share a page
  int64_t adapter = 0;          // 0: the model itself
};

struct CacheFigures {
  std::string store;
  std::string policy;
  int64_t tokens = 0;       // seen
  int64_t kept_tokens = 0;  // of the layer that keeps most
  int64_t bytes = 0;        // pages that the text refers to, shared ones included
  int64_t full_bytes = 0;   // of all its tokens in f16
};

using PositionRange = std::pair<int64_t, int64_t>;  // [first, end)

// One text in the cache. Destroying it returns its pages.
class CachedText {
 public:
  virtual ~CachedText() = default;

  virtual int64_t length() const = 0;                       // tokens seen
  virtual int64_t rows_before_cut() const = 0;              // that the next step may append
  virtual int64_t rows_at_once() const { return 1; }        // that it has to append
  virtual int64_t bytes_to_append(int64_t rows) const = 0;  // of new pages, at most
  virtual std::unique_ptr<CachedText> fork() const = 0;     // shares all pages
  // A prompt of `incoming` tokens follows what is there, then an answer of up to `reserved`.
  virtual void begin_turn(int64_t incoming, int64_t reserved) = 0;
  // Tokens that a step may append and truncate() take back, 0 for a policy that evicts.
  virtual int64_t rows_to_guess() const = 0;
  virtual void truncate(int64_t length) = 0;
  // Whether the same tokens give the same cache again; otherwise it has to be saved to make room.
  virtual bool recomputable() const = 0;
  virtual void save(core::StateWriter& writer) const = 0;
  virtual CacheFigures figures() const = 0;
  // By layer, the positions of the text that are in the cache.
  virtual std::vector<std::vector<PositionRange>> kept() const = 0;
};

struct StepPart {
  CachedText* text;
  std::span<const int32_t> tokens;  // appended to the text, at most rows_before_cut()
  int64_t wanted;                   // logits of the last `wanted` of them
};

// One thread at a time, but for the members said to be constant.
class StepEngine {
 public:
  virtual ~StepEngine() = default;

  // Constant, any thread:
  virtual int64_t vocab_size() const = 0;
  virtual int64_t context() const = 0;
  virtual int64_t cache_bytes() const = 0;  // budget
  // Most bytes of a text of so many tokens. Throws core::UsageError: unknown store or policy.
  virtual int64_t most_bytes(const CacheChoice& choice, int64_t tokens) const = 0;
  virtual bool evicts(const CacheChoice& choice) const = 0;  // the context is no limit
  virtual bool recomputable(const CacheChoice& choice) const = 0;
  // The longest prompt of a policy that reads prompts in one step and lets rows of them go; none:
  // any prompt, every row.
  virtual std::optional<int64_t> whole_prompt(const CacheChoice& /*choice*/) const {
    return std::nullopt;
  }

  // A text whose prompt is `tokens`, before an answer of up to `reserved`. It begins with as many
  // of them as other texts of this choice have left in the cache, at most all but the last one;
  // with none where `reuses` is false.
  virtual std::unique_ptr<CachedText> open(const CacheChoice& choice,
                                           std::span<const int32_t> tokens,
                                           int64_t reserved,
                                           bool reuses) = 0;
  virtual std::unique_ptr<CachedText> load(const CacheChoice& choice,
                                           core::StateReader& reader) = 0;
  // Leaves the text's whole pages for later texts that begin with these tokens (all that it holds).
  virtual void publish(const CachedText& text, std::span<const int32_t> tokens) = 0;

  // One forward pass. Logits by part, [wanted, vocab_size] each, valid until the next step.
  virtual std::vector<const float*> step(std::span<const StepPart> parts) = 0;

  virtual int64_t free_bytes() const = 0;
  // Drops published pages, the least recently used first, until so many bytes are free or none is
  // left.
  virtual void reclaim(int64_t bytes) = 0;
  virtual int64_t reclaimable_bytes() const = 0;  // at most what reclaim() could free
};

}  // namespace adze::infer
