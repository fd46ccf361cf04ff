#pragma once
// Attention of rows over paged keys and values, for decode (one row) and prefill (many): causal,
// within a window, or in both directions.
//
// A page holds 32 tokens of one slot:
//   key   [kv_heads, head_dim, 32]   transposed: tokens are the lanes of the score product
//   value [kv_heads, 32, head_dim]
// Pages of int8 hold multiples of scales, which follow: of keys [kv_heads, 32] f32, then of values.
// The scale of a head's key or value is its largest magnitude / 127.
//
// Promise: the bits of an output row depend on its query, on the tokens it sees and on their form,
// never on the other rows, on threads or on how rows were cut into calls. (Rows that see both ways
// are cut with equal first_rank + rows, so that all see the same.) Tokens are reduced in
// blocks of 256: inside a block softmax takes the block's maximum, then blocks are merged in rising
// order (the log-sum-exp recurrence of Milakov and Gimelshein, arXiv:1805.02867, at block grain).

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/paged_attention/page_codec.h"

namespace adze::kernels {

enum class PageType : uint8_t { kF32, kF16, kBF16, kInt8, kCoded };
std::string_view page_type_name(PageType type);

constexpr int64_t kPageTokens = 32;
constexpr int64_t kAttentionBlockTokens = 256;

struct AttentionShape {
  int64_t heads;  // a multiple of kv_heads
  int64_t kv_heads;
  int64_t head_dim;  // a multiple of 16
  float scale;       // 1 / sqrt(head_dim)
  // Scores become softcap * tanh(score / softcap) (Gemma team, arXiv:2408.00118, section 2); 0:
  // they stay as they are.
  float softcap = 0;
};

// cos and sin by rank, for keys that are stored unrotated: [pages, head_dim / 2, 32], tokens last,
// so that a tile rotates lane by lane. Dimension i is paired with i + head_dim / 2.
struct KeyRotation {
  const float* cosine = nullptr;
  const float* sine = nullptr;
};

struct AttentionSequence {
  const float* query;  // [rows, heads, head_dim], rotated; row stride heads * head_dim
  float* output;       // [rows, heads, head_dim]
  int64_t rows;
  int64_t first_rank;                 // row r sees ranks 0 .. first_rank + r
  const std::byte* const* pages;      // by page number: the form that later pages' rows read
  const std::byte* const* own_pages;  // by page number: the form that a page's own rows read
  // Sliding windows: row r sees ranks first_visible[r] .. first_rank + r, at least its own. Rows of
  // kv head h find theirs at first_visible + h * stride: 0 where all heads are alike, else at least
  // rows. Null: row r sees all from rank 0. A page that no row of a call sees is not read, nor is
  // its pointer.
  const int32_t* first_visible = nullptr;  // [rows], or [kv_heads, rows]
  int64_t first_visible_head_stride = 0;
  // Encoders: each row sees ranks 0 .. first_rank + rows - 1, all in own_pages. Not with
  // first_visible.
  bool bidirectional = false;
  // Rows of pages below this number read every page in own_pages: nothing was sealed yet.
  int64_t first_pages = 0;
  const std::byte* side = nullptr;  // of pages that a codec reads
  // Natural logarithm of the sum of exp(score) over what a row sees [rows, heads]; null: not
  // wanted.
  float* log_sum_exp = nullptr;
};

struct PagedAttention {
  AttentionShape shape;
  PageType page_type;
  PageType own_page_type;
  KeyRotation key_rotation;          // null pointers: keys are stored rotated
  const PageCodec* codec = nullptr;  // of pages of type kCoded
};

// Bytes of one page.
int64_t attention_page_bytes(const AttentionShape& shape, PageType type);

// Writes `count` tokens' key and value [count, kv_heads, head_dim] to places first .. first + count
// of a page; first + count <= 32.
void write_page_tokens(const AttentionShape& shape,
                       PageType type,
                       const float* key,
                       const float* value,
                       int64_t first,
                       int64_t count,
                       std::byte* page);
// The specification, for one token.
void write_page_token_reference(const AttentionShape& shape,
                                PageType type,
                                const float* key,
                                const float* value,
                                int64_t index,
                                std::byte* page);
// The inverse, for repacking; exact.
void read_page_token(const AttentionShape& shape,
                     PageType type,
                     const std::byte* page,
                     int64_t index,
                     float* key,
                     float* value);

// The first `count` tokens of one head: key, value [count, head_dim].
void read_page_head(const AttentionShape& shape,
                    PageType type,
                    const std::byte* page,
                    int64_t kv_head,
                    int64_t count,
                    float* key,
                    float* value);

// All sequences of a step in one parallel region over sequence x kv head x block (few rows) or row
// tile (many rows). Decode reads 2 * kv_heads * visible tokens * head_dim elements, in whole pages:
// memory bound.
void paged_attention(const PagedAttention& attention, std::span<const AttentionSequence> sequences);

// Where a number a head and token is: at first[head * head_stride + token * token_stride].
struct MassTarget {
  float* first;
  int64_t head_stride;
  int64_t token_stride = 1;

  float& at(int64_t head, int64_t token) const {
    return first[head * head_stride + token * token_stride];
  }
};

// How much rows attend to each token: for a kv head, the mean over its group's query heads of
// attention, times the row's weight, summed over the rows.
struct AttentionMass {
  const float* query;        // [rows, heads, head_dim], rotated
  const float* log_sum_exp;  // [rows, heads], as paged_attention gives it
  const float* row_weights;  // [rows]; null: 1 each
  const int32_t* end_ranks;  // [rows]: row r sees ranks below end_ranks[r]
  // And not below begin_ranks[r]; those of kv head h are at begin_ranks + h * stride. Null: 0.
  const int32_t* begin_ranks = nullptr;
  int64_t begin_head_stride = 0;
  int64_t rows;
  const std::byte* const* pages;  // by page number, as they are now
  const PageType* page_types;     // likewise
  const std::byte* side = nullptr;
  int64_t tokens;
  MassTarget mass;  // of kv heads and tokens, added to
};
// Never stores a row's scores beyond one page. Bits depend on what the rows and tokens are, not on
// threads. Costs a query-key product: rows * heads * tokens * head_dim multiply-adds.
void attention_mass(const PagedAttention& attention, const AttentionMass& mass);
// The specification: double accumulation.
void attention_mass_reference(const PagedAttention& attention, const AttentionMass& mass);

// The specification: double accumulation, one softmax over all visible tokens. The fast one differs
// by at most 2e-5 relative to the largest |value| seen, with scores up to about 30 in size.
void paged_attention_reference(const PagedAttention& attention,
                               std::span<const AttentionSequence> sequences);

}  // namespace adze::kernels
