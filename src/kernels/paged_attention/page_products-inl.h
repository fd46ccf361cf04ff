// The two products of attention with one kv head's part of a page, whatever its form: rows of
// queries with keys, rows of weights with values. Include after <hwy/foreach_target.h>.

#if defined(ADZE_KERNELS_PAGE_PRODUCTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ADZE_KERNELS_PAGE_PRODUCTS_INL_H
#undef ADZE_KERNELS_PAGE_PRODUCTS_INL_H
#else
#define ADZE_KERNELS_PAGE_PRODUCTS_INL_H
#endif

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/kv_codec/code_lines-inl.h"
#include "kernels/paged_attention/page_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {

// From here on a page is converted to f32 once instead of at each use.
constexpr int64_t kConvertRows = 13;
// Up to here codes are unpacked into registers; more rows share a tile of them.
constexpr int64_t kRegisterRows = 3;

// A thread's.
struct PageScratch {
  std::vector<float> tile;     // one page of one head as f32: keys, values or codes
  std::vector<float> spare;    // as large
  std::vector<float> factors;  // [rows, head_dim or 32]: what codes are multiplied with
  std::vector<float> offsets;  // [rows]: what the zeros of codes add up to
  std::vector<float> sums;     // [rows, 32]
  CodedPart part;

  void prepare(int64_t rows, int64_t head_dim) {
    tile.resize(static_cast<size_t>(std::max(head_dim, kLineCodes) * kPageTokens));
    spare.resize(tile.size());
    factors.resize(static_cast<size_t>(rows * std::max(head_dim, kLineCodes)));
    offsets.resize(static_cast<size_t>(rows));
    sums.resize(static_cast<size_t>(rows * kLineCodes));
  }
};

// Queries of one kv head, scaled [rows, head_dim]; `coded` are the same in the basis of a codec
// that changes keys.
struct HeadQueries {
  int64_t rows;
  const float* model;
  const float* coded;
};

// Where a head's part of a page lies.
inline const std::byte* address_of(const PagedAttention& attention,
                                   const PageSource& page,
                                   int64_t kv_head,
                                   PagePart part) {
  if (page.type == PageType::kCoded) {
    return attention.codec->address(page.bytes, kv_head, part);
  }
  const std::byte* address = nullptr;
  with_elements(
      attention.shape, page, kv_head, part, [&](const auto* elements, const float* /*scales*/) {
        address = reinterpret_cast<const std::byte*>(elements);
      });
  return address;
}

// Brings a head's part of a coded page, which begins at `address`, into the cache.
HWY_INLINE void fetch_part(const PagedAttention& attention, const std::byte* address) {
  const int64_t bytes = attention.codec->page_bytes() / (2 * attention.shape.kv_heads);
  for (int64_t byte = 0; address != nullptr && byte < bytes; byte += 64) {
    fetch_ahead(address + byte);
  }
}

// Each row's numbers of a page's tokens times the tokens' scales.
HWY_INLINE void scale_tokens(int64_t rows, const float* scales, float* values, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t token = 0; token < kPageTokens; token += kLanes) {
      float* address = values + row * stride + token;
      hn::StoreU(hn::Mul(load(address), load(scales + token)), kFloats, address);
    }
  }
}

// sums [rows, 32] = a [rows, count] times the codes of lines [first, first + count).
HWY_INLINE void multiply_part(const CodedPart& part,
                              int64_t first,
                              int64_t count,
                              int64_t rows,
                              const float* a,
                              int64_t a_stride,
                              float* tile,
                              float* sums,
                              int64_t sums_stride) {
  if (rows <= kRegisterRows) {
    return multiply_codes(part, first, count, rows, a, a_stride, sums, sums_stride);
  }
  line_tile(part, first, count, tile);
  multiply<false>(rows, a, a_stride, tile, nullptr, kLineCodes, count, false, sums, sums_stride);
}

// factors = a times the scales of `count` lines, a multiple of 16; returns the sum of a times their
// zeros. Without scales: the sum of a.
template <bool by_line>
HWY_INLINE float scale_factors(
    const float* a, const float* scale, const float* zero, int64_t count, float* factors) {
  Vector sums[kParts];
  for (int part = 0; part < kParts; ++part) {
    sums[part] = hn::Zero(kFloats);
  }
  for (int64_t i = 0; i < count; i += 16) {
    for (int part = 0; part < kParts; ++part) {
      const int64_t place = i + part * kLanes;
      const Vector value = load(a + place);
      if constexpr (by_line) {
        hn::StoreU(hn::Mul(value, load(scale + place)), kFloats, factors + place);
        sums[part] = hn::MulAdd(value, load(zero + place), sums[part]);
      } else {
        sums[part] = hn::Add(sums[part], value);
      }
    }
  }
  return sum_by_halves(sums);
}

// sum_i a_i (code_i scale_i + zero_i) = sum_i (a_i scale_i) code_i + sum_i a_i zero_i: a number a
// line, not a code, is scaled. Where scales belong to places they come out of the sum.
HWY_INLINE void score_codes(int64_t head_dim,
                            int64_t rows,
                            const float* query,
                            float* scores,
                            int64_t stride,
                            PageScratch& scratch) {
  const CodedPart& part = scratch.part;
  float* offsets = scratch.offsets.data();
  for (int64_t row = 0; row < rows; ++row) {
    const float* a = query + row * head_dim;
    float* factors = scratch.factors.data() + row * head_dim;
    offsets[row] = part.by_line ? scale_factors<true>(a, part.scale, part.zero, head_dim, factors)
                                : scale_factors<false>(a, nullptr, nullptr, head_dim, nullptr);
  }
  multiply_part(part,
                0,
                head_dim,
                rows,
                part.by_line ? scratch.factors.data() : query,
                head_dim,
                scratch.tile.data(),
                scores,
                stride);
  for (int64_t row = 0; row < rows; ++row) {
    const Vector offset = hn::Set(kFloats, offsets[row]);
    for (int64_t token = 0; token < kPageTokens; token += kLanes) {
      float* address = scores + row * stride + token;
      const Vector score = part.by_line ? hn::Add(load(address), offset)
                                        : hn::MulAdd(load(address),
                                                     load(part.scale + token),
                                                     hn::Mul(offset, load(part.zero + token)));
      hn::StoreU(score, kFloats, address);
    }
  }
}

// values [rows, head_dim] (+)= weights [rows, 32] times the page's values.
HWY_INLINE void weigh_codes(int64_t head_dim,
                            int64_t rows,
                            const float* weights,
                            int64_t stride,
                            bool resume,
                            float* values,
                            PageScratch& scratch) {
  const CodedPart& part = scratch.part;
  float* offsets = scratch.offsets.data();
  float* factors = scratch.factors.data();
  for (int64_t row = 0; !part.by_line && row < rows; ++row) {
    offsets[row] =
        scale_factors<false>(weights + row * stride, nullptr, nullptr, kPageTokens, nullptr);
  }
  for (int64_t first = 0; first < head_dim; first += kLineCodes) {
    for (int64_t row = 0; part.by_line && row < rows; ++row) {
      offsets[row] = scale_factors<true>(weights + row * stride,
                                         part.scale + first,
                                         part.zero + first,
                                         kPageTokens,
                                         factors + row * kPageTokens);
    }
    multiply_part(part,
                  first,
                  kPageTokens,
                  rows,
                  part.by_line ? factors : weights,
                  part.by_line ? kPageTokens : stride,
                  scratch.tile.data(),
                  scratch.sums.data(),
                  kLineCodes);
    const int64_t width = std::min(kLineCodes, head_dim - first);
    for (int64_t row = 0; row < rows; ++row) {
      const Vector offset = hn::Set(kFloats, offsets[row]);
      for (int64_t place = 0; place < width; place += kLanes) {
        const Vector sum = load(scratch.sums.data() + row * kLineCodes + place);
        const Vector value = part.by_line
                                 ? hn::Add(sum, offset)
                                 : hn::MulAdd(sum,
                                              load(part.scale + first + place),
                                              hn::Mul(offset, load(part.zero + first + place)));
        float* address = values + row * head_dim + first + place;
        hn::StoreU(resume ? hn::Add(load(address), value) : value, kFloats, address);
      }
    }
  }
}

// Tokens of values outside [first, end) get scale and zero 0: what nobody sees may be NaN.
HWY_INLINE void hide_lines(int64_t head_dim, int64_t first, int64_t end, CodedPart& values) {
  if (!values.by_line || end - first == kPageTokens) {
    return;
  }
  for (int64_t line = 0; line < kLineCodes * value_panels(head_dim); ++line) {
    if (line % kLineCodes < first || line % kLineCodes >= end) {
      values.scale[line] = values.zero[line] = 0;
    }
  }
}

// Scores [rows, 32] of queries against a page. `next`: what is read after it, null where that is
// not known. scratch.prepare(rows, head_dim) came before.
HWY_INLINE void score_page(const PagedAttention& attention,
                           const PageSource& page,
                           int64_t kv_head,
                           const HeadQueries& queries,
                           const std::byte* next,
                           float* scores,
                           int64_t stride,
                           PageScratch& scratch) {
  const int64_t head_dim = attention.shape.head_dim;
  const KeyRotation& rotation = attention.key_rotation;
  const bool rotates = rotation.cosine != nullptr;
  const int64_t rows = queries.rows;
  float* tile = scratch.tile.data();
  const auto multiply_keys = [&](auto fetch, const float* query, const auto* keys) HWY_ATTR {
    multiply<fetch.value>(
        rows, query, head_dim, keys, next, kPageTokens, head_dim, false, scores, stride);
  };
  if (page.type == PageType::kCoded) {
    const PageCodec& codec = *attention.codec;
    fetch_part(attention, next);
    const float* query = codec.changes_keys() ? queries.coded : queries.model;
    if (!rotates &&
        codec.coded_part(
            page.bytes, page.number, page.side, kv_head, PagePart::kKey, scratch.part)) {
      return score_codes(head_dim, rows, query, scores, stride, scratch);
    }
    const bool back = rotates && codec.changes_keys();
    float* coded = back ? scratch.spare.data() : tile;
    codec.decode_keys(page.bytes, page.number, page.side, kv_head, coded);
    if (back) {
      codec.keys_from_basis(page.side, kv_head, coded, tile);
      query = queries.model;
    }
    if (rotates) {
      rotate_tile(rotation, head_dim, page.number, tile);
    }
    return multiply_keys(std::false_type(), query, tile);
  }
  with_elements(attention.shape,
                page,
                kv_head,
                PagePart::kKey,
                [&](const auto* key, const float* scales) HWY_ATTR {
                  if (rows >= kConvertRows || rotates) {
                    convert(key, head_dim * kPageTokens, tile);
                    if (rotates) {
                      rotate_tile(rotation, head_dim, page.number, tile);
                    }
                    multiply_keys(std::false_type(), queries.model, tile);
                  } else if (next == nullptr) {
                    multiply_keys(std::false_type(), queries.model, key);
                  } else {
                    multiply_keys(std::true_type(), queries.model, key);
                  }
                  if (scales != nullptr) {
                    scale_tokens(rows, scales, scores, stride);
                  }
                });
}

// Sums of weighted values [rows, head_dim], and whether they hold something yet.
struct ValueSums {
  float* values;
  bool resume;
};

// Adds tokens [first, end) of a page, weighted; those of a codec that changes values go to `coded`.
// weights [rows, 32] of the page are 0 outside, and may be changed.
HWY_INLINE void weigh_page(const PagedAttention& attention,
                           const PageSource& page,
                           int64_t kv_head,
                           int64_t rows,
                           float* weights,
                           int64_t stride,
                           int64_t first,
                           int64_t end,
                           const std::byte* next,
                           ValueSums& sums,
                           ValueSums& coded,
                           PageScratch& scratch) {
  const int64_t head_dim = attention.shape.head_dim;
  float* tile = scratch.tile.data();
  const auto multiply_values = [&](auto fetch, const auto* values, ValueSums& target) HWY_ATTR {
    multiply<fetch.value>(rows,
                          weights + first,
                          stride,
                          values,
                          next,
                          head_dim,
                          end - first,
                          target.resume,
                          target.values,
                          head_dim);
    target.resume = true;
  };
  if (page.type == PageType::kCoded) {
    const PageCodec& codec = *attention.codec;
    ValueSums& target = codec.changes_values() ? coded : sums;
    fetch_part(attention, next);
    if (codec.coded_part(
            page.bytes, page.number, page.side, kv_head, PagePart::kValue, scratch.part)) {
      hide_lines(head_dim, first, end, scratch.part);
      weigh_codes(head_dim, rows, weights, stride, target.resume, target.values, scratch);
      target.resume = true;
      return;
    }
    codec.decode_values(page.bytes, page.number, page.side, kv_head, tile);
    return multiply_values(std::false_type(), tile + first * head_dim, target);
  }
  with_elements(attention.shape,
                page,
                kv_head,
                PagePart::kValue,
                [&](const auto* value, const float* scales) HWY_ATTR {
                  if (scales != nullptr) {  // nobody needs the weights themselves any more
                    scale_tokens(rows, scales, weights, stride);
                  }
                  const auto* seen = value + first * head_dim;
                  if (rows >= kConvertRows) {
                    convert(seen, (end - first) * head_dim, tile);
                    multiply_values(std::false_type(), tile, sums);
                  } else if (next == nullptr) {
                    multiply_values(std::false_type(), seen, sums);
                  } else {
                    multiply_values(std::true_type(), seen, sums);
                  }
                });
}

}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
