// A row's softmax, block by block. Include after <hwy/foreach_target.h>.

#if defined(ADZE_KERNELS_ROW_SOFTMAX_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ADZE_KERNELS_ROW_SOFTMAX_INL_H
#undef ADZE_KERNELS_ROW_SOFTMAX_INL_H
#else
#define ADZE_KERNELS_ROW_SOFTMAX_INL_H
#endif

#include <algorithm>
#include <cmath>

#include <hwy/contrib/math/math-inl.h>

#include "kernels/paged_attention/multiply-inl.h"

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {

// count a multiple of 16.
HWY_INLINE float maximum_of(const float* values, int64_t count) {
  Vector largest = load(values);
  for (int64_t i = kLanes; i < count; i += kLanes) {
    largest = hn::Max(largest, load(values + i));
  }
  return hn::GetLane(hn::MaxOfLanes(kFloats, largest));
}

// values = exp(values - largest); returns their sum. count a multiple of 16.
HWY_INLINE float exponentiate(float* values, int64_t count, float largest) {
  Vector sums[kParts];
  for (int part = 0; part < kParts; ++part) {
    sums[part] = hn::Zero(kFloats);
  }
  const Vector shift = hn::Set(kFloats, largest);
  for (int64_t i = 0; i < count; i += 16) {
    for (int part = 0; part < kParts; ++part) {
      float* address = values + i + part * kLanes;
      const Vector weight = hn::Exp(kFloats, hn::Sub(load(address), shift));
      hn::StoreU(weight, kFloats, address);
      sums[part] = hn::Add(sums[part], weight);
    }
  }
  return sum_of_sixteen(sums);
}

HWY_INLINE float exponential(float value) {
  return hn::GetLane(hn::Exp(kFloats, hn::Set(kFloats, value)));
}

// A row's softmax state: weights relative to `largest`, their total, and the weighted values.
struct RowState {
  float largest = -INFINITY;
  float total = 0;
  bool empty = true;  // no token seen so far
};

// state, values [head_dim] take in a later block's state and values.
HWY_INLINE void merge(RowState& state,
                      float* values,
                      const RowState& block,
                      const float* block_values,
                      int64_t head_dim) {
  if (block.empty) {
    return;
  }
  if (state.empty) {
    state = block;
    std::copy_n(block_values, head_dim, values);
    return;
  }
  const float largest = std::max(state.largest, block.largest);
  const float old_share = exponential(state.largest - largest);
  const float new_share = exponential(block.largest - largest);
  state.largest = largest;
  state.total = state.total * old_share + block.total * new_share;
  for (int64_t dim = 0; dim < head_dim; dim += kLanes) {
    hn::StoreU(hn::MulAdd(load(block_values + dim),
                          hn::Set(kFloats, new_share),
                          hn::Mul(load(values + dim), hn::Set(kFloats, old_share))),
               kFloats,
               values + dim);
  }
}

// Turns scores [begin, end) of a row's block into weights, of which it sees [first, last).
HWY_INLINE RowState
weigh_scores(float* scores, int64_t begin, int64_t end, int64_t first, int64_t last) {
  if (first >= last) {
    std::fill(scores + begin, scores + end, 0.0F);
    return {};
  }
  std::fill(scores + begin, scores + first, -INFINITY);
  std::fill(scores + last, scores + end, -INFINITY);
  const float largest = maximum_of(scores + begin, end - begin);
  return {largest, exponentiate(scores + begin, end - begin, largest), false};
}

}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
