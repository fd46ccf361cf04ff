#include "kernels/rope/rope.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/parallel.h"

namespace adze::kernels {

RopeTable::RopeTable(int64_t head_dim, double base) : half_(head_dim / 2) {
  for (int64_t i = 0; i < half_; ++i) {
    frequencies_.push_back(
        std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  }
}

RopeTable::RopeTable(std::vector<double> frequencies, double magnitude)
    : half_(static_cast<int64_t>(frequencies.size())),
      frequencies_(std::move(frequencies)),
      magnitude_(magnitude) {}

void RopeTable::reserve(int64_t positions) {
  const auto known = static_cast<int64_t>(cosine_.size()) / half_;
  if (positions <= known) {
    return;
  }
  // Doubling keeps the amortised cost of one-by-one growth constant.
  const int64_t wanted = std::max(positions, 2 * known);
  cosine_.reserve(static_cast<size_t>(wanted * half_));
  sine_.reserve(static_cast<size_t>(wanted * half_));
  for (int64_t position = known; position < positions; ++position) {
    for (const double frequency : frequencies_) {
      const double angle = static_cast<double>(position) * frequency;
      const double length = frequency == 0 ? 1 : magnitude_;
      cosine_.push_back(static_cast<float>(length * std::cos(angle)));
      sine_.push_back(static_cast<float>(length * std::sin(angle)));
    }
  }
}

namespace {

// Plain loops: 4 flops a value and a few kB a row leave nothing for wider vectors to win.
template <bool back>
void rotate(const RopeTable& table,
            const float* source,
            const int64_t* positions,
            int64_t rows,
            int64_t heads,
            float* target) {
  const int64_t half = table.half();
  core::parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* cosine = table.cosine(positions[row]);
      const float* sine = table.sine(positions[row]);
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t offset = (row * heads + head) * 2 * half;
        for (int64_t i = 0; i < half; ++i) {
          const float low = source[offset + i];
          const float high = source[offset + half + i];
          const float turn = back ? -sine[i] : sine[i];
          target[offset + i] = low * cosine[i] - high * turn;
          target[offset + half + i] = high * cosine[i] + low * turn;
        }
      }
    }
  });
}

}  // namespace

void rope(const RopeTable& table,
          const float* source,
          const int64_t* positions,
          int64_t rows,
          int64_t heads,
          float* target) {
  rotate<false>(table, source, positions, rows, heads, target);
}

void rope_gradient(const RopeTable& table,
                   const float* source,
                   const int64_t* positions,
                   int64_t rows,
                   int64_t heads,
                   float* target) {
  rotate<true>(table, source, positions, rows, heads, target);
}

}  // namespace adze::kernels
