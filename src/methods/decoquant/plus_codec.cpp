// Form `plus`. One kv head of a page:
//   keys    a line a channel, in the order of their width: the basis of keys is that order
//   values  lines of one width, in the basis of the Hadamard matrix
// Then a channel's scale and zero, a byte each: scale = spread * scale_of_byte(code), zero = unit *
// code (+ the mean of values). Spreads, units and means are the side data's.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "core/check.h"
#include "core/float16.h"
#include "kernels/kv_codec/hadamard.h"
#include "kernels/kv_codec/line_codec.h"
#include "kernels/paged_attention/paged_attention.h"
#include "methods/decoquant/decoquant.h"

namespace adze::methods::decoquant {
namespace {

using kernels::kLineCodes;
using kernels::kPageTokens;
using kernels::line_bytes;
using kernels::PagePart;

constexpr int64_t kFirstPages = 8;  // 256 tokens
constexpr int64_t kSinks = 4;
constexpr int64_t kMostHeadDim = 256;  // a channel's number fits a byte
constexpr float kValueUnits = 16;      // steps of a zero in a spread
constexpr float kLeastSpread = 1.0F / (1 << 14);

struct Group {  // of codes: channels of one width follow one another
  uint8_t bits;
  uint8_t count_minus_one;
};
constexpr int64_t kMostGroups = 6;

// What a slot's pages of one kv head share, in place: [head_dim] each where nothing else is said.
struct HeadSide {
  float* key_spread;  // in the order of the lines
  float* key_unit;
  float* value_spread;
  float* value_unit;
  float* value_mean;     // in the basis of the values
  uint16_t* sink_key;    // [kSinks, head_dim] f16
  uint16_t* sink_value;  // likewise, in the basis of the values
  uint8_t* key_channel;  // of each line
  Group* group;          // [kMostGroups]; unused ones hold 0 bits

  static int64_t bytes(int64_t head_dim) {
    return head_dim * static_cast<int64_t>(5 * sizeof(float) + 2 * kSinks * sizeof(uint16_t) + 1) +
           kMostGroups * static_cast<int64_t>(sizeof(Group));
  }
  // NOTE: readers give constant bytes and write nothing.
  HeadSide(const std::byte* side, int64_t head_dim, int64_t head) {
    auto* at = const_cast<std::byte*>(side) + head * bytes(head_dim);
    const auto take = [&at](auto*& pointer, int64_t count) {
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(at);
      at += count * static_cast<int64_t>(sizeof(*pointer));
    };
    take(key_spread, head_dim);
    take(key_unit, head_dim);
    take(value_spread, head_dim);
    take(value_unit, head_dim);
    take(value_mean, head_dim);
    take(sink_key, kSinks * head_dim);
    take(sink_value, kSinks * head_dim);
    take(key_channel, head_dim);
    take(group, kMostGroups);
  }
};

// The scale nearest to a positive number, or the least one that is not below it.
uint8_t byte_of_scale(double wanted, bool at_least) {
  int exponent = 0;
  const double half = std::frexp(std::max(wanted, 1e-30), &exponent);  // 0.5 .. 1
  const double sixteenths = (2 * half - 1) * 16;
  const double code =
      (exponent + 7) * 16 + (at_least ? std::ceil(sixteenths) : std::nearbyint(sixteenths));
  return code > 0 ? static_cast<uint8_t>(std::min(code, 255.0)) : uint8_t{0};  // NaN: 0
}

// Square root of the mean variance within groups of 32 tokens, tokens 32 .. : [tokens, head_dim].
std::vector<float> spreads(std::span<const float> numbers, int64_t head_dim) {
  const auto pages = static_cast<int64_t>(numbers.size()) / (head_dim * kPageTokens);
  std::vector<float> result;
  for (int64_t dim = 0; dim < head_dim; ++dim) {
    double variance = 0;
    for (int64_t page = 1; page < pages; ++page) {
      double sum = 0;
      double squares = 0;
      for (int64_t token = page * kPageTokens; token < (page + 1) * kPageTokens; ++token) {
        const double number =
            static_cast<double>(numbers[static_cast<size_t>(token * head_dim + dim)]);
        sum += number;
        squares += number * number;
      }
      variance += std::max(squares / kPageTokens - (sum / kPageTokens) * (sum / kPageTokens), 0.0);
    }
    const auto spread = static_cast<float>(std::sqrt(variance / static_cast<double>(pages - 1)));
    result.push_back(std::max(spread, kLeastSpread));  // NaN: the least
  }
  return result;
}

struct Line {
  uint8_t scale;
  uint8_t zero;  // int8
  double error;
};

// Codes of 32 numbers between bounds [10 §2.8 step 4]; steps of scale and zero are coarse, so that
// both fit a byte.
Line encode_between(const float* numbers,
                    double low,
                    double high,
                    int64_t bits,
                    float spread,
                    float unit,
                    uint8_t* codes) {
  const double levels = static_cast<double>((1 << bits) - 1);
  // At 8 bits a step is as small as what the coarse bounds would cut off: they contain the range.
  const bool contains = bits == 8;
  const auto rounded = [](double value, double least, double most) {
    return value > least ? std::min(std::nearbyint(value), most) : least;  // NaN: the least
  };
  const double zero_steps = low / static_cast<double>(unit);
  const double zero = rounded(contains ? std::floor(zero_steps) : zero_steps, -128, 127);
  const double least = zero * static_cast<double>(unit);
  const double wanted = std::max((high - least) / levels, 1e-8);
  const uint8_t scale = byte_of_scale(wanted / static_cast<double>(spread), contains);
  const double step = static_cast<double>(spread * kernels::scale_of_byte(scale));
  Line line{scale, static_cast<uint8_t>(static_cast<int8_t>(zero)), 0};
  for (int64_t n = 0; n < kLineCodes; ++n) {
    const double number = static_cast<double>(numbers[n]);
    const double code = rounded((number - least) / step, 0, levels);
    codes[n] = static_cast<uint8_t>(code);
    line.error += (least + step * code - number) * (least + step * code - number);
  }
  return line;
}

// `searches`: bounds inside the extremes may err less where there are few levels.
Line encode_numbers(
    const float* numbers, int64_t bits, float spread, float unit, bool searches, uint8_t* codes) {
  const auto [least, most] = std::minmax_element(numbers, numbers + kLineCodes);
  const double low = static_cast<double>(*least);
  const double high = static_cast<double>(*most);
  Line best = encode_between(numbers, low, high, bits, spread, unit, codes);
  for (int tenth = 1; searches && tenth <= 5; ++tenth) {
    const double inset = 0.05 * tenth * (high - low);
    uint8_t tried[kLineCodes];
    const Line line = encode_between(numbers, low + inset, high - inset, bits, spread, unit, tried);
    if (line.error < best.error) {
      best = line;
      std::copy_n(tried, kLineCodes, codes);
    }
  }
  return best;
}

class PlusCodec : public kernels::LineCodec {
 public:
  PlusCodec(int64_t kv_heads, int64_t head_dim, int64_t bits)
      : LineCodec(head_dim),
        kv_heads_(kv_heads),
        head_dim_(head_dim),
        bits_(bits),
        // At 2 bits a quarter of the channels of keys get 4: pure 2-bit keys break the model.
        key_bits_(bits <= 2 ? head_dim * bits + head_dim / 2 : head_dim * bits),
        key_bytes_(4 * key_bits_ + 2 * head_dim),
        value_lines_(kLineCodes * kernels::value_panels(head_dim)),
        value_bytes_(value_lines_ * line_bytes(bits) + 2 * head_dim) {
    core::check(head_dim <= kMostHeadDim, "head_dim up to ", kMostHeadDim, ", got ", head_dim);
  }

  int64_t page_bytes() const override { return kv_heads_ * (key_bytes_ + value_bytes_); }
  int64_t side_bytes() const override { return kv_heads_ * HeadSide::bytes(head_dim_); }
  int64_t first_pages() const override { return kFirstPages; }
  bool accepts_side(const std::byte* side) const override {
    bool sound = true;
    for (int64_t head = 0; head < kv_heads_; ++head) {
      const HeadSide shared(side, head_dim_, head);
      std::vector<bool> seen(static_cast<size_t>(head_dim_));
      for (int64_t line = 0; line < head_dim_; ++line) {
        if (shared.key_channel[line] < head_dim_) {
          seen[shared.key_channel[line]] = true;
        }
      }
      sound = sound && std::find(seen.begin(), seen.end(), false) == seen.end();
      int64_t lines = 0;
      int64_t bits = 0;
      for (int64_t group = 0; group < kMostGroups && lines < head_dim_; ++group) {
        const int64_t width = shared.group[group].bits;
        const int64_t count = shared.group[group].count_minus_one + 1;
        sound = sound && ((width >= 1 && width <= 6) || width == 8);
        lines += count;
        bits += count * width;
      }
      sound = sound && lines == head_dim_ && bits <= key_bits_;
    }
    return sound;
  }
  bool writes_side(int64_t number) const override { return number == 0; }  // the sinks
  bool changes_keys() const override { return true; }
  bool changes_values() const override { return true; }
  const std::byte* address(const std::byte* page, int64_t kv_head, PagePart part) const override {
    return part == PagePart::kKey ? page + kv_head * key_bytes_
                                  : page + kv_heads_ * key_bytes_ + kv_head * value_bytes_;
  }

  // [10 §2.8 step 3] DEVIATION: no eigenvectors (README.md).
  void make_side(const float* key, const float* value, std::byte* side) const override {
    std::memset(side, 0, static_cast<size_t>(side_bytes()));
    const int64_t count = kFirstPages * kPageTokens;
    for (int64_t head = 0; head < kv_heads_; ++head) {
      const HeadSide shared(side, head_dim_, head);
      const std::span keys(key + head * count * head_dim_, static_cast<size_t>(count * head_dim_));
      make_key_side(keys, shared);
      std::vector<float> values(value + head * count * head_dim_,
                                value + (head + 1) * count * head_dim_);
      kernels::hadamard(count, head_dim_, values.data());
      const std::vector<float> spread = spreads(values, head_dim_);
      // [10 §2.8 step 2] DEVIATION: a mean of values alone (README.md).
      for (int64_t dim = 0; dim < head_dim_; ++dim) {
        double sum = 0;
        for (int64_t token = kSinks; token < count; ++token) {
          sum += static_cast<double>(values[static_cast<size_t>(token * head_dim_ + dim)]);
        }
        shared.value_spread[dim] = spread[static_cast<size_t>(dim)];
        shared.value_unit[dim] = shared.value_spread[dim] / kValueUnits;
        shared.value_mean[dim] = static_cast<float>(sum / static_cast<double>(count - kSinks));
      }
    }
  }

  void encode(const float* key,
              const float* value,
              int64_t number,
              std::byte* side,
              std::byte* page) const override {
    const int64_t tile = kPageTokens * head_dim_;
    for (int64_t head = 0; head < kv_heads_; ++head) {
      const HeadSide shared(side, head_dim_, head);
      std::vector<float> values(value + head * tile, value + (head + 1) * tile);
      kernels::hadamard(kPageTokens, head_dim_, values.data());
      std::vector<float> keys(key + head * tile, key + (head + 1) * tile);
      if (number == 0) {  // [10 §2.8 step 1]; what they leave does not widen anyone's range
        for (int64_t i = 0; i < kSinks * head_dim_; ++i) {
          shared.sink_key[i] = core::half_from_float(keys[static_cast<size_t>(i)]);
          shared.sink_value[i] = core::half_from_float(values[static_cast<size_t>(i)]);
          const auto next = static_cast<size_t>(kSinks * head_dim_ + i % head_dim_);
          keys[static_cast<size_t>(i)] = keys[next];
          values[static_cast<size_t>(i)] = values[next];
        }
      }
      encode_keys(keys, shared, page + head * key_bytes_);
      encode_values(values, shared, page + kv_heads_ * key_bytes_ + head * value_bytes_);
    }
  }

  // The sinks are not among the codes of page 0.
  bool coded_part(const std::byte* page,
                  int64_t number,
                  const std::byte* side,
                  int64_t kv_head,
                  PagePart which,
                  kernels::CodedPart& part) const override {
    return number != 0 && LineCodec::coded_part(page, number, side, kv_head, which, part);
  }
  void decode_keys(const std::byte* page,
                   int64_t number,
                   const std::byte* side,
                   int64_t kv_head,
                   float* keys) const override {
    LineCodec::decode_keys(page, number, side, kv_head, keys);
    const HeadSide shared(side, head_dim_, kv_head);
    for (int64_t line = 0; number == 0 && line < head_dim_; ++line) {
      for (int64_t token = 0; token < kSinks; ++token) {
        keys[line * kPageTokens + token] =
            core::float_from_half(shared.sink_key[token * head_dim_ + shared.key_channel[line]]);
      }
    }
  }
  void decode_values(const std::byte* page,
                     int64_t number,
                     const std::byte* side,
                     int64_t kv_head,
                     float* values) const override {
    LineCodec::decode_values(page, number, side, kv_head, values);
    const HeadSide shared(side, head_dim_, kv_head);
    for (int64_t i = 0; number == 0 && i < kSinks * head_dim_; ++i) {
      values[i] = core::float_from_half(shared.sink_value[i]);
    }
  }

  void query_to_basis(const std::byte* side,
                      int64_t kv_head,
                      int64_t rows,
                      const float* query,
                      float* result) const override {
    const HeadSide shared(side, head_dim_, kv_head);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t line = 0; line < head_dim_; ++line) {
        result[row * head_dim_ + line] = query[row * head_dim_ + shared.key_channel[line]];
      }
    }
  }
  void keys_from_basis(const std::byte* side,
                       int64_t kv_head,
                       const float* coded,
                       float* keys) const override {
    const HeadSide shared(side, head_dim_, kv_head);
    for (int64_t line = 0; line < head_dim_; ++line) {
      std::copy_n(
          coded + line * kPageTokens, kPageTokens, keys + shared.key_channel[line] * kPageTokens);
    }
  }
  // [10 §2.8 step 6]: attention reads codes and brings its sums back, once a block [10 §2.5].
  void values_from_basis(const std::byte* /*side*/,
                         int64_t /*kv_head*/,
                         int64_t rows,
                         const float* sums,
                         float* result) const override {
    std::copy_n(sums, rows * head_dim_, result);
    kernels::hadamard(rows, head_dim_, result);
  }

 protected:
  void find_lines(const std::byte* page,
                  const std::byte* side,
                  int64_t kv_head,
                  PagePart which,
                  kernels::CodedPart& part) const override {
    const HeadSide shared(side, head_dim_, kv_head);
    part.lines = address(page, kv_head, which);
    if (which == PagePart::kKey) {
      part.by_line = true;
      part.num_runs = 0;
      for (int64_t group = 0; group < kMostGroups && shared.group[group].bits > 0; ++group) {
        part.runs[static_cast<size_t>(part.num_runs++)] = {shared.group[group].bits,
                                                           shared.group[group].count_minus_one + 1};
      }
      read_scales(part.lines + 4 * key_bits_, shared.key_spread, shared.key_unit, nullptr, part);
    } else {
      part.by_line = false;
      part.num_runs = 1;
      part.runs[0] = {bits_, value_lines_};
      read_scales(part.lines + value_lines_ * line_bytes(bits_),
                  shared.value_spread,
                  shared.value_unit,
                  shared.value_mean,
                  part);
    }
  }

 private:
  // `codes` are the channels' scales, then their zeros.
  void read_scales(const std::byte* codes,
                   const float* spread,
                   const float* unit,
                   const float* mean,
                   kernels::CodedPart& part) const {
    const auto* scales = reinterpret_cast<const uint8_t*>(codes);
    const auto* zeros = reinterpret_cast<const int8_t*>(codes) + head_dim_;
    kernels::scales_from_bytes(scales, spread, head_dim_, part.scale);
    kernels::zeros_from_bytes(zeros, unit, mean, head_dim_, part.zero);
  }

  // Keys keep the model's channels. A channel's error weighs with its spread within a page and with
  // the energy of its rotary pair, which queries share.
  void make_key_side(std::span<const float> keys, const HeadSide& shared) const {
    const int64_t count = kFirstPages * kPageTokens;
    const std::vector<float> spread = spreads(keys, head_dim_);
    std::vector<double> energy(static_cast<size_t>(head_dim_));
    for (int64_t token = kSinks; token < count; ++token) {
      for (int64_t dim = 0; dim < head_dim_; ++dim) {
        const double number =
            static_cast<double>(keys[static_cast<size_t>(token * head_dim_ + dim)]);
        energy[static_cast<size_t>(dim)] += number * number / static_cast<double>(count - kSinks);
      }
    }
    std::vector<double> pair_energy;
    std::vector<double> importance;
    for (int64_t dim = 0; dim < head_dim_; ++dim) {
      const int64_t other = (dim + head_dim_ / 2) % head_dim_;
      pair_energy.push_back(energy[static_cast<size_t>(dim)] + energy[static_cast<size_t>(other)]);
      const double own = static_cast<double>(spread[static_cast<size_t>(dim)]);
      importance.push_back(own * own * pair_energy.back());
    }
    const std::vector<int64_t> widths =
        bits_ == 8 ? std::vector<int64_t>(static_cast<size_t>(head_dim_), 8)
                   : allocate_bits(importance, bits_ > 2 ? bits_ - 1 : bits_, key_bits_);
    std::vector<int64_t> order(static_cast<size_t>(head_dim_));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return widths[static_cast<size_t>(a)] < widths[static_cast<size_t>(b)];
    });
    int64_t groups = 0;
    for (int64_t line = 0; line < head_dim_; ++line) {
      const auto dim = static_cast<size_t>(order[static_cast<size_t>(line)]);
      const auto width = static_cast<uint8_t>(widths[dim]);
      shared.key_channel[line] = static_cast<uint8_t>(dim);
      shared.key_spread[line] = spread[dim];
      shared.key_unit[line] =
          std::max(static_cast<float>(std::sqrt(pair_energy[dim])) / 40, kLeastSpread / 16);
      if (groups > 0 && shared.group[groups - 1].bits == width) {
        ++shared.group[groups - 1].count_minus_one;
      } else {
        shared.group[groups++] = {width, 0};
      }
    }
  }

  // keys [32, head_dim]
  void encode_keys(const std::vector<float>& keys, const HeadSide& shared, std::byte* part) const {
    std::byte* codes_of_lines = part + 4 * key_bits_;
    int64_t line = 0;
    for (int64_t group = 0; line < head_dim_; ++group) {
      const int64_t bits = shared.group[group].bits;
      for (int64_t i = 0; i <= shared.group[group].count_minus_one; ++i, ++line) {
        float numbers[kLineCodes];
        for (int64_t token = 0; token < kPageTokens; ++token) {
          numbers[token] = keys[static_cast<size_t>(token * head_dim_ + shared.key_channel[line])];
        }
        uint8_t codes[kLineCodes];
        const Line result = encode_numbers(
            numbers, bits, shared.key_spread[line], shared.key_unit[line], false, codes);
        kernels::pack_line(bits, codes, part);
        part += line_bytes(bits);
        codes_of_lines[line] = static_cast<std::byte>(result.scale);
        codes_of_lines[head_dim_ + line] = static_cast<std::byte>(result.zero);
      }
    }
  }

  // values [32, head_dim] in their basis
  void encode_values(const std::vector<float>& values,
                     const HeadSide& shared,
                     std::byte* part) const {
    std::byte* codes_of_channels = part + value_lines_ * line_bytes(bits_);
    std::vector<uint8_t> all(values.size());
    for (int64_t dim = 0; dim < head_dim_; ++dim) {
      float numbers[kLineCodes];
      for (int64_t token = 0; token < kPageTokens; ++token) {
        numbers[token] =
            values[static_cast<size_t>(token * head_dim_ + dim)] - shared.value_mean[dim];
      }
      uint8_t codes[kLineCodes];
      const Line result = encode_numbers(
          numbers, bits_, shared.value_spread[dim], shared.value_unit[dim], bits_ < 4, codes);
      for (int64_t token = 0; token < kPageTokens; ++token) {
        all[static_cast<size_t>(token * head_dim_ + dim)] = codes[token];
      }
      codes_of_channels[dim] = static_cast<std::byte>(result.scale);
      codes_of_channels[head_dim_ + dim] = static_cast<std::byte>(result.zero);
    }
    kernels::pack_value_lines(bits_, all.data(), head_dim_, part);
  }

  int64_t kv_heads_;
  int64_t head_dim_;
  int64_t bits_;
  int64_t key_bits_;   // of all channels together
  int64_t key_bytes_;  // of a head's part of a page
  int64_t value_lines_;
  int64_t value_bytes_;
};

}  // namespace

std::vector<int64_t> allocate_bits(std::span<const double> importance,
                                   int64_t fewest,
                                   int64_t total) {
  // Mean squared error of so many bits, relative to the variance [10 §2.8 step 5].
  const auto error = [](int64_t bits) {
    constexpr double kErrors[] = {1, .40, .13, .038, .0115, .0032, .0009};
    return kErrors[bits];
  };
  constexpr int64_t kMostBits = 6;
  std::vector<int64_t> bits(importance.size(), fewest);
  int64_t left = total - fewest * static_cast<int64_t>(importance.size());
  core::check(left >= 0, "bits for every channel");
  while (left > 0) {
    size_t best = bits.size();
    double most = -1;
    for (size_t i = 0; i < bits.size(); ++i) {
      if (bits[i] < kMostBits) {
        const double gain = importance[i] * (error(bits[i]) - error(bits[i] + 1));
        if (gain > most) {
          most = gain;
          best = i;
        }
      }
    }
    if (best == bits.size()) {  // everyone has the most, or nothing can be compared
      best = static_cast<size_t>(std::min_element(bits.begin(), bits.end()) - bits.begin());
    }
    ++bits[best];
    --left;
  }
  return bits;
}

std::shared_ptr<const kernels::PageCodec> make_plus_codec(int64_t kv_heads,
                                                          int64_t head_dim,
                                                          int64_t bits) {
  return std::make_shared<PlusCodec>(kv_heads, head_dim, bits);
}

}  // namespace adze::methods::decoquant
