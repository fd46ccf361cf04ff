#pragma once
// A storage format for keys and values: one instance for a model and its options, without any state
// of a sequence. A page is 32 tokens of one slot (a layer that owns keys and values). The page
// being filled is raw; opening the next one seals it, and rows of later pages read the sealed form.
// What a row sees therefore depends on its place, never on how rows were cut into steps.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/paged_attention/paged_attention.h"
#include "kv/page_pool.h"

namespace adze::kv {

constexpr int64_t kPageTokens = kernels::kPageTokens;

// One slot of one sequence.
struct SlotPages {
  std::vector<PageRef> sealed;  // pages 0 .. sealed.size() - 1
  std::vector<PageRef> raw;     // pages first_raw .. ; during a step the sealed ones' raw forms too
  int64_t first_raw = 0;        // page number of raw[0]
  int64_t length = 0;           // tokens
  // Position in the text of each cached token, [length, 1 or kv_heads]; empty while nothing has
  // been dropped (token r is at position r).
  std::vector<int32_t> positions;

  int64_t bytes() const;  // of pages that this slot refers to, shared ones included
};

// Tokens to keep: rising ranks, [heads, kept] with heads 1 (all alike) or kv_heads.
struct Columns {
  int64_t heads = 1;
  std::vector<int32_t> ranks;
  int64_t kept() const { return static_cast<int64_t>(ranks.size()) / heads; }
};

// Rows of one sequence that attend to one of its slots; the rows' own tokens are appended already.
struct SequenceRows {
  const SlotPages* pages;
  const float* query;  // [rows, heads, head_dim], rotated
  float* output;       // [rows, heads, head_dim]
  int64_t rows;
  // Rank of the first token that a row sees [first_visible_heads, rows]; null: 0.
  const int32_t* first_visible = nullptr;
  int64_t first_visible_heads = 1;  // or kv_heads
  bool bidirectional = false;       // rows see each other whole: an encoder's, all in one step
};

class KvStore {
 public:
  explicit KvStore(const kernels::AttentionShape& shape) : shape_(shape) {}
  virtual ~KvStore() = default;

  virtual std::string name() const = 0;  // with its options, as registered
  virtual int64_t raw_page_bytes() const = 0;
  virtual int64_t sealed_page_bytes() const = 0;

  // Appends raw rows key, value [rows, kv_heads, head_dim] (rotated or not: the caller's choice for
  // the whole sequence) of the tokens at first_position, first_position + 1, ... of the text.
  // Copies a shared page before writing to it. Throws CacheFull.
  void append(PagePool& pool,
              SlotPages& slot,
              const float* key,
              const float* value,
              int64_t rows,
              int64_t first_position) const;

  // All sequences of a step that use this store and key form, in one call.
  // rotation: null pointers where keys are stored rotated.
  virtual void attend(std::span<const SequenceRows> sequences,
                      const kernels::KeyRotation& rotation) const = 0;

  // Drops all tokens but the columns. Whole pages go back to the pool; a page whose tokens keep
  // their places stays as it is, others are packed again.
  void keep(PagePool& pool, SlotPages& slot, const Columns& columns) const;

  // Drops tokens from `length` on. Throws core::Error where that would open a sealed page whose raw
  // rows are gone.
  void truncate(SlotPages& slot, int64_t length) const;

  // Frees the raw forms of sealed pages: no row of the step needs them any more.
  void end_step(SlotPages& slot) const;

  const kernels::AttentionShape& shape() const { return shape_; }
  // Whether a sealed page is its raw one, so that truncate() may go back to any length.
  virtual bool sealed_is_raw() const = 0;

 protected:
  virtual kernels::PageType raw_type() const = 0;
  // The sealed form of a full raw page; the same page where both forms are one.
  virtual PageRef seal(PagePool& pool, const PageRef& raw) const = 0;
  // One token of a sealed page as f32 [kv_heads, head_dim] each.
  virtual void read_sealed(const PageRef& page, int64_t index, float* key, float* value) const = 0;

 private:
  PageRef pack_page(PagePool& pool,
                    const SlotPages& slot,
                    const Columns& columns,
                    int64_t page) const;

  kernels::AttentionShape shape_;
};
using KvStorePtr = std::shared_ptr<const KvStore>;

// Pages in one plain element type (f32, f16), raw and sealed alike.
KvStorePtr make_plain_store(kernels::PageType type, const kernels::AttentionShape& shape);
// Raw pages in one plain type, sealed ones in another.
KvStorePtr make_plain_store(kernels::PageType raw_type,
                            kernels::PageType sealed_type,
                            const kernels::AttentionShape& shape);

}  // namespace adze::kv
