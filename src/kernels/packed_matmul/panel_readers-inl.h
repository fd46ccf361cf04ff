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

class ByteReader {
 public:
  HWY_INLINE void open(const uint8_t* panel, int64_t block) {
    const uint8_t* start = panel + block * (32 + 32 * 16);
    for (int v = 0; v < kVectors; ++v) {
      scale_[v] = load_halves(start, v);
    }
    bytes_ = start + 32;
  }
  HWY_INLINE void group(int index) { group_ = bytes_ + index * 8 * 16; }
  template <int column>
  HWY_INLINE Vector weight(int vector) const {
    return hn::Mul(scale_[vector], load_bytes(group_ + column * 16, vector));
  }

 private:
  Vector scale_[kVectors];
  const uint8_t* bytes_;
  const uint8_t* group_;
};

// The codes of a group: the first 32 bits of its string, and the rest.
template <int bits>
class BitCodes {
 public:
  HWY_INLINE void group(const uint8_t* words, int index) {
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (bits == 2) {
        first_[v] = hn::ShiftRightSame(load_words(words + index / 2 * 64, v), index % 2 * 16);
      } else if constexpr (bits == 3) {
        first_[v] = index < 3 ? load_words(words + index * 64, v) : top_bytes(words, v);
      } else {
        first_[v] = load_words(words + index * 64, v);
      }
      if constexpr (bits == 5) {
        rest_[v] = hn::ShiftRightSame(load_words(words + 4 * 64, v), index * 8);
      } else if constexpr (bits == 6) {
        const WordVector word = load_words(words + (4 + index / 2) * 64, v);
        rest_[v] = hn::ShiftRightSame(word, index % 2 * 16);
      }
    }
  }
  template <int column>
  HWY_INLINE WordVector code(int vector) const {
    constexpr int kStart = column * bits;
    const auto mask = hn::Set(kWords, (1U << bits) - 1);
    if constexpr (kStart + bits < 32) {
      return hn::And(hn::ShiftRight<kStart>(first_[vector]), mask);
    } else if constexpr (kStart + bits == 32) {
      return hn::ShiftRight<kStart>(first_[vector]);
    } else if constexpr (kStart < 32) {
      return hn::OrAnd(
          hn::ShiftRight<kStart>(first_[vector]), hn::ShiftLeft<32 - kStart>(rest_[vector]), mask);
    } else {
      return hn::And(hn::ShiftRight<kStart - 32>(rest_[vector]), mask);
    }
  }

 private:
  static HWY_INLINE WordVector top_bytes(const uint8_t* words, int vector) {
    const auto top = hn::Set(kWords, 0xFF000000U);
    const auto second = hn::And(load_words(words + 64, vector), top);
    const auto third = hn::And(load_words(words + 2 * 64, vector), top);
    return hn::Or(hn::ShiftRight<24>(load_words(words, vector)),
                  hn::Or(hn::ShiftRight<16>(second), hn::ShiftRight<8>(third)));
  }

  WordVector first_[kVectors];
  WordVector rest_[kVectors];  // beyond 32 bits; what follows it is up to the mask
};

// Each byte of `numbers`, 0 to 15, becomes the iq4 value of that number, plus kIq4Zero.
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

// Nibbles that number the sixteen iq4 values; the codes are those values, plus kIq4Zero.
class TableCodes {
 public:
  HWY_INLINE void group(const uint8_t* words, int index) {
    const auto nibbles = hn::Set(kWords, 0x0F0F0F0FU);
    for (int v = 0; v < kVectors; ++v) {
      const WordVector word = load_words(words + index * 64, v);
      even_[v] = look_up_iq4(hn::And(word, nibbles));
      odd_[v] = look_up_iq4(hn::And(hn::ShiftRight<4>(word), nibbles));
    }
  }
  template <int column>
  HWY_INLINE WordVector code(int vector) const {
    const WordVector& words = column % 2 == 0 ? even_[vector] : odd_[vector];
    const WordVector moved = hn::ShiftRight<column / 2 * 8>(words);
    return column / 2 == 3 ? moved : hn::And(moved, hn::Set(kWords, 255U));
  }

 private:
  WordVector even_[kVectors];  // bytes of columns 0, 2, 4, 6
  WordVector odd_[kVectors];
};

// weight = scale * code + offset. The product is exact in f32, so the sum alone rounds: 11 bits of
// an f16 scale, at most 7 of a sub-scale and 6 of a code (iq4: 5 and 8).
struct Affine {
  Vector scale;
  Vector offset;
};

// The affine map of the types whose header holds just a scale, less a constant times it.
HWY_INLINE Affine centred(Vector scale, float centre) {
  return {scale, hn::Mul(scale, hn::Set(kFloats, -centre))};
}

// The affine map of the 16 or 32 columns `part` of a block.
template <TensorType type>
HWY_INLINE Affine affine_of(const uint8_t* header, int64_t part, int v) {
  using enum TensorType;
  const Vector scale = load_halves(header, v);
  if constexpr (type == kQ4_0) {
    return centred(scale, 8);
  } else if constexpr (type == kQ5_0) {
    return centred(scale, 16);
  } else if constexpr (type == kIQ4_NL) {
    return centred(scale, kIq4Zero);
  } else if constexpr (type == kQ4_1 || type == kQ5_1) {
    return {scale, load_halves(header + 32, v)};
  } else if constexpr (type == kQ2_K) {
    const uint8_t* words = header + 64 + part / 8 * 64;
    const auto sub_scale = field_of<4>(load_words(words, v), part % 8 * 4);
    const auto sub_minimum = field_of<4>(load_words(words + 2 * 64, v), part % 8 * 4);
    return {hn::Mul(scale, to_float(sub_scale)),
            hn::Neg(hn::Mul(load_halves(header + 32, v), to_float(sub_minimum)))};
  } else if constexpr (type == kQ3_K) {
    const auto low = field_of<4>(load_words(header + 32 + part / 8 * 64, v), part % 8 * 4);
    const auto high = field_of<2>(load_words(header + 32 + 2 * 64, v), part * 2);
    const Vector sub_scale = to_float(hn::Or(low, hn::ShiftLeft<4>(high)));
    return centred(hn::Mul(scale, hn::Sub(sub_scale, hn::Set(kFloats, 32.0F))), 4);
  } else if constexpr (type == kQ4_K || type == kQ5_K) {
    const WordVector pairs = load_words(header + 192, v);
    const auto high_scale = field_of<2>(pairs, part * 4);
    const auto high_minimum = field_of<2>(pairs, part * 4 + 2);
    const auto low_scale = field_of<4>(load_words(header + 64, v), part * 4);
    const auto low_minimum = field_of<4>(load_words(header + 128, v), part * 4);
    const Vector sub_scale = to_float(hn::Or(low_scale, hn::ShiftLeft<4>(high_scale)));
    const Vector sub_minimum = to_float(hn::Or(low_minimum, hn::ShiftLeft<4>(high_minimum)));
    return {hn::Mul(scale, sub_scale), hn::Neg(hn::Mul(load_halves(header + 32, v), sub_minimum))};
  } else if constexpr (type == kQ6_K) {
    return centred(hn::Mul(scale, load_bytes(header + 32 + part * 16, v)), 32);
  } else {
    static_assert(type == kIQ4_XS);
    const hn::Rebind<uint16_t, Floats> shorts;
    const auto pairs =
        hn::LoadU(shorts, reinterpret_cast<const uint16_t*>(header + 32 + 64) + v * kLanes);
    const auto low = field_of<4>(load_words(header + 32, v), part * 4);
    const auto high = field_of<2>(hn::PromoteTo(kWords, pairs), part * 2);
    const Vector sub_scale = to_float(hn::Or(low, hn::ShiftLeft<4>(high)));
    return centred(hn::Mul(scale, hn::Sub(sub_scale, hn::Set(kFloats, 32.0F))), kIq4Zero);
  }
}

template <TensorType type>
class CodeReader {
 public:
  HWY_INLINE void open(const uint8_t* panel, int64_t block) {
    header_ = panel + block / kBlockParts * block_bytes(kForm);
    part_ = block % kBlockParts;
    codes_address_ = header_ + kForm.header_bytes + part_ * code_bytes(kForm);
    if constexpr (!kHalves) {
      set_affine(part_);
    }
  }
  HWY_INLINE void group(int index) {
    if (kHalves && index % 2 == 0) {
      set_affine(part_ * 2 + index / 2);
    }
    codes_.group(codes_address_, index);
  }
  template <int column>
  HWY_INLINE Vector weight(int vector) const {
    const Vector code = to_float(codes_.template code<column>(vector));
    return hn::MulAdd(affine_[vector].scale, code, affine_[vector].offset);
  }

 private:
  static constexpr PanelForm kForm = panel_form(type);
  static constexpr int64_t kBlockParts = kForm.columns / 32;
  // Sub-scales of 16 columns, not 32.
  static constexpr bool kHalves =
      type == TensorType::kQ2_K || type == TensorType::kQ3_K || type == TensorType::kQ6_K;
  static constexpr bool kTable = type == TensorType::kIQ4_NL || type == TensorType::kIQ4_XS;

  HWY_INLINE void set_affine(int64_t part) {
    for (int v = 0; v < kVectors; ++v) {
      affine_[v] = affine_of<type>(header_, part, v);
    }
  }

  const uint8_t* header_;
  int64_t part_;
  const uint8_t* codes_address_;
  Affine affine_[kVectors];
  std::conditional_t<kTable, TableCodes, BitCodes<static_cast<int>(kForm.code_bits)>> codes_;
};

template <TensorType type>
class Reader : public CodeReader<type> {};
template <>
class Reader<TensorType::kF32> : public PlainReader<float> {};
template <>
class Reader<TensorType::kF16> : public PlainReader<hwy::float16_t> {};
template <>
class Reader<TensorType::kBF16> : public PlainReader<hwy::bfloat16_t> {};
template <>
class Reader<TensorType::kQ8_0> : public ByteReader {};

}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
