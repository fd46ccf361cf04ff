#include "tensor/attention.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"
#include "tensor/operations.h"
#include "tensor/recording.h"

namespace adze::tensor {
namespace {

// Neighbouring sequences of one length, which libtorch's kernel takes in one call, or a block of
// rows of one sequence with a window, and the keys that it sees.
struct Tile {
  int64_t first_row;
  int64_t rows;  // of each sequence
  int64_t first_key;
  int64_t keys;       // of each sequence; as many as rows unless there is a window
  int64_t sequences;  // 1 where there is a window
};

constexpr int64_t kWindowRows = 256;  // of a block; a mask of 256 x (window + 256) is shared by all

std::vector<Tile> whole_tiles(std::span<const int64_t> starts) {
  std::vector<Tile> tiles;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const int64_t rows = starts[i + 1] - starts[i];
    if (rows == 0) {
      continue;
    }
    if (!tiles.empty() && tiles.back().rows == rows) {
      ++tiles.back().sequences;
    } else {
      tiles.push_back({starts[i], rows, starts[i], rows, 1});
    }
  }
  return tiles;
}

std::vector<Tile> window_tiles(std::span<const int64_t> starts, int64_t window) {
  std::vector<Tile> tiles;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    for (int64_t row = starts[i]; row < starts[i + 1]; row += kWindowRows) {
      const int64_t end = std::min(row + kWindowRows, starts[i + 1]);
      const int64_t first_key = std::max(starts[i], row - window + 1);
      tiles.push_back({row, end - row, first_key, end - first_key, 1});
    }
  }
  return tiles;
}

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

// libtorch's kernel knows as many kv heads as heads: query heads that share a kv head are taken one
// after the other, as views of every group-th head, so nothing is repeated in memory.
class Flash {
 public:
  Flash(const PackedAttentionShape& shape, std::span<const int64_t> starts)
      : shape_(shape),
        group_(shape.heads / shape.kv_heads),
        tiles_(shape.window > 0 ? window_tiles(starts, shape.window) : whole_tiles(starts)) {}

  // Keeps what backward needs beside the inputs.
  at::Tensor forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
    at::Tensor result = empty_floats(query.size(0), query.size(1));
    for (const Tile& tile : tiles_) {
      const at::Tensor keys = kv_view(key, tile);
      const at::Tensor values = kv_view(value, tile);
      for (int64_t member = 0; member < group_; ++member) {
        auto [output, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(
            query_view(query, tile, member), keys, values, 0.0, is_causal(), mask(tile), scale());
        query_view(result, tile, member).copy_(output);
        log_sums_.push_back(std::move(log_sums));
      }
    }
    return result;
  }

  std::vector<at::Tensor> backward(const at::Tensor& query,
                                   const at::Tensor& key,
                                   const at::Tensor& value,
                                   const at::Tensor& result,
                                   const at::Tensor& gradient) const {
    at::Tensor of_query = empty_floats(query.size(0), query.size(1));
    // Windows overlap: keys of several tiles are added up.
    at::Tensor of_key = at::zeros({key.size(0), key.size(1)}, at::kFloat);
    at::Tensor of_value = at::zeros({key.size(0), key.size(1)}, at::kFloat);
    auto log_sums = log_sums_.begin();
    for (const Tile& tile : tiles_) {
      for (int64_t member = 0; member < group_; ++member) {
        const auto [query_part, key_part, value_part] =
            at::_scaled_dot_product_flash_attention_for_cpu_backward(
                query_view(gradient, tile, member),
                query_view(query, tile, member),
                kv_view(key, tile),
                kv_view(value, tile),
                query_view(result, tile, member),
                *log_sums++,
                0.0,
                is_causal(),
                mask(tile),
                scale());
        query_view(of_query, tile, member).copy_(query_part);
        kv_view(of_key, tile).add_(key_part);
        kv_view(of_value, tile).add_(value_part);
      }
    }
    return {of_query, of_key, of_value};
  }

 private:
  // [sequences, kv_heads, rows, head_dim]: the member-th query head of each kv head.
  at::Tensor query_view(const at::Tensor& x, const Tile& tile, int64_t member) const {
    return x.narrow(0, tile.first_row, tile.rows * tile.sequences)
        .view({tile.sequences, tile.rows, shape_.kv_heads, group_, shape_.head_dim})
        .select(3, member)
        .transpose(1, 2);
  }
  at::Tensor kv_view(const at::Tensor& x,
                     const Tile& tile) const {  // [sequences, kv_heads, keys, ...]
    return x.narrow(0, tile.first_key, tile.keys * tile.sequences)
        .view({tile.sequences, tile.keys, shape_.kv_heads, shape_.head_dim})
        .transpose(1, 2);
  }
  bool is_causal() const { return shape_.causal && shape_.window == 0; }
  std::optional<double> scale() const { return shape_.scale; }
  std::optional<at::Tensor> mask(const Tile& tile) const {
    if (shape_.window == 0) {
      return std::nullopt;
    }
    if (!mask_.defined() || mask_.size(0) != tile.rows || mask_.size(1) != tile.keys) {
      mask_ = window_mask(tile.rows, tile.keys, shape_.window);
    }
    return mask_.view({1, 1, tile.rows, tile.keys});
  }

  PackedAttentionShape shape_;
  int64_t group_;
  std::vector<Tile> tiles_;
  std::vector<at::Tensor> log_sums_;  // of each tile and member
  mutable at::Tensor mask_;           // of the last tile, which most tiles share
};

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
  Flash flash(shape, sequence_starts);
  at::Tensor result = [&] {
    const at::NoGradGuard guard;
    return flash.forward(query, key, value);
  }();
  if (is_recorded({query, key, value})) {
    record({result},
           {query, key, value},
           [flash, query, key, value, kept = result.detach()](const auto& gradients) {
             return flash.backward(query, key, value, kept, whole_gradient(gradients[0], kept));
           });
  }
  return result;
}

}  // namespace adze::tensor
