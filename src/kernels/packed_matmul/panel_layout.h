#pragma once
// Bytes of a panel: 16 weight rows side by side, block after block of the type's columns.
// "16 x T" is one value a row, the rows being the lanes of a vector; a word is 16 x u32.
//
//   f32 f16 bf16   a column: 16 x T
//
// The others hold a header, then for each 32 columns the words of their codes:
//
//   q4_0 q5_0      scale 16 x f16
//   q8_0 iq4_nl
//   q4_1 q5_1      scale 16 x f16 | minimum 16 x f16
//   q6_k           scale 16 x f16 | sub-scales 16 of 16 x i8
//   q2_k           scale 16 x f16 | minimum 16 x f16 | 2 words: nibbles of the 16 sub-scales |
//                  2 words: nibbles of the 16 sub-minima
//   q3_k           scale 16 x f16 | 2 words: low nibbles of the 16 sub-scales | a word: their high
//                  pairs
//   q4_k q5_k      scale 16 x f16 | minimum 16 x f16 | a word: low nibbles of the 8 sub-scales |
//                  a word: low nibbles of the 8 sub-minima | a word: at nibble j the high pair of
//                  sub-scale j, above it that of sub-minimum j
//   iq4_xs         scale 16 x f16 | a word: low nibbles of the 8 sub-scales | 16 x u16: their high
//                  pairs
//
// Codes of n bits take n words for 32 columns, in one or two planes: the low 2, 4 or 8 bits of each
// code, then its upper 1 or 2. Eight "quads" of four columns make the 32: byte j of quad q is
// column 8 (q / 2) + 2 j + q % 2. In a plane of b bits, quad q is the b bits of each byte from bit
// b q % 8 on in word b q / 8. So four columns of a row are one shift and one mask away from the
// bytes that integer products want.
//
// q8_0's codes are its values plus 128.

#include <cstdint>

#include "core/tensor_type.h"

namespace adze::kernels {

constexpr int64_t kBlockColumns = 32;  // the unit of all readers

struct PanelForm {
  int64_t columns;       // of a block
  int64_t header_bytes;  // of a block
  int64_t code_bits;
};

// Of the types that have codes.
constexpr PanelForm panel_form(core::TensorType type) {
  switch (type) {
    case core::TensorType::kQ4_0:
    case core::TensorType::kIQ4_NL:
      return {32, 32, 4};
    case core::TensorType::kQ8_0:
      return {32, 32, 8};
    case core::TensorType::kQ4_1:
      return {32, 64, 4};
    case core::TensorType::kQ5_0:
      return {32, 32, 5};
    case core::TensorType::kQ5_1:
      return {32, 64, 5};
    case core::TensorType::kQ2_K:
      return {256, 64 + 4 * 64, 2};
    case core::TensorType::kQ3_K:
      return {256, 32 + 3 * 64, 3};
    case core::TensorType::kQ4_K:
      return {256, 64 + 3 * 64, 4};
    case core::TensorType::kQ5_K:
      return {256, 64 + 3 * 64, 5};
    case core::TensorType::kQ6_K:
      return {256, 32 + 16 * 16, 6};
    case core::TensorType::kIQ4_XS:
      return {256, 32 + 64 + 32, 4};
    default:
      return {};
  }
}

// Sub-scales within 32 columns: one, or one for each 16.
constexpr int scale_parts(core::TensorType type) {
  return type == core::TensorType::kQ2_K || type == core::TensorType::kQ3_K ||
                 type == core::TensorType::kQ6_K
             ? 2
             : 1;
}
// Whether codes number the values of kIq4Values.
constexpr bool is_looked_up(core::TensorType type) {
  return type == core::TensorType::kIQ4_NL || type == core::TensorType::kIQ4_XS;
}

// The code that stands for zero, a power of two; 0 where blocks hold a minimum instead.
constexpr int zero_code(core::TensorType type) {
  switch (type) {
    case core::TensorType::kQ3_K:
      return 4;
    case core::TensorType::kQ4_0:
      return 8;
    case core::TensorType::kQ5_0:
      return 16;
    case core::TensorType::kQ6_K:
      return 32;
    case core::TensorType::kQ8_0:
    case core::TensorType::kIQ4_NL:  // of what the codes stand for
    case core::TensorType::kIQ4_XS:
      return 128;
    default:
      return 0;
  }
}

// Bits of the low plane; the rest are in the upper one.
constexpr int64_t low_bits(int64_t code_bits) {
  return code_bits == 3 ? 2 : code_bits == 5 || code_bits == 6 ? 4 : code_bits;
}
// The column, of 32, of byte `byte` of quad `quad`.
constexpr int64_t quad_column(int64_t quad, int64_t byte) {
  return quad / 2 * 8 + byte * 2 + quad % 2;
}

// Bytes of the codes of 32 columns, and of a block.
constexpr int64_t code_bytes(const PanelForm& form) {
  return form.code_bits * 64;
}
constexpr int64_t block_bytes(const PanelForm& form) {
  return form.header_bytes + form.columns / 32 * code_bytes(form);
}

// What the sixteen codes of the iq4 types stand for, plus 128.
constexpr uint8_t kIq4Values[16] = {
    1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

// Bytes of 16 rows of `columns` values: the same in a panel as in the file.
inline int64_t panel_bytes(core::TensorType type, int64_t columns) {
  return 16 * core::row_bytes(type, columns);
}

}  // namespace adze::kernels
