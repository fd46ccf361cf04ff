// Readers give the f32 weights of one panel, 8 columns ("group") at a time: open(panel, block of 32
// columns), group(0..3), then weight<0..7>(vector). Include after <hwy/foreach_target.h>; the guard
// below toggles with the target (Highway's idiom).

#if defined(ADZE_KERNELS_PANEL_READERS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ADZE_KERNELS_PANEL_READERS_INL_H
#undef ADZE_KERNELS_PANEL_READERS_INL_H
#else
#define ADZE_KERNELS_PANEL_READERS_INL_H
#endif

#include <type_traits>

#include "core/check.h"
#include "kernels/packed_matmul/panel_layout.h"
#include "kernels/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {

using core::TensorType;

using Words = hn::RebindToUnsigned<Floats>;
using Integers = hn::RebindToSigned<Floats>;
using WordVector = hn::Vec<Words>;

constexpr Words kWords;
constexpr Integers kIntegers;
constexpr int kVectors = kParts;  // vectors that span the 16 rows of a panel

HWY_INLINE Vector load_halves(const uint8_t* address, int vector) {
  const hn::Rebind<hwy::float16_t, Floats> halves;
  return hn::PromoteTo(
      kFloats,
      hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(address) + vector * kLanes));
}

HWY_INLINE Vector load_bytes(const uint8_t* address, int vector) {
  const hn::Rebind<int8_t, Floats> bytes;
  return hn::ConvertTo(
      kFloats,
      hn::PromoteTo(kIntegers,
                    hn::LoadU(bytes, reinterpret_cast<const int8_t*>(address) + vector * kLanes)));
}

HWY_INLINE WordVector load_words(const uint8_t* address, int vector) {
  return hn::LoadU(kWords, reinterpret_cast<const uint32_t*>(address) + vector * kLanes);
}

HWY_INLINE Vector to_float(WordVector words) {
  return hn::ConvertTo(kFloats, hn::BitCast(kIntegers, words));
}

// Bits [shift, shift + bits) of each word; `shift` is known at run time only.
template <int bits>
HWY_INLINE WordVector field_of(WordVector words, int64_t shift) {
  return hn::And(hn::ShiftRightSame(words, static_cast<int>(shift)),
                 hn::Set(kWords, (1U << bits) - 1));
}

template <class Element>
class PlainReader {
 public:
  HWY_INLINE void open(const uint8_t* panel, int64_t block) {
    block_ = panel + block * 32 * 16 * static_cast<int64_t>(sizeof(Element));
  }
  HWY_INLINE void group(int index) { group_ = block_ + index * 8 * 16 * sizeof(Element); }
  template <int column>
  HWY_INLINE Vector weight(int vector) const {
    const uint8_t* address = group_ + column * 16 * sizeof(Element);
    if constexpr (std::is_same_v<Element, float>) {
      return hn::LoadU(kFloats, reinterpret_cast<const float*>(address) + vector * kLanes);
    } else {
      const hn::Rebind<Element, Floats> narrow;
      return hn::PromoteTo(
          kFloats, hn::LoadU(narrow, reinterpret_cast<const Element*>(address) + vector * kLanes));
    }
  }

 private:
  const uint8_t* block_;
  const uint8_t* group_;
};

// Each byte of `numbers`, 0 to 15, becomes the iq4 value of that number, plus 128.
HWY_INLINE WordVector look_up_iq4(WordVector numbers) {
#if HWY_TARGET == HWY_SCALAR
  uint32_t word = hn::GetLane(numbers);
  for (int shift = 0; shift < 32; shift += 8) {
    const uint32_t value = kIq4Values[word >> shift & 15U];
    word = (word & ~(255U << shift)) | value << shift;
  }
  return hn::Set(kWords, word);
#else
  const hn::Repartition<uint8_t, Words> bytes;
  const auto table = hn::LoadDup128(bytes, kIq4Values);
  return hn::BitCast(kWords, hn::TableLookupBytes(table, hn::BitCast(bytes, numbers)));
#endif
}

// Quad 2 * group + half of a plane of `bits` bits.
template <int bits, int half>
HWY_INLINE WordVector plane_quad(const uint8_t* plane, int64_t group, int vector) {
  const int64_t place = (group * 2 + half) * bits;
  const WordVector word = load_words(plane + place / 8 * 64, vector);
  const auto mask = hn::Set(kWords, ((1U << bits) - 1) * 0x01010101U);
  if constexpr (bits == 8) {
    return word;
  } else if constexpr (bits == 4) {
    return hn::And(hn::ShiftRight<half * 4>(word), mask);
  } else {
    return hn::And(hn::ShiftRightSame(word, static_cast<int>(place % 8)), mask);
  }
}

// Codes of a group's even or odd (half 1) columns, a byte each, as panel_layout.h says; `words` are
// those of 32 columns.
template <TensorType type, int half>
HWY_INLINE WordVector quad_codes(const uint8_t* words, int64_t group, int vector) {
  constexpr int kBits = static_cast<int>(panel_form(type).code_bits);
  constexpr int kLow = static_cast<int>(low_bits(kBits));
  WordVector codes = plane_quad<kLow, half>(words, group, vector);
  if constexpr (kLow < kBits) {
    const auto high = plane_quad<kBits - kLow, half>(words + kLow * 64, group, vector);
    codes = hn::Or(codes, hn::ShiftLeft<kLow>(high));
  }
  if constexpr (is_looked_up(type)) {
    codes = look_up_iq4(codes);
  }
  return codes;
}

// weight = scale * code + offset. The product is exact in f32, so the sum alone rounds: 11 bits of
// an f16 scale, at most 7 of a sub-scale and 6 of a code (iq4: 5 and 8).

// Of the 16 or 32 columns `part` of a block.
template <TensorType type>
HWY_INLINE Vector scale_of(const uint8_t* header, int64_t part, int v) {
  using enum TensorType;
  const Vector scale = load_halves(header, v);
  if constexpr (type == kQ2_K) {
    const WordVector words = load_words(header + 64 + part / 8 * 64, v);
    return hn::Mul(scale, to_float(field_of<4>(words, part % 8 * 4)));
  } else if constexpr (type == kQ3_K) {
    const auto low = field_of<4>(load_words(header + 32 + part / 8 * 64, v), part % 8 * 4);
    const auto high = field_of<2>(load_words(header + 32 + 2 * 64, v), part * 2);
    const Vector sub_scale = to_float(hn::Or(low, hn::ShiftLeft<4>(high)));
    return hn::Mul(scale, hn::Sub(sub_scale, hn::Set(kFloats, 32.0F)));
  } else if constexpr (type == kQ4_K || type == kQ5_K) {
    const auto high = field_of<2>(load_words(header + 192, v), part * 4);
    const auto low = field_of<4>(load_words(header + 64, v), part * 4);
    return hn::Mul(scale, to_float(hn::Or(low, hn::ShiftLeft<4>(high))));
  } else if constexpr (type == kQ6_K) {
    return hn::Mul(scale, load_bytes(header + 32 + part * 16, v));
  } else if constexpr (type == kIQ4_XS) {
    const hn::Rebind<uint16_t, Floats> shorts;
    const auto pairs =
        hn::LoadU(shorts, reinterpret_cast<const uint16_t*>(header + 32 + 64) + v * kLanes);
    const auto low = field_of<4>(load_words(header + 32, v), part * 4);
    const auto high = field_of<2>(hn::PromoteTo(kWords, pairs), part * 2);
    const Vector sub_scale = to_float(hn::Or(low, hn::ShiftLeft<4>(high)));
    return hn::Mul(scale, hn::Sub(sub_scale, hn::Set(kFloats, 32.0F)));
  } else {
    return scale;
  }
}

// Of a type whose blocks hold minima.
template <TensorType type>
HWY_INLINE Vector minimum_of(const uint8_t* header, int64_t part, int v) {
  using enum TensorType;
  const Vector minimum = load_halves(header + 32, v);
  if constexpr (type == kQ2_K) {
    const WordVector words = load_words(header + 3 * 64 + part / 8 * 64, v);
    return hn::Neg(hn::Mul(minimum, to_float(field_of<4>(words, part % 8 * 4))));
  } else if constexpr (type == kQ4_K || type == kQ5_K) {
    const auto high = field_of<2>(load_words(header + 192, v), part * 4 + 2);
    const auto low = field_of<4>(load_words(header + 128, v), part * 4);
    return hn::Neg(hn::Mul(minimum, to_float(hn::Or(low, hn::ShiftLeft<4>(high)))));
  } else {
    static_assert(type == kQ4_1 || type == kQ5_1);
    return minimum;
  }
}

// 32 columns of a panel whose type has codes.
template <TensorType type>
class CodeBlock {
 public:
  HWY_INLINE void open(const uint8_t* panel, int64_t block) {
    header_ = panel + block / kBlockParts * block_bytes(kForm);
    part_ = block % kBlockParts;
    words_ = header_ + kForm.header_bytes + part_ * code_bytes(kForm);
  }
  template <int half>
  HWY_INLINE WordVector quad_of(int64_t group, int vector) const {
    return quad_codes<type, half>(words_, group, vector);
  }
  // Of 16 or 32 columns: part < scale_parts(type).
  HWY_INLINE Vector scale(int part, int vector) const {
    return scale_of<type>(header_, part_ * scale_parts(type) + part, vector);
  }
  HWY_INLINE Vector minimum(int part, int vector) const {
    return minimum_of<type>(header_, part_ * scale_parts(type) + part, vector);
  }

 private:
  static constexpr PanelForm kForm = panel_form(type);
  static constexpr int64_t kBlockParts = kForm.columns / kBlockColumns;
  const uint8_t* header_;
  int64_t part_;
  const uint8_t* words_;
};

template <TensorType type>
class CodeReader {
 public:
  HWY_INLINE void open(const uint8_t* panel, int64_t block) {
    block_.open(panel, block);
    if constexpr (scale_parts(type) == 1) {
      set_affine(0);
    }
  }
  HWY_INLINE void group(int index) {
    if (scale_parts(type) == 2 && index % 2 == 0) {
      set_affine(index / 2);
    }
    for (int v = 0; v < kVectors; ++v) {
      even_[v] = block_.template quad_of<0>(index, v);
      odd_[v] = block_.template quad_of<1>(index, v);
    }
  }
  template <int column>
  HWY_INLINE Vector weight(int vector) const {
    const WordVector& quad = column % 2 == 0 ? even_[vector] : odd_[vector];
    const WordVector moved = hn::ShiftRight<column / 2 * 8>(quad);
    const auto code = column / 2 == 3 ? moved : hn::And(moved, hn::Set(kWords, 255U));
    return hn::MulAdd(scale_[vector], to_float(code), offset_[vector]);
  }

 private:
  HWY_INLINE void set_affine(int part) {
    for (int v = 0; v < kVectors; ++v) {
      scale_[v] = block_.scale(part, v);
      if constexpr (zero_code(type) == 0) {
        offset_[v] = block_.minimum(part, v);
      } else {
        offset_[v] = hn::Mul(scale_[v], hn::Set(kFloats, -static_cast<float>(zero_code(type))));
      }
    }
  }

  CodeBlock<type> block_;
  Vector scale_[kVectors];
  Vector offset_[kVectors];
  WordVector even_[kVectors];  // a group's columns 0, 2, 4, 6
  WordVector odd_[kVectors];   // ... 1, 3, 5, 7
};

template <TensorType type>
class Reader : public CodeReader<type> {};
template <>
class Reader<TensorType::kF32> : public PlainReader<float> {};
template <>
class Reader<TensorType::kF16> : public PlainReader<hwy::float16_t> {};
template <>
class Reader<TensorType::kBF16> : public PlainReader<hwy::bfloat16_t> {};

// Calls body(integral_constant<TensorType>) for a type of codes.
template <class Body>
HWY_INLINE void with_code_type(TensorType type, Body&& body) {
  using enum TensorType;
  switch (type) {
    case kQ4_0:
      return body(std::integral_constant<TensorType, kQ4_0>());
    case kQ4_1:
      return body(std::integral_constant<TensorType, kQ4_1>());
    case kQ8_0:
      return body(std::integral_constant<TensorType, kQ8_0>());
    case kQ5_0:
      return body(std::integral_constant<TensorType, kQ5_0>());
    case kQ5_1:
      return body(std::integral_constant<TensorType, kQ5_1>());
    case kQ2_K:
      return body(std::integral_constant<TensorType, kQ2_K>());
    case kQ3_K:
      return body(std::integral_constant<TensorType, kQ3_K>());
    case kQ4_K:
      return body(std::integral_constant<TensorType, kQ4_K>());
    case kQ5_K:
      return body(std::integral_constant<TensorType, kQ5_K>());
    case kQ6_K:
      return body(std::integral_constant<TensorType, kQ6_K>());
    case kIQ4_NL:
      return body(std::integral_constant<TensorType, kIQ4_NL>());
    case kIQ4_XS:
      return body(std::integral_constant<TensorType, kIQ4_XS>());
    default:
      core::check(false, "no packed form of ", core::info(type).name);
  }
}

}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
