#pragma once
// Lines of 32 unsigned codes of 2, 3, 4, 5, 6 or 8 bits, and their numbers: code * scale + zero. A
// line is 4 * bits bytes, in planes. With n = 8 j + i (i in 0 .. 7, j in 0 .. 3):
//   4 bits: byte i holds codes i (low) and 16 + i (high half), i in 0 .. 15
//   2 bits: byte i holds code 8 j + i in its bits 2 j, 2 j + 1
//   1 bit:  byte k holds those of i = k in its low half and of i = k + 4 in its high half, that of
//   j
//           in bit j
//   3, 5, 6 bits: the low 2, 4, 4 bits, then the high 1, 1, 2
//   8 bits: byte n
// The planes unpack by shifts and masks of 64-bit words.

#include <cstddef>
#include <cstdint>

namespace adze::kernels {

constexpr int64_t kLineCodes = 32;
constexpr int64_t line_bytes(int64_t bits) {
  return 4 * bits;
}

void pack_line(int64_t bits, const uint8_t* codes, std::byte* line);
void unpack_line(int64_t bits, const std::byte* line, uint8_t* codes);

// numbers [count, 32] of `count` lines, a multiple of 8; line n has scale[n], zero[n] as f16 at
// scales[2 n], [2 n + 1].
void decode_lines(
    int64_t bits, const std::byte* lines, const uint16_t* scales, int64_t count, float* numbers);
// Line n, of scale[n] and zero[n], goes to numbers + 32 * rows[n].
void decode_lines_to(int64_t bits,
                     const std::byte* lines,
                     const float* scale,
                     const float* zero,
                     const uint8_t* rows,
                     int64_t count,
                     float* numbers);
// The scale and zero are those of the place, [period, 32] each; line n has those of n % period.
void decode_lines_by_place(int64_t bits,
                           const std::byte* lines,
                           const float* scale,
                           const float* zero,
                           int64_t period,
                           int64_t count,
                           float* numbers);

// The line of 32 numbers between their extremes: code = round((x - zero) / scale) with zero the
// least and scale the range / (2^bits - 1), both rounded to f16 first. A line of equal numbers has
// scale 0.
void encode_line(int64_t bits, const float* numbers, uint16_t* scale_and_zero, std::byte* line);

}  // namespace adze::kernels
