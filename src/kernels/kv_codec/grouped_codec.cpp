#include "kernels/kv_codec/grouped_codec.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/float16.h"
#include "kernels/kv_codec/code_lines.h"
#include "kernels/paged_attention/paged_attention.h"

namespace adze::kernels {
namespace {

// A page is, for each kv head, its keys' part and then, for each, its values' part.
class HeadPartsCodec : public PageCodec {
 public:
  HeadPartsCodec(int64_t kv_heads, int64_t head_dim, int64_t part_bytes)
      : kv_heads_(kv_heads), head_dim_(head_dim), part_bytes_(part_bytes) {}

  int64_t page_bytes() const override { return 2 * kv_heads_ * part_bytes_; }
  const std::byte* address(const std::byte* page, int64_t kv_head, PagePart part) const override {
    return page + (kv_head + (part == PagePart::kKey ? 0 : kv_heads_)) * part_bytes_;
  }
  void encode(const float* key,
              const float* value,
              int64_t /*number*/,
              std::byte* /*side*/,
              std::byte* page) const override {
    const int64_t tile = kPageTokens * head_dim_;
    std::vector<float> keys(static_cast<size_t>(tile));
    for (int64_t head = 0; head < kv_heads_; ++head) {
      for (int64_t i = 0; i < tile; ++i) {  // tokens last, as attention wants them
        keys[static_cast<size_t>(i % head_dim_ * kPageTokens + i / head_dim_)] =
            key[head * tile + i];
      }
      encode_keys(keys.data(), page + head * part_bytes_);
      encode_values(value + head * tile, page + (kv_heads_ + head) * part_bytes_);
    }
  }

 protected:
  virtual void encode_keys(const float* keys, std::byte* part) const = 0;      // [head_dim, 32]
  virtual void encode_values(const float* values, std::byte* part) const = 0;  // [32, head_dim]
  int64_t head_dim() const { return head_dim_; }

 private:
  int64_t kv_heads_;
  int64_t head_dim_;
  int64_t part_bytes_;
};

// A part: head_dim lines, then a step and a least number each.
class KiviCodec : public HeadPartsCodec {
 public:
  KiviCodec(int64_t kv_heads, int64_t head_dim, int64_t bits)
      : HeadPartsCodec(kv_heads, head_dim, head_dim * (line_bytes(bits) + 4)), bits_(bits) {}

  void decode_keys(const std::byte* page,
                   int64_t /*number*/,
                   const std::byte* /*side*/,
                   int64_t kv_head,
                   float* keys) const override {
    decode(address(page, kv_head, PagePart::kKey), keys);
  }
  void decode_values(const std::byte* page,
                     int64_t /*number*/,
                     const std::byte* /*side*/,
                     int64_t kv_head,
                     float* values) const override {
    decode(address(page, kv_head, PagePart::kValue), values);
  }

 protected:
  void encode_keys(const float* keys, std::byte* part) const override { encode_lines(keys, part); }
  void encode_values(const float* values, std::byte* part) const override {
    encode_lines(values, part);
  }

 private:
  void decode(const std::byte* part, float* numbers) const {
    const auto* scales = reinterpret_cast<const uint16_t*>(part + head_dim() * line_bytes(bits_));
    decode_lines(bits_, part, scales, head_dim(), numbers);
  }
  void encode_lines(const float* numbers, std::byte* part) const {
    auto* scales = reinterpret_cast<uint16_t*>(part + head_dim() * line_bytes(bits_));
    for (int64_t line = 0; line < head_dim(); ++line) {
      encode_line(
          bits_, numbers + line * kLineCodes, scales + 2 * line, part + line * line_bytes(bits_));
    }
  }

  int64_t bits_;
};

// A part: head_dim lines, then the tokens' steps [32] and least numbers [32] in f16.
class Int4Codec : public HeadPartsCodec {
 public:
  Int4Codec(int64_t kv_heads, int64_t head_dim)
      : HeadPartsCodec(kv_heads, head_dim, head_dim * line_bytes(kBits) + 2 * kPageTokens * 2) {}

  void decode_keys(const std::byte* page,
                   int64_t /*number*/,
                   const std::byte* /*side*/,
                   int64_t kv_head,
                   float* keys) const override {
    const std::byte* part = address(page, kv_head, PagePart::kKey);
    float scale[kPageTokens];
    float zero[kPageTokens];
    for (int64_t token = 0; token < kPageTokens; ++token) {
      read_scale(part, token, scale[token], zero[token]);
    }
    decode_lines_by_place(kBits, part, scale, zero, 1, head_dim(), keys);
  }
  void decode_values(const std::byte* page,
                     int64_t /*number*/,
                     const std::byte* /*side*/,
                     int64_t kv_head,
                     float* values) const override {
    const std::byte* part = address(page, kv_head, PagePart::kValue);
    // A pair for each line where a line is of one token; else number by number.
    if (head_dim() % kLineCodes == 0) {
      uint16_t scales[2 * kLinesAtOnce];
      const int64_t lines_a_token = head_dim() / kLineCodes;
      for (int64_t first = 0; first < head_dim(); first += kLinesAtOnce) {
        const int64_t count = std::min(kLinesAtOnce, head_dim() - first);
        for (int64_t line = 0; line < count; ++line) {
          const int64_t token = (first + line) / lines_a_token;
          scales[2 * line] = halves(part)[token];
          scales[2 * line + 1] = halves(part)[kPageTokens + token];
        }
        decode_lines(
            kBits, part + first * line_bytes(kBits), scales, count, values + first * kLineCodes);
      }
      return;
    }
    uint8_t codes[kLineCodes];
    for (int64_t line = 0; line < head_dim(); ++line) {
      unpack_line(kBits, part + line * line_bytes(kBits), codes);
      for (int64_t n = 0; n < kLineCodes; ++n) {
        float scale;
        float zero;
        read_scale(part, (line * kLineCodes + n) / head_dim(), scale, zero);
        values[line * kLineCodes + n] = static_cast<float>(codes[n]) * scale + zero;
      }
    }
  }

 protected:
  void encode_keys(const float* keys, std::byte* part) const override {
    encode_part(
        part,
        [&](int64_t token, int64_t dim) { return keys[dim * kPageTokens + token]; },
        [&](int64_t token, int64_t dim) { return dim * kPageTokens + token; });
  }
  void encode_values(const float* values, std::byte* part) const override {
    encode_part(
        part,
        [&](int64_t token, int64_t dim) { return values[token * head_dim() + dim]; },
        [&](int64_t token, int64_t dim) { return token * head_dim() + dim; });
  }

 private:
  static constexpr int64_t kBits = 4;
  static constexpr int64_t kLinesAtOnce = 32;

  const uint16_t* halves(const std::byte* part) const {
    return reinterpret_cast<const uint16_t*>(part + head_dim() * line_bytes(kBits));
  }
  void read_scale(const std::byte* part, int64_t token, float& scale, float& zero) const {
    scale = core::float_from_half(halves(part)[token]);
    zero = core::float_from_half(halves(part)[kPageTokens + token]);
  }

  // number(token, dim), and its place among the part's codes.
  template <class Number, class Place>
  void encode_part(std::byte* part, Number&& number, Place&& place) const {
    std::vector<uint8_t> codes(static_cast<size_t>(kPageTokens * head_dim()));
    auto* scales = reinterpret_cast<uint16_t*>(part + head_dim() * line_bytes(kBits));
    constexpr float kSteps = 15;
    for (int64_t token = 0; token < kPageTokens; ++token) {
      float least = number(token, 0);
      float most = least;
      for (int64_t dim = 1; dim < head_dim(); ++dim) {
        least = std::min(least, number(token, dim));
        most = std::max(most, number(token, dim));
      }
      scales[token] = core::half_from_float((most - least) / kSteps);
      scales[kPageTokens + token] = core::half_from_float(least);
      float scale;
      float zero;
      read_scale(part, token, scale, zero);
      for (int64_t dim = 0; dim < head_dim(); ++dim) {
        const float code = scale > 0 ? std::nearbyint((number(token, dim) - zero) / scale) : 0.0F;
        codes[static_cast<size_t>(place(token, dim))] =
            code > 0 ? static_cast<uint8_t>(std::min(code, kSteps)) : uint8_t{0};
      }
    }
    for (int64_t line = 0; line < head_dim(); ++line) {
      pack_line(kBits, codes.data() + line * kLineCodes, part + line * line_bytes(kBits));
    }
  }
};

}  // namespace

std::shared_ptr<const PageCodec> make_kivi_codec(int64_t kv_heads, int64_t head_dim, int64_t bits) {
  return std::make_shared<KiviCodec>(kv_heads, head_dim, bits);
}

std::shared_ptr<const PageCodec> make_int4_codec(int64_t kv_heads, int64_t head_dim) {
  return std::make_shared<Int4Codec>(kv_heads, head_dim);
}

}  // namespace adze::kernels
