// Tokens in and out of pages, and the slow attention that defines the fast one.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/float16.h"
#include "kernels/int8_scale.h"
#include "kernels/paged_attention/paged_attention.h"

namespace adze::kernels {
namespace {

int64_t element_bytes(PageType type) {
  switch (type) {
    case PageType::kF32:
      return 4;
    case PageType::kF16:
    case PageType::kBF16:
      return 2;
    case PageType::kInt8:
      return 1;
    case PageType::kCoded:
      break;  // its codec knows
  }
  return 0;
}

int64_t key_index(const AttentionShape& shape, int64_t head, int64_t dim, int64_t token) {
  return (head * shape.head_dim + dim) * kPageTokens + token;
}
int64_t value_index(const AttentionShape& shape, int64_t head, int64_t dim, int64_t token) {
  return shape.kv_heads * shape.head_dim * kPageTokens +
         (head * kPageTokens + token) * shape.head_dim + dim;
}

// A head's key or value of one token: element d is at first + d * step.
struct Elements {
  int64_t first;
  int64_t step;
  int64_t scale;  // number of its scale, behind all elements
};
Elements key_elements(const AttentionShape& shape, int64_t head, int64_t token) {
  return {key_index(shape, head, 0, token), kPageTokens, head * kPageTokens + token};
}
Elements value_elements(const AttentionShape& shape, int64_t head, int64_t token) {
  return {value_index(shape, head, 0, token), 1, (shape.kv_heads + head) * kPageTokens + token};
}

float* scale_of(const AttentionShape& shape, const Elements& elements, std::byte* page) {
  return reinterpret_cast<float*>(page + 2 * shape.kv_heads * shape.head_dim * kPageTokens) +
         elements.scale;
}

void put(const AttentionShape& shape,
         PageType type,
         const Elements& elements,
         const float* values,
         std::byte* page) {
  if (type == PageType::kInt8) {
    const Int8Scale scale(values, shape.head_dim);
    *scale_of(shape, elements, page) = scale.scale;
    for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
      page[elements.first + dim * elements.step] =
          static_cast<std::byte>(static_cast<int8_t>(scale.multiple(values[dim])));
    }
    return;
  }
  for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
    const int64_t index = elements.first + dim * elements.step;
    if (type == PageType::kF32) {
      std::memcpy(page + index * 4, values + dim, 4);
    } else {
      const uint16_t half = type == PageType::kF16 ? core::half_from_float(values[dim])
                                                   : core::bfloat16_from_float(values[dim]);
      std::memcpy(page + index * 2, &half, 2);
    }
  }
}

void get(const AttentionShape& shape,
         PageType type,
         const Elements& elements,
         const std::byte* page,
         float* values) {
  for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
    const int64_t index = elements.first + dim * elements.step;
    if (type == PageType::kF32) {
      std::memcpy(values + dim, page + index * 4, 4);
    } else if (type == PageType::kInt8) {
      values[dim] = *scale_of(shape, elements, const_cast<std::byte*>(page)) *
                    static_cast<float>(static_cast<int8_t>(page[index]));
    } else {
      uint16_t half;
      std::memcpy(&half, page + index * 2, 2);
      values[dim] =
          type == PageType::kF16 ? core::float_from_half(half) : core::float_from_bfloat16(half);
    }
  }
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

// A token's key or value in the model's basis, from a page in any form.
struct AnyPage {
  const std::byte* bytes;
  PageType type;
  int64_t number;
  const std::byte* side;
};
void get_any(const PagedAttention& attention,
             const AnyPage& page,
             PagePart part,
             int64_t kv_head,
             int64_t token,
             float* values) {
  const AttentionShape& shape = attention.shape;
  if (page.type != PageType::kCoded) {
    const Elements elements = part == PagePart::kKey ? key_elements(shape, kv_head, token)
                                                     : value_elements(shape, kv_head, token);
    get(shape, page.type, elements, page.bytes, values);
    return;
  }
  const PageCodec& codec = *attention.codec;
  std::vector<float> tile(static_cast<size_t>(shape.head_dim * kPageTokens));
  if (part == PagePart::kValue) {
    codec.decode_values(page.bytes, page.number, page.side, kv_head, tile.data());
    const float* coded = tile.data() + token * shape.head_dim;
    std::copy_n(coded, shape.head_dim, values);
    if (codec.changes_values()) {
      codec.values_from_basis(page.side, kv_head, 1, coded, values);
    }
    return;
  }
  codec.decode_keys(page.bytes, page.number, page.side, kv_head, tile.data());
  if (codec.changes_keys()) {
    const std::vector<float> coded = tile;
    codec.keys_from_basis(page.side, kv_head, coded.data(), tile.data());
  }
  for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
    values[dim] = tile[static_cast<size_t>(dim * kPageTokens + token)];
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
    const bool own = both_ways || page == own_page || own_page < sequence.first_pages;
    return AnyPage{own ? sequence.own_pages[page] : sequence.pages[page],
                   own ? attention.own_page_type : attention.page_type,
                   page,
                   sequence.side};
  };
  std::vector<double> weights(static_cast<size_t>(end - begin));
  std::vector<float> key(static_cast<size_t>(shape.head_dim));
  double largest = -INFINITY;
  for (int64_t rank = begin; rank < end; ++rank) {
    get_any(attention, page_at(rank), PagePart::kKey, kv_head, rank % kPageTokens, key.data());
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
  std::vector<double> sums(static_cast<size_t>(shape.head_dim), 0.0);
  for (int64_t rank = begin; rank < end; ++rank) {
    get_any(attention, page_at(rank), PagePart::kValue, kv_head, rank % kPageTokens, key.data());
    for (size_t dim = 0; dim < sums.size(); ++dim) {
      sums[dim] += weights[static_cast<size_t>(rank - begin)] * static_cast<double>(key[dim]);
    }
  }
  for (size_t dim = 0; dim < sums.size(); ++dim) {
    output[dim] = static_cast<float>(sums[dim] / total);
  }
  if (sequence.log_sum_exp != nullptr) {
    sequence.log_sum_exp[row * shape.heads + head] = static_cast<float>(largest + std::log(total));
  }
}

}  // namespace

std::string_view page_type_name(PageType type) {
  switch (type) {
    case PageType::kF32:
      return "f32";
    case PageType::kF16:
      return "f16";
    case PageType::kBF16:
      return "bf16";
    case PageType::kInt8:
      return "int8";
    case PageType::kCoded:
      return "coded";
  }
  return "";
}

int64_t attention_page_bytes(const AttentionShape& shape, PageType type) {
  const int64_t scales = type == PageType::kInt8 ? static_cast<int64_t>(sizeof(float)) : 0;
  return 2 * shape.kv_heads * kPageTokens * (shape.head_dim * element_bytes(type) + scales);
}

void write_page_token_reference(const AttentionShape& shape,
                                PageType type,
                                const float* key,
                                const float* value,
                                int64_t index,
                                std::byte* page) {
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    const int64_t first = head * shape.head_dim;
    put(shape, type, key_elements(shape, head, index), key + first, page);
    put(shape, type, value_elements(shape, head, index), value + first, page);
  }
}

void read_page_token(const AttentionShape& shape,
                     PageType type,
                     const std::byte* page,
                     int64_t index,
                     float* key,
                     float* value) {
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    const int64_t first = head * shape.head_dim;
    get(shape, type, key_elements(shape, head, index), page, key + first);
    get(shape, type, value_elements(shape, head, index), page, value + first);
  }
}

void read_page_head(const AttentionShape& shape,
                    PageType type,
                    const std::byte* page,
                    int64_t kv_head,
                    int64_t count,
                    float* key,
                    float* value) {
  for (int64_t token = 0; token < count; ++token) {
    const int64_t place = token * shape.head_dim;
    get(shape, type, key_elements(shape, kv_head, token), page, key + place);
    get(shape, type, value_elements(shape, kv_head, token), page, value + place);
  }
}

void attention_mass_reference(const PagedAttention& attention, const AttentionMass& mass) {
  const AttentionShape& shape = attention.shape;
  const int64_t group = shape.heads / shape.kv_heads;
  std::vector<float> key(static_cast<size_t>(shape.head_dim));
  for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
    for (int64_t rank = 0; rank < mass.tokens; ++rank) {
      const int64_t page = rank / kPageTokens;
      get_any(attention,
              {mass.pages[page], mass.page_types[page], page, mass.side},
              PagePart::kKey,
              kv_head,
              rank % kPageTokens,
              key.data());
      if (attention.key_rotation.cosine != nullptr) {
        rotate_key(attention.key_rotation, shape.head_dim, rank, key.data());
      }
      double sum = 0;
      for (int64_t row = 0; row < mass.rows; ++row) {
        const int64_t begin = mass.begin_ranks == nullptr
                                  ? 0
                                  : mass.begin_ranks[kv_head * mass.begin_head_stride + row];
        for (int64_t member = 0; rank >= begin && rank < mass.end_ranks[row] && member < group;
             ++member) {
          const int64_t head = row * shape.heads + kv_head * group + member;
          const float* query = mass.query + head * shape.head_dim;
          double score = 0;
          for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
            score += static_cast<double>(query[dim]) *
                     static_cast<double>(key[static_cast<size_t>(dim)]);
          }
          score *= static_cast<double>(shape.scale);
          if (shape.softcap != 0) {
            const auto cap = static_cast<double>(shape.softcap);
            score = cap * std::tanh(score / cap);
          }
          const double weight =
              mass.row_weights == nullptr ? 1.0 : static_cast<double>(mass.row_weights[row]);
          sum += weight * std::exp(score - static_cast<double>(mass.log_sum_exp[head])) /
                 static_cast<double>(group);
        }
      }
      mass.mass.at(kv_head, rank) += static_cast<float>(sum);
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
