// Tokens in and out of pages, and the slow attention that defines the fast one.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/float16.h"
#include "kernels/paged_attention/paged_attention.h"

namespace adze::kernels {
namespace {

using core::TensorType;

int64_t element_bytes(TensorType type) {
  return core::info(type).block_bytes;
}

void put(TensorType type, std::byte* page, int64_t index, float value) {
  if (type == TensorType::kF32) {
    std::memcpy(page + index * 4, &value, 4);
  } else {
    const uint16_t half = core::half_from_float(value);
    std::memcpy(page + index * 2, &half, 2);
  }
}

float get(TensorType type, const std::byte* page, int64_t index) {
  if (type == TensorType::kF32) {
    float value;
    std::memcpy(&value, page + index * 4, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, page + index * 2, 2);
  return core::float_from_half(half);
}

int64_t key_index(const AttentionShape& shape, int64_t head, int64_t dim, int64_t token) {
  return (head * shape.head_dim + dim) * kPageTokens + token;
}
int64_t value_index(const AttentionShape& shape, int64_t head, int64_t dim, int64_t token) {
  return shape.kv_heads * shape.head_dim * kPageTokens +
         (head * kPageTokens + token) * shape.head_dim + dim;
}

// Rotates one key to its rank (Su et al., arXiv:2104.09864, eq. 34; pairs i, i + head_dim / 2).
void rotate_key(const KeyRotation& rotation, int64_t head_dim, int64_t rank, float* key) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const int64_t place = (rank / kPageTokens * half + i) * kPageTokens + rank % kPageTokens;
    const float low = key[i];
    const float high = key[i + half];
    key[i] = low * rotation.cosine[place] - high * rotation.sine[place];
    key[i + half] = high * rotation.cosine[place] + low * rotation.sine[place];
  }
}

void reference_row(const PagedAttention& attention,
                   const AttentionSequence& sequence,
                   int64_t row,
                   int64_t head) {
  const AttentionShape& shape = attention.shape;
  const int64_t kv_head = head / (shape.heads / shape.kv_heads);
  const int64_t own_page = (sequence.first_rank + row) / kPageTokens;
  const bool both_ways = sequence.bidirectional;
  const int64_t end = sequence.first_rank + (both_ways ? sequence.rows : row + 1);
  const int64_t begin =
      sequence.first_visible == nullptr
          ? 0
          : sequence.first_visible[kv_head * sequence.first_visible_head_stride + row];
  const float* query = sequence.query + (row * shape.heads + head) * shape.head_dim;
  float* output = sequence.output + (row * shape.heads + head) * shape.head_dim;
  const auto page_at = [&](int64_t rank) {
    const int64_t page = rank / kPageTokens;
    return both_ways || page == own_page
               ? std::pair(sequence.own_pages[page], attention.own_page_type)
               : std::pair(sequence.pages[page], attention.page_type);
  };
  std::vector<double> weights(static_cast<size_t>(end - begin));
  std::vector<float> key(static_cast<size_t>(shape.head_dim));
  double largest = -INFINITY;
  for (int64_t rank = begin; rank < end; ++rank) {
    const auto [page, type] = page_at(rank);
    for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
      key[static_cast<size_t>(dim)] =
          get(type, page, key_index(shape, kv_head, dim, rank % kPageTokens));
    }
    if (attention.key_rotation.cosine != nullptr) {
      rotate_key(attention.key_rotation, shape.head_dim, rank, key.data());
    }
    double score = 0;
    for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
      score += static_cast<double>(query[dim]) * static_cast<double>(key[static_cast<size_t>(dim)]);
    }
    score *= static_cast<double>(shape.scale);
    if (shape.softcap != 0) {
      const auto cap = static_cast<double>(shape.softcap);
      score = cap * std::tanh(score / cap);
    }
    weights[static_cast<size_t>(rank - begin)] = score;
    largest = std::max(largest, score);
  }
  double total = 0;
  for (double& weight : weights) {
    weight = std::exp(weight - largest);
    total += weight;
  }
  for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
    double sum = 0;
    for (int64_t rank = begin; rank < end; ++rank) {
      const auto [page, type] = page_at(rank);
      sum += weights[static_cast<size_t>(rank - begin)] *
             static_cast<double>(
                 get(type, page, value_index(shape, kv_head, dim, rank % kPageTokens)));
    }
    output[dim] = static_cast<float>(sum / total);
  }
}

}  // namespace

int64_t attention_page_bytes(const AttentionShape& shape, TensorType type) {
  return 2 * shape.kv_heads * shape.head_dim * kPageTokens * element_bytes(type);
}

void write_page_token_reference(const AttentionShape& shape,
                                TensorType type,
                                const float* key,
                                const float* value,
                                int64_t index,
                                std::byte* page) {
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
      put(type, page, key_index(shape, head, dim, index), key[head * shape.head_dim + dim]);
      put(type, page, value_index(shape, head, dim, index), value[head * shape.head_dim + dim]);
    }
  }
}

void read_page_token(const AttentionShape& shape,
                     TensorType type,
                     const std::byte* page,
                     int64_t index,
                     float* key,
                     float* value) {
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
      key[head * shape.head_dim + dim] = get(type, page, key_index(shape, head, dim, index));
      value[head * shape.head_dim + dim] = get(type, page, value_index(shape, head, dim, index));
    }
  }
}

void paged_attention_reference(const PagedAttention& attention,
                               std::span<const AttentionSequence> sequences) {
  for (const AttentionSequence& sequence : sequences) {
    for (int64_t row = 0; row < sequence.rows; ++row) {
      for (int64_t head = 0; head < attention.shape.heads; ++head) {
        reference_row(attention, sequence, row, head);
      }
    }
  }
}

}  // namespace adze::kernels
