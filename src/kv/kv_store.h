#pragma once
// A storage format for keys and values: one instance for a model and its options, without any state
// of a sequence. A page is 32 tokens of one slot (a layer that owns keys and values). The page
// being filled is raw; opening the next one seals it, and rows of later pages read the sealed form.
// A store may keep its first pages raw until several are there (first_pages()): it then fixes what
// all its pages of the slot share, the side data, and seals them together.
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
  PageRef side;                 // what the sealed pages share; none where the store needs none
  int64_t first_raw = 0;        // page number of raw[0]
  int64_t length = 0;           // tokens
  // Rows of this step in pages below this number read raw pages only: the slot had sealed none.
  int64_t unsealed_pages = 0;
  // Position in the text of each cached token, [length, 1 or kv_heads]; empty while nothing has
  // been dropped (token r is at position r).
  std::vector<int32_t> positions;
  // Attention that each token has received so far [length, kv_heads, readers of the slot]; empty
  // where nobody asks.
  std::vector<float> received;

  int64_t page_bytes() const;  // that this slot refers to, shared ones included
  int64_t num_pages() const { return first_raw + static_cast<int64_t>(raw.size()); }
};

// Rank of the first token that the token at `rank` sees through a window of positions (0: none).
int64_t first_visible_rank(const SlotPages& slot, int64_t head, int64_t rank, int64_t window);

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
  float* log_sum_exp = nullptr;     // [rows, heads] where wanted
};

// Rows whose attention to a slot's tokens is summed.
struct MassRows {
  const float* query;                  // [rows, heads, head_dim], rotated
  const float* log_sum_exp;            // [rows, heads]
  const float* weights;                // [rows]; null: 1 each
  std::span<const int32_t> end_ranks;  // row r sees ranks below end_ranks[r], its own the last
  int64_t window = 0;                  // and no positions before that; 0: all
  kernels::KeyRotation rotation = {};  // null pointers where keys are stored rotated
  // Whether pages are read as these rows read them in this step; else in the form they have now.
  bool as_attended = false;
};

class KvStore {
 public:
  explicit KvStore(const kernels::AttentionShape& shape) : shape_(shape) {}
  virtual ~KvStore() = default;

  virtual std::string name() const = 0;  // with its options, as registered
  virtual int64_t sealed_page_bytes() const = 0;
  virtual int64_t side_bytes() const { return 0; }  // a slot
  bool accepts_side(const std::byte* side) const {  // of a file
    return codec() == nullptr || codec()->accepts_side(side);
  }
  virtual int64_t first_pages() const { return 1; }  // that are sealed together
  int64_t raw_page_bytes() const { return kernels::attention_page_bytes(shape_, raw_type()); }
  // Most bytes of a slot that holds so many tokens.
  int64_t most_slot_bytes(int64_t tokens) const;

  // Appends raw rows key, value [rows, kv_heads, head_dim] (rotated or not: the caller's choice for
  // the whole sequence) of the tokens at `positions` of the text, rising. Copies a shared page
  // before writing to it. Throws CacheFull.
  void append(PagePool& pool,
              SlotPages& slot,
              const float* key,
              const float* value,
              std::span<const int32_t> positions) const;

  // All sequences of a step that use this store and key form, in one call.
  // rotation: null pointers where keys are stored rotated.
  void attend(std::span<const SequenceRows> sequences, const kernels::KeyRotation& rotation) const;

  // Adds the attention of rows to a slot's tokens to the masses of kv heads and tokens, a row after
  // the other.
  void add_mass(const SlotPages& slot, const MassRows& rows, const kernels::MassTarget& mass) const;

  // Keys as they are stored, [kv_heads, slot.length, head_dim].
  std::vector<float> keys(const SlotPages& slot) const;

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
  virtual kernels::PageType raw_type() const = 0;

 protected:
  virtual kernels::PageType sealed_type() const = 0;
  virtual const kernels::PageCodec* codec() const { return nullptr; }
  // Fixes slot.side from its raw pages 0 .. first_pages() - 1.
  virtual void make_side(PagePool& /*pool*/, SlotPages& /*slot*/) const {}
  // The sealed form of a full raw page; the same page where both forms are one. May write to the
  // slot's side data.
  virtual PageRef seal(PagePool& pool, SlotPages& slot, const PageRef& raw, int64_t page) const = 0;
  // One head of a sealed page as f32 [32, head_dim] each.
  virtual void read_sealed(
      const SlotPages& slot, int64_t page, int64_t kv_head, float* key, float* value) const = 0;
  void read_page(
      const SlotPages& slot, int64_t page, int64_t kv_head, float* key, float* value) const;

 private:
  void seal_pages(PagePool& pool, SlotPages& slot, int64_t end) const;
  PageRef pack_page(PagePool& pool,
                    const SlotPages& slot,
                    const Columns& columns,
                    int64_t page) const;

  kernels::AttentionShape shape_;
};
using KvStorePtr = std::shared_ptr<const KvStore>;

// Pages in one plain element type, raw and sealed alike.
KvStorePtr make_plain_store(kernels::PageType type, const kernels::AttentionShape& shape);
// Raw pages in one plain type, sealed ones in another.
KvStorePtr make_plain_store(kernels::PageType raw_type,
                            kernels::PageType sealed_type,
                            const kernels::AttentionShape& shape);
// Raw pages in f16, sealed ones as the codec makes them.
KvStorePtr make_coded_store(std::string name,
                            std::shared_ptr<const kernels::PageCodec> codec,
                            const kernels::AttentionShape& shape);

}  // namespace adze::kv
