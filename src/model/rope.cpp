#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

#include "core/check.h"
#include "core/error.h"

namespace adze::model {
namespace {

// Dimension (a real number) whose wave makes `turns` turns over `context` positions.
double dimension_of_turns(double turns, double dims, double base, double context) {
  return dims * std::log(context / (turns * 2 * std::numbers::pi)) / (2 * std::log(base));
}

double yarn_magnitude(double factor, double scale) {
  return factor <= 1 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0;
}

double attention_magnitude(const RopeScaling& scaling) {
  if (scaling.attention_factor) {
    return *scaling.attention_factor;
  }
  if (scaling.kind == RopeScalingKind::kYarn) {
    return scaling.mscale > 0 && scaling.mscale_all_dim > 0
               ? yarn_magnitude(scaling.factor, scaling.mscale) /
                     yarn_magnitude(scaling.factor, scaling.mscale_all_dim)
               : yarn_magnitude(scaling.factor, 1);
  }
  if (scaling.kind == RopeScalingKind::kLongRope && scaling.factor > 1) {
    return std::sqrt(1 + std::log(scaling.factor) /
                             std::log(static_cast<double>(scaling.original_context)));
  }
  return 1;
}

void divide(std::vector<double>& radians, const std::vector<double>& divisors) {
  for (size_t i = 0; i < radians.size(); ++i) {
    radians[i] /= divisors[i];
  }
}

void apply_yarn(const Rope& rope, std::vector<double>& radians) {
  const RopeScaling& scaling = rope.scaling;
  const auto dims = static_cast<double>(rope.dims);
  const auto context = static_cast<double>(scaling.original_context);
  double low = dimension_of_turns(scaling.beta_fast, dims, rope.base, context);
  double high = dimension_of_turns(scaling.beta_slow, dims, rope.base, context);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1);
  if (low == high) {
    high += 0.001;
  }
  for (size_t i = 0; i < radians.size(); ++i) {
    const double divided = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    radians[i] = radians[i] / scaling.factor * divided + radians[i] * (1 - divided);
  }
}

void apply_llama3(const RopeScaling& scaling, std::vector<double>& radians) {
  const auto context = static_cast<double>(scaling.original_context);
  for (double& value : radians) {
    const double turns = context * value / (2 * std::numbers::pi);
    if (turns > scaling.high_frequency_factor) {
      continue;
    }
    if (turns < scaling.low_frequency_factor) {
      value /= scaling.factor;
      continue;
    }
    const double kept = (turns - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
    value = (1 - kept) * value / scaling.factor + kept * value;
  }
}

double dynamic_base(const Rope& rope, int64_t context) {
  const auto trained = static_cast<double>(rope.scaling.original_context);
  const double reached = std::max(static_cast<double>(context), trained);
  const auto dims = static_cast<double>(rope.dims);
  const double factor = rope.scaling.factor;
  return rope.base * std::pow(factor * reached / trained - (factor - 1), dims / (dims - 2));
}

void require(bool holds, std::string_view field, double value, std::string_view range) {
  if (!holds) {
    throw core::error("model", "rope {}: expected {}, got {}", field, range, value);
  }
}

void require_divisors(const std::vector<double>& divisors, std::string_view field, int64_t dims) {
  require(std::cmp_equal(divisors.size(), dims / 2),
          field,
          static_cast<double>(divisors.size()),
          fmt::format("{} entries, one a pair of dimensions", dims / 2));
  for (const double divisor : divisors) {
    require(divisor > 1e-6 && divisor < 1e9, field, divisor, "entries from 1e-6 to 1e9");
  }
}

}  // namespace

void Rope::validate(int64_t head_dim) const {
  using Kind = RopeScalingKind;
  require(base >= 1 && base <= 1e12, "base", base, "1 to 1e12");
  require(dims >= 2 && dims % 2 == 0 && dims <= head_dim,
          "dims",
          static_cast<double>(dims),
          fmt::format("an even number from 2 to head_dim, {}", head_dim));
  const RopeScaling& s = scaling;
  require(s.factor > 0 && s.factor <= 1e6, "scaling factor", s.factor, "above 0, up to 1e6");
  if (s.attention_factor) {
    require(*s.attention_factor > 0 && *s.attention_factor <= 1e3,
            "attention factor",
            *s.attention_factor,
            "above 0, up to 1000");
  }
  const bool needs_context = s.kind == Kind::kYarn || s.kind == Kind::kLlama3 ||
                             s.kind == Kind::kLongRope || s.kind == Kind::kDynamic;
  require(!needs_context || (s.original_context >= 2 && s.original_context <= int64_t{1} << 30),
          "original context",
          static_cast<double>(s.original_context),
          "2 to 2^30");
  if (s.kind == Kind::kYarn) {
    require(base > 1, "base", base, "above 1 for yarn");
    require(s.beta_slow > 0 && s.beta_slow <= s.beta_fast && s.beta_fast <= 1e6,
            "beta_slow",
            s.beta_slow,
            "above 0, up to beta_fast");
    require(s.mscale >= 0 && s.mscale <= 1e3, "mscale", s.mscale, "0 to 1000");
    require(s.mscale_all_dim >= 0 && s.mscale_all_dim <= 1e3,
            "mscale_all_dim",
            s.mscale_all_dim,
            "0 to 1000");
  }
  if (s.kind == Kind::kLlama3) {
    require(s.low_frequency_factor > 0 && s.low_frequency_factor < s.high_frequency_factor &&
                s.high_frequency_factor <= 1e6,
            "low_freq_factor",
            s.low_frequency_factor,
            "above 0 and below high_freq_factor");
  }
  require(s.kind != Kind::kDynamic || dims > 2, "dims", static_cast<double>(dims), "4 or more");
  if (s.kind == Kind::kLongRope || s.kind == Kind::kDivisors) {
    require_divisors(s.short_divisors, "short factors", dims);
  }
  if (s.kind == Kind::kLongRope) {
    require_divisors(s.long_divisors, "long factors", dims);
  }
}

RopeFrequencies rope_frequencies(const Rope& rope, int64_t head_dim, int64_t context) {
  using Kind = RopeScalingKind;
  const RopeScaling& scaling = rope.scaling;
  const double base = scaling.kind == Kind::kDynamic ? dynamic_base(rope, context) : rope.base;
  std::vector<double> radians;
  for (int64_t i = 0; i < rope.dims / 2; ++i) {
    radians.push_back(
        std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rope.dims)));
  }
  switch (scaling.kind) {
    case Kind::kNone:
    case Kind::kDynamic:
      break;
    case Kind::kLinear:
      divide(radians, std::vector<double>(radians.size(), scaling.factor));
      break;
    case Kind::kYarn:
      apply_yarn(rope, radians);
      break;
    case Kind::kLlama3:
      apply_llama3(scaling, radians);
      break;
    case Kind::kLongRope:
      divide(radians,
             context > scaling.original_context ? scaling.long_divisors : scaling.short_divisors);
      break;
    case Kind::kDivisors:
      divide(radians, scaling.short_divisors);
      break;
  }
  radians.resize(static_cast<size_t>(head_dim / 2), 0.0);
  return {.radians = std::move(radians), .magnitude = attention_magnitude(scaling)};
}

std::vector<int64_t> rotary_order(int64_t dims, int64_t head_dim) {
  core::check(dims % 2 == 0 && dims <= head_dim, "an even number up to head_dim, got ", dims);
  const int64_t half = head_dim / 2;
  const int64_t turning = dims / 2;
  std::vector<int64_t> order;
  for (int64_t i = 0; i < head_dim; ++i) {
    const int64_t pair = i % half;
    order.push_back(pair < turning ? pair + i / half * turning
                                   // What does not turn fills the rest in its stored order.
                                   : dims + (pair - turning) + i / half * (half - turning));
  }
  return order;
}

}  // namespace adze::model
