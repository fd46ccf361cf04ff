#include "tensor/attention.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include "core/check.h"
#include "kernels/packed_attention/packed_attention.h"
#include "tensor/operations.h"
#include "tensor/recording.h"

namespace adze::tensor {
namespace {

// [rows, keys]: 0 where the row sees the key, else -infinity. Keys end with the last row's own.
at::Tensor window_mask(int64_t rows, int64_t keys, int64_t window) {
  at::Tensor mask = at::full({rows, keys}, -std::numeric_limits<float>::infinity(), at::kFloat);
  auto* values = mask.mutable_data_ptr<float>();
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t own = keys - rows + row;
    for (int64_t key = std::max<int64_t>(0, own - window + 1); key <= own; ++key) {
      values[row * keys + key] = 0;
    }
  }
  return mask;
}

kernels::PackedAttention kernel_attention(const at::Tensor& query,
                                          const at::Tensor& key,
                                          const at::Tensor& value,
                                          std::span<const int64_t> starts,
                                          const PackedAttentionShape& shape) {
  return {.query = query.const_data_ptr<float>(),
          .key = key.const_data_ptr<float>(),
          .value = value.const_data_ptr<float>(),
          .sequence_starts = starts,
          .heads = shape.heads,
          .kv_heads = shape.kv_heads,
          .head_dim = shape.head_dim,
          .scale = static_cast<float>(shape.scale),
          .window = shape.window,
          .causal = shape.causal};
}

// Scores in full, by libtorch's own recorded operations: for what the kernel cannot do.
at::Tensor attention_in_full(const at::Tensor& query,
                             const at::Tensor& key,
                             const at::Tensor& value,
                             std::span<const int64_t> starts,
                             const PackedAttentionShape& shape) {
  const int64_t group = shape.heads / shape.kv_heads;
  std::vector<at::Tensor> results;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const int64_t rows = starts[i + 1] - starts[i];
    const auto heads_first = [&](const at::Tensor& x, int64_t heads_a_kv_head) {
      return x.narrow(0, starts[i], rows)
          .view({rows, shape.kv_heads, heads_a_kv_head, shape.head_dim})
          .permute({1, 2, 0, 3});  // [kv_heads, heads_a_kv_head, rows, head_dim]
    };
    at::Tensor scores =
        at::matmul(heads_first(query, group), heads_first(key, 1).transpose(2, 3)) * shape.scale;
    if (shape.softcap > 0) {
      scores = (scores / shape.softcap).tanh() * shape.softcap;
    }
    if (shape.causal) {
      scores = scores + window_mask(rows, rows, shape.window > 0 ? shape.window : rows);
    }
    const at::Tensor attended = at::matmul(at::softmax(scores, -1), heads_first(value, 1));
    results.push_back(attended.permute({2, 0, 1, 3}).reshape({rows, -1}));
  }
  return at::cat(results).contiguous();
}

}  // namespace

at::Tensor rotate(const at::Tensor& x,
                  const kernels::RopeTable* table,
                  const std::vector<int64_t>& positions) {
  if (table == nullptr) {
    return x;
  }
  const int64_t heads = x.size(1) / (2 * table->half());
  at::Tensor y = empty_floats(x.size(0), x.size(1));
  kernels::rope(*table,
                x.const_data_ptr<float>(),
                positions.data(),
                x.size(0),
                heads,
                y.mutable_data_ptr<float>());
  if (is_recorded({x})) {
    record({y}, {x}, [table, positions, heads, like = y.detach()](const auto& gradients) {
      const at::Tensor gradient = whole_gradient(gradients[0], like);
      at::Tensor of_x = empty_floats(like.size(0), like.size(1));
      kernels::rope_gradient(*table,
                             gradient.template const_data_ptr<float>(),
                             positions.data(),
                             like.size(0),
                             heads,
                             of_x.mutable_data_ptr<float>());
      return std::vector{of_x};
    });
  }
  return y;
}

at::Tensor packed_attention(const at::Tensor& query,
                            const at::Tensor& key,
                            const at::Tensor& value,
                            std::span<const int64_t> sequence_starts,
                            const PackedAttentionShape& shape) {
  core::check(query.size(1) == shape.heads * shape.head_dim &&
                  key.size(1) == shape.kv_heads * shape.head_dim && value.sizes() == key.sizes() &&
                  query.size(0) == key.size(0) && sequence_starts.back() == query.size(0),
              "rows of queries, keys and values");
  core::check(shape.causal || shape.window == 0, "windows of causal attention alone");
  if (shape.softcap > 0) {
    return attention_in_full(query, key, value, sequence_starts, shape);
  }
  for (const at::Tensor& rows : {query, key, value}) {
    core::check(rows.is_contiguous() && rows.scalar_type() == at::kFloat, "contiguous f32 rows");
  }
  at::Tensor result = empty_floats(query.size(0), query.size(1));
  at::Tensor log_sums = empty_floats(query.size(0), shape.heads);
  kernels::packed_attention(kernel_attention(query, key, value, sequence_starts, shape),
                            result.mutable_data_ptr<float>(),
                            log_sums.mutable_data_ptr<float>());
  if (!is_recorded({query, key, value})) {
    return result;
  }
  record({result},
         {query, key, value},
         [shape,
          query,
          key,
          value,
          log_sums,
          starts = std::vector(sequence_starts.begin(), sequence_starts.end()),
          kept = result.detach()](const auto& gradients) {
           const at::Tensor gradient = whole_gradient(gradients[0], kept);
           at::Tensor of_query = empty_floats(query.size(0), query.size(1));
           at::Tensor of_key = empty_floats(key.size(0), key.size(1));
           at::Tensor of_value = empty_floats(key.size(0), key.size(1));
           kernels::packed_attention_gradient(
               {.attention = kernel_attention(query, key, value, starts, shape),
                .result = kept.template const_data_ptr<float>(),
                .log_sums = log_sums.template const_data_ptr<float>(),
                .result_gradient = gradient.template const_data_ptr<float>(),
                .query_gradient = of_query.mutable_data_ptr<float>(),
                .key_gradient = of_key.mutable_data_ptr<float>(),
                .value_gradient = of_value.mutable_data_ptr<float>()});
           return std::vector{of_query, of_key, of_value};
         });
  return result;
}

}  // namespace adze::tensor
