// The paper's forms, page by page. Form a cuts a token's channels, all heads together, into chunks
// of m: X [32 * channels / m, m], a step a token. Form b takes channels as rows: X [channels, 32],
// a step a channel. Large factors are rounded, small ones kept in f16 [10 §2.3].

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"
#include "core/float16.h"
#include "kernels/kv_codec/code_lines.h"
#include "kernels/paged_attention/paged_attention.h"
#include "methods/decoquant/decoquant.h"

namespace adze::methods::decoquant {
namespace {

using kernels::kLineCodes;
using kernels::kPageTokens;
using kernels::line_bytes;
using kernels::PagePart;

// Eigenvalues (falling) and eigenvectors (columns) of a symmetric matrix [m, m], by Jacobi's
// rotations.
void eigen(std::vector<double>& matrix, std::vector<double>& vectors, int64_t m) {
  const auto at = [m](int64_t row, int64_t column) {
    return static_cast<size_t>(row * m + column);
  };
  vectors.assign(matrix.size(), 0.0);
  for (int64_t i = 0; i < m; ++i) {
    vectors[at(i, i)] = 1;
  }
  constexpr int kSweeps = 30;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (int64_t p = 0; p < m; ++p) {
      for (int64_t q = p + 1; q < m; ++q) {
        const double off = matrix[at(p, q)];
        if (!(std::abs(off) > 1e-300)) {
          continue;
        }
        const double theta = (matrix[at(q, q)] - matrix[at(p, p)]) / (2 * off);
        const double t =
            std::copysign(1.0, theta) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1);
        const double s = t * c;
        for (int64_t k = 0; k < m; ++k) {
          const double left = matrix[at(k, p)];
          const double right = matrix[at(k, q)];
          matrix[at(k, p)] = c * left - s * right;
          matrix[at(k, q)] = s * left + c * right;
        }
        for (int64_t k = 0; k < m; ++k) {
          const double left = matrix[at(p, k)];
          const double right = matrix[at(q, k)];
          matrix[at(p, k)] = c * left - s * right;
          matrix[at(q, k)] = s * left + c * right;
          const double a = vectors[at(k, p)];
          const double b = vectors[at(k, q)];
          vectors[at(k, p)] = c * a - s * b;
          vectors[at(k, q)] = s * a + c * b;
        }
      }
    }
  }
}

class PaperCodec : public kernels::PageCodec {
 public:
  PaperCodec(int64_t kv_heads, int64_t head_dim, int64_t bits, bool transposed, int64_t chunk)
      : channels_(kv_heads * head_dim),
        head_dim_(head_dim),
        bits_(bits),
        transposed_(transposed),
        m_(transposed ? kPageTokens : chunk),
        rows_(kPageTokens * channels_ / m_),
        steps_(transposed ? channels_ : kPageTokens) {
    core::check(
        transposed || channels_ % m_ == 0, "chunks that divide ", channels_, " channels, got ", m_);
  }

  int64_t page_bytes() const override { return 2 * part_bytes(); }
  const std::byte* address(const std::byte* page,
                           int64_t /*kv_head*/,
                           PagePart part) const override {
    return page + (part == PagePart::kKey ? 0 : part_bytes());
  }
  void encode(const float* key,
              const float* value,
              int64_t /*number*/,
              std::byte* /*side*/,
              std::byte* page) const override {
    encode_part(key, page);
    encode_part(value, page + part_bytes());
  }
  void decode_keys(const std::byte* page,
                   int64_t /*number*/,
                   const std::byte* /*side*/,
                   int64_t kv_head,
                   float* keys) const override {
    decode_part(page, kv_head, [&](int64_t token, int64_t dim, float number) {
      keys[dim * kPageTokens + token] = number;
    });
  }
  void decode_values(const std::byte* page,
                     int64_t /*number*/,
                     const std::byte* /*side*/,
                     int64_t kv_head,
                     float* values) const override {
    decode_part(page + part_bytes(), kv_head, [&](int64_t token, int64_t dim, float number) {
      values[token * head_dim_ + dim] = number;
    });
  }

 private:
  // Lines of codes of the large factor, row by row; then steps and the small factor in f16.
  int64_t code_bytes() const { return rows_ * m_ / kLineCodes * line_bytes(bits_); }
  int64_t part_bytes() const { return code_bytes() + 2 * (steps_ + m_ * m_); }
  // Where X holds a channel of a token: row, column [10 §2.2 step 1].
  std::pair<int64_t, int64_t> place(int64_t token, int64_t channel) const {
    return transposed_ ? std::pair(channel, token)
                       : std::pair(token * (channels_ / m_) + channel / m_, channel % m_);
  }
  int64_t step_of_row(int64_t row) const { return transposed_ ? row : row / (channels_ / m_); }

  // numbers [kv_heads, 32, head_dim]
  void encode_part(const float* numbers, std::byte* part) const {
    std::vector<double> matrix(static_cast<size_t>(rows_ * m_));
    for (int64_t channel = 0; channel < channels_; ++channel) {
      for (int64_t token = 0; token < kPageTokens; ++token) {
        const auto [row, column] = place(token, channel);
        const int64_t source =
            (channel / head_dim_ * kPageTokens + token) * head_dim_ + channel % head_dim_;
        matrix[static_cast<size_t>(row * m_ + column)] = static_cast<double>(numbers[source]);
      }
    }
    const Decomposition parts = decompose(matrix, rows_, m_);
    auto* steps = reinterpret_cast<uint16_t*>(part + code_bytes());
    uint16_t* small = steps + steps_;
    for (int64_t i = 0; i < m_ * m_; ++i) {
      small[i] = core::half_from_float(static_cast<float>(parts.small[static_cast<size_t>(i)]));
    }
    const int64_t rows_a_step = rows_ / steps_;
    std::vector<uint8_t> codes(parts.large.size());
    for (int64_t group = 0; group < steps_; ++group) {
      const int64_t first = group * rows_a_step * m_;
      std::vector<float> members;
      for (int64_t i = first; i < first + rows_a_step * m_; ++i) {
        members.push_back(static_cast<float>(parts.large[static_cast<size_t>(i)]));
      }
      steps[group] = core::half_from_float(symmetric_step(members, bits_));
      const float step = core::float_from_half(steps[group]);
      const auto most = static_cast<float>((1 << (bits_ - 1)) - 1);
      for (size_t i = 0; i < members.size(); ++i) {
        const float code = std::nearbyint(members[i] / step);
        const float bounded = code > -most ? std::min(code, most) : -most;  // NaN: the least
        codes[static_cast<size_t>(first) + i] = static_cast<uint8_t>(bounded + most);
      }
    }
    for (int64_t line = 0; line < rows_ * m_ / kLineCodes; ++line) {
      kernels::pack_line(bits_, codes.data() + line * kLineCodes, part + line * line_bytes(bits_));
    }
  }

  template <class Put>
  void decode_part(const std::byte* part, int64_t kv_head, Put&& put) const {
    const auto* steps = reinterpret_cast<const uint16_t*>(part + code_bytes());
    const uint16_t* small = steps + steps_;
    const auto most = static_cast<float>((1 << (bits_ - 1)) - 1);
    std::vector<uint8_t> codes(static_cast<size_t>(rows_ * m_));
    for (int64_t line = 0; line < rows_ * m_ / kLineCodes; ++line) {
      kernels::unpack_line(
          bits_, part + line * line_bytes(bits_), codes.data() + line * kLineCodes);
    }
    std::vector<float> factor(static_cast<size_t>(m_ * m_));
    for (size_t i = 0; i < factor.size(); ++i) {
      factor[i] = core::float_from_half(small[i]);
    }
    for (int64_t dim = 0; dim < head_dim_; ++dim) {
      for (int64_t token = 0; token < kPageTokens; ++token) {
        const auto [row, column] = place(token, kv_head * head_dim_ + dim);
        float sum = 0;
        for (int64_t k = 0; k < m_; ++k) {
          sum += (static_cast<float>(codes[static_cast<size_t>(row * m_ + k)]) - most) *
                 factor[static_cast<size_t>(k * m_ + column)];
        }
        put(token, dim, sum * core::float_from_half(steps[step_of_row(row)]));
      }
    }
  }

  int64_t channels_;
  int64_t head_dim_;
  int64_t bits_;
  bool transposed_;
  int64_t m_;
  int64_t rows_;
  int64_t steps_;
};

}  // namespace

// [10 §2.1]
float symmetric_step(std::span<const float> numbers, int64_t bits) {
  float largest = 1e-5F;
  for (const float number : numbers) {
    largest = std::max(largest, std::abs(number));
  }
  return largest / static_cast<float>((1 << (bits - 1)) - 1);
}

Decomposition decompose(std::span<const double> matrix, int64_t rows, int64_t m) {
  // [10 §2.2 step 2], of which nothing is cut off [10 §2.2 step 4], by way of XᵀX = V diag(s²) Vᵀ
  // [10 §2.8 step 3]: X = (X V s^-1/2) (s^1/2 Vᵀ).
  std::vector<double> gram(static_cast<size_t>(m * m));
  for (int64_t row = 0; row < rows; ++row) {
    const double* x = matrix.data() + row * m;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < m; ++j) {
        gram[static_cast<size_t>(i * m + j)] += x[i] * x[j];
      }
    }
  }
  std::vector<double> vectors;
  eigen(gram, vectors, m);
  std::vector<int64_t> order(static_cast<size_t>(m));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return gram[static_cast<size_t>(a * m + a)] > gram[static_cast<size_t>(b * m + b)];
  });
  Decomposition result;
  result.large.resize(static_cast<size_t>(rows * m));
  result.small.resize(static_cast<size_t>(m * m));
  for (int64_t k = 0; k < m; ++k) {
    const int64_t column = order[static_cast<size_t>(k)];
    const double singular =
        std::sqrt(std::max(gram[static_cast<size_t>(column * m + column)], 0.0));
    result.singular.push_back(singular);
    // [10 §2.2 step 3] for two factors: the range is shared evenly.
    const double root = std::sqrt(singular);
    const bool extends = singular > 1e-9 * result.singular.front() && singular > 0;
    for (int64_t i = 0; i < m; ++i) {
      result.small[static_cast<size_t>(k * m + i)] =
          root * vectors[static_cast<size_t>(i * m + column)];
    }
    for (int64_t row = 0; extends && row < rows; ++row) {
      double sum = 0;
      for (int64_t i = 0; i < m; ++i) {
        sum +=
            matrix[static_cast<size_t>(row * m + i)] * vectors[static_cast<size_t>(i * m + column)];
      }
      result.large[static_cast<size_t>(row * m + k)] = sum / root;
    }
  }
  return result;
}

std::shared_ptr<const kernels::PageCodec> make_paper_codec(
    int64_t kv_heads, int64_t head_dim, int64_t bits, bool transposed, int64_t chunk) {
  return std::make_shared<PaperCodec>(kv_heads, head_dim, bits, transposed, chunk);
}

}  // namespace adze::methods::decoquant
