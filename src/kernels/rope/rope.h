#pragma once
// Rotary position embedding (Su et al., arXiv:2104.09864, eq. 34) with dimension i paired with
// i + head_dim / 2, as Hugging Face stores Llama weights.

#include <cstdint>
#include <vector>

namespace adze::kernels {

// Angles of positions 0, 1, 2, ... computed in double. Grows on demand; not for concurrent growth.
class RopeTable {
 public:
  RopeTable(int64_t head_dim, double base);  // head_dim even; base > 0
  // frequencies [half], radians a position. Rotated vectors are scaled by `magnitude`; a dimension
  // of frequency 0 is left as it is.
  RopeTable(std::vector<double> frequencies, double magnitude);

  void reserve(int64_t positions);  // makes positions [0, positions) available
  int64_t half() const { return half_; }
  const float* cosine(int64_t position) const { return cosine_.data() + position * half_; }
  const float* sine(int64_t position) const { return sine_.data() + position * half_; }

 private:
  int64_t half_;
  std::vector<double> frequencies_;  // [half], radians a position
  double magnitude_ = 1;
  std::vector<float> cosine_;  // [positions, half]
  std::vector<float> sine_;
};

// Rotates [rows, heads, 2 * half] to positions [rows]; source and target may be the same.
void rope(const RopeTable& table,
          const float* source,
          const int64_t* positions,
          int64_t rows,
          int64_t heads,
          float* target);
// The transpose of that, which is the way of gradients: rotates back, and scales by the same
// magnitude.
void rope_gradient(const RopeTable& table,
                   const float* source,
                   const int64_t* positions,
                   int64_t rows,
                   int64_t heads,
                   float* target);

}  // namespace adze::kernels
