#pragma once
// Lines of 32 unsigned codes of 2, 3, 4, 5, 6 or 8 bits. A line is 4 * bits bytes; code n begins at
// its bit bits * (4 * (n % 8) + n / 8), bytes and bits in rising order. So a vector whose lane i
// holds the line's i-th 4 * bits bits has codes i, 8 + i, 16 + i, 24 + i in it: each a shift and a
// mask away.
//
// A part (one kv head's keys or values of a page) is panels of lines, without gaps:
//   keys    one panel; a line is a channel, its places are the page's tokens
//   values  a panel for every 32 channels; a line is a token, its places are channels. Places
//           beyond the head's channels hold 0.
// The number of a code is code * scale + zero, of the line or of the place.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace adze::kernels {

constexpr int64_t kLineCodes = 32;
constexpr int64_t kMostLines = 512;  // of a part: heads are up to so many channels wide
constexpr int64_t line_bytes(int64_t bits) {
  return 4 * bits;
}
constexpr int64_t value_panels(int64_t head_dim) {
  return (head_dim + kLineCodes - 1) / kLineCodes;
}

struct CodedPart {
  struct Run {  // lines of one width that follow one another
    int64_t bits;
    int64_t count;
  };
  const std::byte* lines;  // at least 4 readable bytes follow the last one
  std::array<Run, 6> runs;
  int64_t num_runs;  // of all panels together
  // Line n of all panels has scale[n]; else place i of panel p has scale[32 p + i].
  bool by_line;
  alignas(64) float scale[kMostLines];
  alignas(64) float zero[kMostLines];
};

void pack_line(int64_t bits, const uint8_t* codes, std::byte* line);
void unpack_line(int64_t bits, const std::byte* line, uint8_t* codes);
// codes [count, 32], [32, head_dim]
void pack_key_lines(int64_t bits, const uint8_t* codes, int64_t count, std::byte* lines);
void pack_value_lines(int64_t bits, const uint8_t* codes, int64_t head_dim, std::byte* lines);

// Keys [head_dim, 32], values [32, head_dim] of a part; up to kMostLines channels.
void decode_keys(const CodedPart& part, int64_t head_dim, float* keys);
void decode_values(const CodedPart& part, int64_t head_dim, float* values);

// `count` numbers between their extremes, `stride` apart as their codes are: code =
// round((x - zero) / scale) with zero the least and scale the range / (2^bits - 1), both rounded to
// f16 first. Equal numbers have scale 0.
struct RoundedGroup {
  uint16_t scale;
  uint16_t zero;
};
RoundedGroup round_group(
    int64_t bits, const float* numbers, int64_t count, int64_t stride, uint8_t* codes);

// A scale in a byte: 2^(e - 8) * (1 + m / 16), e its high and m its low half.
inline float scale_of_byte(uint8_t code) {
  return std::bit_cast<float>((static_cast<uint32_t>(code) << 19) + (uint32_t{119} << 23));
}
// scales[i] = units[i] * scale_of_byte(codes[i]), zeros[i] = steps[i] * codes[i] + means[i], with
// codes from -128 to 127; count a multiple of 16; means: null for 0.
void scales_from_bytes(const uint8_t* codes, const float* units, int64_t count, float* scales);
void zeros_from_bytes(
    const int8_t* codes, const float* steps, const float* means, int64_t count, float* zeros);

}  // namespace adze::kernels
