#pragma once
// Lines of 32 unsigned codes of 2, 3, 4 or 8 bits, and their numbers: code * scale + zero. A line is
// 4 * bits bytes. With n = 8 j + i (i in 0 .. 7, j in 0 .. 3):
//   2 bits: byte i holds code 8 j + i in its bits 2 j, 2 j + 1
//   4 bits: byte i holds codes i (low) and 16 + i (high half), i in 0 .. 15
//   3 bits: the low two bits as above, then 4 bytes of high bits: byte k holds those of i = k in its
//           low half and of i = k + 4 in its high half, that of j in bit j
//   8 bits: byte n
// The layouts unpack by shifts and masks of 64-bit words.

#include <cstddef>
#include <cstdint>

namespace adze::kernels {

constexpr int64_t kLineCodes = 32;
constexpr int64_t line_bytes(int64_t bits) { return 4 * bits; }

void pack_line(int64_t bits, const uint8_t* codes, std::byte* line);
void unpack_line(int64_t bits, const std::byte* line, uint8_t* codes);

// numbers [count, 32] of `count` lines, a multiple of 8; line n has scale[n], zero[n] as f16 at scales[2 n], [2 n + 1].
void decode_lines(int64_t bits,
                  const std::byte* lines,
                  const uint16_t* scales,
                  int64_t count,
                  float* numbers);
// The same where the scale and zero are those of the place in the line, [32] each.
void decode_lines_by_place(int64_t bits,
                           const std::byte* lines,
                           const float* scale,
                           const float* zero,
                           int64_t count,
                           float* numbers);

// The line of 32 numbers between their extremes: code = round((x - zero) / scale) with zero the least
// and scale the range / (2^bits - 1), both rounded to f16 first. A line of equal numbers has scale 0.
void encode_line(int64_t bits, const float* numbers, uint16_t* scale_and_zero, std::byte* line);

}  // namespace adze::kernels
