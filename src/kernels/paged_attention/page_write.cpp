// Tokens into pages. Values are contiguous; keys are transposed, so they are narrowed first, in
// vectors, and then scattered element by element.

#include "core/check.h"
#include "core/float16.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/paged_attention/page_write.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/vectors-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

HWY_INLINE void narrow(const float* source, int64_t count, float* target) {
  for (int64_t i = 0; i < count; i += kLanes) {
    hn::StoreU(hn::LoadU(kFloats, source + i), kFloats, target + i);
  }
}
HWY_INLINE void narrow(const float* source, int64_t count, hwy::float16_t* target) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  for (int64_t i = 0; i < count; i += kLanes) {
    hn::StoreU(hn::DemoteTo(halves, hn::LoadU(kFloats, source + i)), halves, target + i);
  }
}

HWY_INLINE void narrow(const float* source, int64_t count, hwy::bfloat16_t* target) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = core::bfloat16_from_float(source[i]);
    hwy::CopyBytes<2>(&bits, target + i);
  }
}

template <class Element>
void write_elements(const AttentionShape& shape,
                    const float* key,
                    const float* value,
                    int64_t first,
                    int64_t count,
                    Element* page) {
  const int64_t head_dim = shape.head_dim;
  constexpr int64_t kStep = 16;  // divides head_dim
  Element* values = page + shape.kv_heads * head_dim * kPageTokens;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      const int64_t source = (i * shape.kv_heads + head) * head_dim;
      narrow(value + source, head_dim, values + (head * kPageTokens + first + i) * head_dim);
      for (int64_t dim = 0; dim < head_dim; dim += kStep) {
        HWY_ALIGN Element staged[kStep];
        narrow(key + source + dim, kStep, staged);
        Element* target = page + (head * head_dim + dim) * kPageTokens + first + i;
        for (int64_t d = 0; d < kStep; ++d) {
          hwy::CopyBytes<sizeof(Element)>(staged + d, target + d * kPageTokens);
        }
      }
    }
  }
}

void write_tokens(const AttentionShape& shape,
                  PageType type,
                  const float* key,
                  const float* value,
                  int64_t first,
                  int64_t count,
                  std::byte* page) {
  switch (type) {
    case PageType::kF32:
      return write_elements(shape, key, value, first, count, reinterpret_cast<float*>(page));
    case PageType::kF16:
      return write_elements(
          shape, key, value, first, count, reinterpret_cast<hwy::float16_t*>(page));
    case PageType::kBF16:
      return write_elements(
          shape, key, value, first, count, reinterpret_cast<hwy::bfloat16_t*>(page));
    case PageType::kInt8:  // a page is sealed once: nothing to gain
      for (int64_t i = 0; i < count; ++i) {
        const int64_t source = i * shape.kv_heads * shape.head_dim;
        write_page_token_reference(shape, type, key + source, value + source, first + i, page);
      }
      return;
    case PageType::kCoded:
      break;
  }
  core::check(false, "pages of a codec are encoded whole");
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {

HWY_EXPORT(write_tokens);

void write_page_tokens(const AttentionShape& shape,
                       PageType type,
                       const float* key,
                       const float* value,
                       int64_t first,
                       int64_t count,
                       std::byte* page) {
  core::check(first >= 0 && first + count <= kPageTokens,
              "places within a page, got ",
              first,
              " + ",
              count);
  HWY_DYNAMIC_DISPATCH(write_tokens)(shape, type, key, value, first, count, page);
}

}  // namespace adze::kernels
#endif
