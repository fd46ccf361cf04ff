#pragma once
// Attention of whole sequences that lie one below the other, with gradients: what training needs.
// Scores are made, used and forgotten a block at a time, forward and backward (Dao et al.,
// arXiv:2205.14135, section 3.1 and appendix B.2), so memory is linear in rows.

#include <cstdint>
#include <span>

namespace adze::kernels {

struct PackedAttention {
  const float* query;                        // [rows, heads * head_dim]
  const float* key;                          // [rows, kv_heads * head_dim]
  const float* value;                        // as key
  std::span<const int64_t> sequence_starts;  // [sequences + 1], rising from 0 to rows
  int64_t heads;
  int64_t kv_heads;  // a divisor of heads
  int64_t head_dim;
  float scale;     // of q · k
  int64_t window;  // keys that a row sees, its own included; 0: all before it
  bool causal;     // false: a row sees its whole sequence; without window
};

// result [rows, heads * head_dim]; log_sums [rows, heads]: log Σ exp(scores), for the gradient.
// Bound by multiply-adds. Bits depend on the sequence alone, not on what lies beside it, nor on
// threads.
void packed_attention(const PackedAttention& attention, float* result, float* log_sums);

struct PackedAttentionGradient {
  PackedAttention attention;
  const float* result;           // of packed_attention
  const float* log_sums;         // of packed_attention
  const float* result_gradient;  // [rows, heads * head_dim]
  float* query_gradient;         // [rows, heads * head_dim], overwritten like the other two
  float* key_gradient;           // [rows, kv_heads * head_dim]
  float* value_gradient;
};

// Scores are computed again. Takes memory for the gradients of keys and values once more, and of
// their first half, three quarters, ... for sequences of more than 2,048 rows.
void packed_attention_gradient(const PackedAttentionGradient& gradient);

// In double, every score in full.
void packed_attention_reference(const PackedAttention& attention, float* result, float* log_sums);
void packed_attention_gradient_reference(const PackedAttentionGradient& gradient);

}  // namespace adze::kernels
