#pragma once
// Attention of training: all rows of all sequences at once, with gradients, nothing cached.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/rope/rope.h"
#include "tensor/aten.h"

namespace adze::tensor {

// x [rows, heads * 2 * table->half()] rotated to positions [rows], into a new tensor. A null table:
// x itself. The table must outlive the backward pass.
at::Tensor rotate(const at::Tensor& x,
                  const kernels::RopeTable* table,
                  const std::vector<int64_t>& positions);

struct PackedAttentionShape {
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  double scale;        // of q · k
  double softcap = 0;  // c: scores become c tanh(score / c); 0: as they are
  int64_t window = 0;  // keys that a row sees, its own included; 0: all before it
  bool causal = true;
};

// query [rows, heads * head_dim]; key, value [rows, kv_heads * head_dim], rotated; sequence_starts
// [sequences + 1]. A row sees rows of its own sequence alone. Returns [rows, heads * head_dim].
// Memory for the backward pass is linear in rows, but for layers with a soft cap, whose scores are
// kept.
at::Tensor packed_attention(const at::Tensor& query,
                            const at::Tensor& key,
                            const at::Tensor& value,
                            std::span<const int64_t> sequence_starts,
                            const PackedAttentionShape& shape);

}  // namespace adze::tensor
