// One kv head's part of a page as attention reads it. Include after <hwy/foreach_target.h>.

#if defined(ADZE_KERNELS_PAGE_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ADZE_KERNELS_PAGE_TILE_INL_H
#undef ADZE_KERNELS_PAGE_TILE_INL_H
#else
#define ADZE_KERNELS_PAGE_TILE_INL_H
#endif

#include <hwy/contrib/math/math-inl.h>

#include "kernels/paged_attention/multiply-inl.h"
#include "kernels/paged_attention/paged_attention.h"

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {

// A page of a sequence in one of its forms.
struct PageSource {
  const std::byte* bytes;
  PageType type;
  int64_t number;
  const std::byte* side;
};

template <class Element>
HWY_INLINE void convert(const Element* source, int64_t count, float* target) {
  for (int64_t i = 0; i < count; i += kLanes) {
    hn::StoreU(load(source + i), kFloats, target + i);
  }
}

// key tile [head_dim, 32] of page `page`, rotated to its ranks. Not fused: the bits of
// kernels::rope.
HWY_INLINE void rotate_tile(const KeyRotation& rotation,
                            int64_t head_dim,
                            int64_t page,
                            float* key) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const int64_t place = (page * half + i) * kPageTokens;
    for (int64_t token = 0; token < kPageTokens; token += kLanes) {
      float* low_address = key + i * kPageTokens + token;
      float* high_address = low_address + half * kPageTokens;
      const Vector low = load(low_address);
      const Vector high = load(high_address);
      const Vector cosine = load(rotation.cosine + place + token);
      const Vector sine = load(rotation.sine + place + token);
      hn::StoreU(hn::Sub(hn::Mul(low, cosine), hn::Mul(high, sine)), kFloats, low_address);
      hn::StoreU(hn::Add(hn::Mul(high, cosine), hn::Mul(low, sine)), kFloats, high_address);
    }
  }
}

// Calls body(pointer to the elements of one kv head's keys or values in a page of a plain type,
// their 32 scales or null).
template <class Body>
HWY_INLINE void with_elements(const AttentionShape& shape,
                              const PageSource& page,
                              int64_t kv_head,
                              PagePart part,
                              Body&& body) {
  const int64_t head = kv_head + (part == PagePart::kKey ? 0 : shape.kv_heads);
  const int64_t first = head * shape.head_dim * kPageTokens;
  const float* no_scales = nullptr;
  switch (page.type) {
    case PageType::kF32:
      return body(reinterpret_cast<const float*>(page.bytes) + first, no_scales);
    case PageType::kF16:
      return body(reinterpret_cast<const hwy::float16_t*>(page.bytes) + first, no_scales);
    case PageType::kBF16:
      return body(reinterpret_cast<const hwy::bfloat16_t*>(page.bytes) + first, no_scales);
    case PageType::kInt8: {
      const std::byte* scales = page.bytes + 2 * shape.kv_heads * shape.head_dim * kPageTokens;
      return body(reinterpret_cast<const int8_t*>(page.bytes) + first,
                  reinterpret_cast<const float*>(scales) + head * kPageTokens);
    }
    case PageType::kCoded:
      return;  // read through its codec
  }
}

// values = cap * tanh(values / cap); count a multiple of 16. NaN stays.
HWY_INLINE void cap_softly(float* values, int64_t count, float cap) {
  const Vector caps = hn::Set(kFloats, cap);
  const Vector shares = hn::Set(kFloats, 1.0F / cap);
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vector tangent = hn::Tanh(kFloats, hn::Mul(load(values + i), shares));
    hn::StoreU(hn::Mul(caps, tangent), kFloats, values + i);
  }
}

}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
