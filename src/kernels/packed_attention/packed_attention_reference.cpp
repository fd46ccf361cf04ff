#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/packed_attention/packed_attention.h"

namespace adze::kernels {
namespace {

// Calls body(row, head, first visible row, end of the visible rows).
template <class Body>
void for_rows(const PackedAttention& attention, Body&& body) {
  const auto& starts = attention.sequence_starts;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    for (int64_t row = starts[i]; row < starts[i + 1]; ++row) {
      const int64_t first =
          attention.window > 0 ? std::max(starts[i], row - attention.window + 1) : starts[i];
      for (int64_t head = 0; head < attention.heads; ++head) {
        body(row, head, first, attention.causal ? row + 1 : starts[i + 1]);
      }
    }
  }
}

double dot(const float* a, const float* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return sum;
}

struct Row {
  const float* query;
  int64_t kv_place;  // of the kv head within a row of keys
};

Row row_of(const PackedAttention& attention, int64_t row, int64_t head) {
  return {attention.query + (row * attention.heads + head) * attention.head_dim,
          head / (attention.heads / attention.kv_heads) * attention.head_dim};
}

}  // namespace

void packed_attention_reference(const PackedAttention& attention, float* result, float* log_sums) {
  const int64_t dim = attention.head_dim;
  const int64_t width = attention.kv_heads * dim;
  for_rows(attention, [&](int64_t row, int64_t head, int64_t first, int64_t end) {
    const auto [query, place] = row_of(attention, row, head);
    std::vector<double> scores;
    for (int64_t key = first; key < end; ++key) {
      scores.push_back(static_cast<double>(attention.scale) *
                       dot(query, attention.key + key * width + place, dim));
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (const double score : scores) {
      total += std::exp(score - largest);
    }
    const double log_sum = largest + std::log(total);
    log_sums[row * attention.heads + head] = static_cast<float>(log_sum);
    for (int64_t i = 0; i < dim; ++i) {
      double sum = 0;
      for (int64_t key = first; key < end; ++key) {
        sum += std::exp(scores[static_cast<size_t>(key - first)] - log_sum) *
               static_cast<double>(attention.value[key * width + place + i]);
      }
      result[(row * attention.heads + head) * dim + i] = static_cast<float>(sum);
    }
  });
}

void packed_attention_gradient_reference(const PackedAttentionGradient& gradient) {
  const PackedAttention& attention = gradient.attention;
  const int64_t dim = attention.head_dim;
  const int64_t width = attention.kv_heads * dim;
  const auto values = static_cast<size_t>(attention.sequence_starts.back() * width);
  std::vector<double> of_key(values);
  std::vector<double> of_value(values);
  for_rows(attention, [&](int64_t row, int64_t head, int64_t first, int64_t end) {
    const auto [query, place] = row_of(attention, row, head);
    const int64_t offset = (row * attention.heads + head) * dim;
    const float* pull = gradient.result_gradient + offset;
    const double mean = dot(pull, gradient.result + offset, dim);
    std::vector<double> of_query(static_cast<size_t>(dim));
    for (int64_t key = first; key < end; ++key) {
      const float* key_row = attention.key + key * width + place;
      const auto scale = static_cast<double>(attention.scale);
      const auto log_sum = static_cast<double>(gradient.log_sums[row * attention.heads + head]);
      const double share = std::exp(scale * dot(query, key_row, dim) - log_sum);
      const double of_score =
          share * (dot(pull, attention.value + key * width + place, dim) - mean) * scale;
      for (int64_t i = 0; i < dim; ++i) {
        const auto at = static_cast<size_t>(key * width + place + i);
        of_query[static_cast<size_t>(i)] += of_score * static_cast<double>(key_row[i]);
        of_key[at] += of_score * static_cast<double>(query[i]);
        of_value[at] += share * static_cast<double>(pull[i]);
      }
    }
    std::copy(of_query.begin(), of_query.end(), gradient.query_gradient + offset);
  });
  std::copy(of_key.begin(), of_key.end(), gradient.key_gradient);
  std::copy(of_value.begin(), of_value.end(), gradient.value_gradient);
}

}  // namespace adze::kernels
