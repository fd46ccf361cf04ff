#include "kernels/kv_codec/grouped_codec.h"

#include <algorithm>
#include <vector>

#include "kernels/half_floats.h"
#include "kernels/kv_codec/line_codec.h"
#include "kernels/paged_attention/paged_attention.h"

namespace adze::kernels {
namespace {

// A page is, for each kv head, its keys' part and then, for each, its values' part. A part is lines
// of one width, then `scales` steps and as many least numbers in f16.
class GroupedCodec : public LineCodec {
 public:
  GroupedCodec(
      int64_t kv_heads, int64_t head_dim, int64_t bits, int64_t key_scales, int64_t value_scales)
      : LineCodec(head_dim),
        kv_heads_(kv_heads),
        bits_(bits),
        key_(head_dim, key_scales),
        value_(kLineCodes * value_panels(head_dim), value_scales) {}

  int64_t page_bytes() const override {
    return kv_heads_ * (key_.bytes(bits_) + value_.bytes(bits_));
  }
  const std::byte* address(const std::byte* page, int64_t kv_head, PagePart which) const override {
    return which == PagePart::kKey
               ? page + kv_head * key_.bytes(bits_)
               : page + kv_heads_ * key_.bytes(bits_) + kv_head * value_.bytes(bits_);
  }
  void encode(const float* key,
              const float* value,
              int64_t /*number*/,
              std::byte* /*side*/,
              std::byte* page) const override {
    const int64_t tile = kPageTokens * head_dim();
    std::vector<float> keys(static_cast<size_t>(tile));
    std::vector<uint8_t> codes(keys.size());
    for (int64_t head = 0; head < kv_heads_; ++head) {
      for (int64_t i = 0; i < tile; ++i) {  // tokens last, as attention wants them
        keys[static_cast<size_t>(i % head_dim() * kPageTokens + i / head_dim())] =
            key[head * tile + i];
      }
      std::byte* part = const_cast<std::byte*>(address(page, head, PagePart::kKey));
      round_keys(keys.data(), codes.data(), scales(part, key_));
      pack_key_lines(bits_, codes.data(), head_dim(), part);
      part = const_cast<std::byte*>(address(page, head, PagePart::kValue));
      round_values(value + head * tile, codes.data(), scales(part, value_));
      pack_value_lines(bits_, codes.data(), head_dim(), part);
    }
  }

 protected:
  struct Scales {
    uint16_t* steps;
    uint16_t* least;
    void put(int64_t place, const RoundedGroup& group) const {
      steps[place] = group.scale;
      least[place] = group.zero;
    }
  };
  // keys [head_dim, 32], values [32, head_dim]; codes likewise.
  virtual void round_keys(const float* keys, uint8_t* codes, const Scales& scales) const = 0;
  virtual void round_values(const float* values, uint8_t* codes, const Scales& scales) const = 0;

  void find_lines(const std::byte* page,
                  const std::byte* /*side*/,
                  int64_t kv_head,
                  PagePart which,
                  CodedPart& part) const override {
    const Layout& layout = which == PagePart::kKey ? key_ : value_;
    part.lines = address(page, kv_head, which);
    part.runs[0] = {bits_, layout.lines};
    part.num_runs = 1;
    part.by_line = true;
    const auto* halves =
        reinterpret_cast<const uint16_t*>(part.lines) + layout.lines * line_bytes(bits_) / 2;
    floats_from_halves(halves, layout.scales, part.scale);
    floats_from_halves(halves + layout.scales, layout.scales, part.zero);
  }
  int64_t bits() const { return bits_; }

 private:
  struct Layout {
    int64_t lines;
    int64_t scales;
    Layout(int64_t l, int64_t s) : lines(l), scales(s) {}
    int64_t bytes(int64_t bits) const { return lines * line_bytes(bits) + 4 * scales; }
  };
  Scales scales(std::byte* part, const Layout& layout) const {
    auto* halves = reinterpret_cast<uint16_t*>(part + layout.lines * line_bytes(bits_));
    return {halves, halves + layout.scales};
  }

  int64_t kv_heads_;
  int64_t bits_;
  Layout key_;
  Layout value_;
};

class KiviCodec : public GroupedCodec {
 public:
  KiviCodec(int64_t kv_heads, int64_t head_dim, int64_t bits)
      : GroupedCodec(kv_heads, head_dim, bits, head_dim, kLineCodes * value_panels(head_dim)) {}

 protected:
  void round_keys(const float* keys, uint8_t* codes, const Scales& scales) const override {
    for (int64_t channel = 0; channel < head_dim(); ++channel) {
      const int64_t first = channel * kPageTokens;
      scales.put(channel, round_group(bits(), keys + first, kPageTokens, 1, codes + first));
    }
  }
  void round_values(const float* values, uint8_t* codes, const Scales& scales) const override {
    for (int64_t channel = 0; channel < head_dim(); channel += kLineCodes) {
      const int64_t width = std::min(kLineCodes, head_dim() - channel);
      for (int64_t token = 0; token < kPageTokens; ++token) {
        const int64_t first = token * head_dim() + channel;
        scales.put(channel + token, round_group(bits(), values + first, width, 1, codes + first));
      }
    }
  }
};

class Int4Codec : public GroupedCodec {
 public:
  Int4Codec(int64_t kv_heads, int64_t head_dim)
      : GroupedCodec(kv_heads, head_dim, 4, kPageTokens, kPageTokens) {}

 protected:
  void round_keys(const float* keys, uint8_t* codes, const Scales& scales) const override {
    for (int64_t token = 0; token < kPageTokens; ++token) {
      scales.put(token, round_group(bits(), keys + token, head_dim(), kPageTokens, codes + token));
    }
  }
  void round_values(const float* values, uint8_t* codes, const Scales& scales) const override {
    for (int64_t token = 0; token < kPageTokens; ++token) {
      const int64_t first = token * head_dim();
      scales.put(token, round_group(bits(), values + first, head_dim(), 1, codes + first));
    }
  }
  void find_lines(const std::byte* page,
                  const std::byte* side,
                  int64_t kv_head,
                  PagePart which,
                  CodedPart& part) const override {
    GroupedCodec::find_lines(page, side, kv_head, which, part);
    part.by_line = which == PagePart::kValue;  // a token is a line of values, a place of keys
    for (int64_t line = kPageTokens; part.by_line && line < part.runs[0].count; ++line) {
      part.scale[line] = part.scale[line - kPageTokens];
      part.zero[line] = part.zero[line - kPageTokens];
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
