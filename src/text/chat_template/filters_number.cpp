#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "text/chat_template/library.h"
#include "text/chat_template/lookup.h"
#include "text/chat_template/operators.h"
#include "text/chat_template/text_operations.h"

namespace adze::text::chat_template {

namespace {

[[noreturn]] void fail_undefined(Runtime& runtime, const char* filter, const Value& value) {
  const auto* undefined = value.get<Undefined>();
  runtime.fail("{}: {} is undefined", filter, undefined->hint ? *undefined->hint : "the value");
}

// "0x1f" in base 16 and the like: the prefix may stand.
std::string_view without_prefix(std::string_view text, int64_t base) {
  const std::string_view prefix = base == 16 ? "0x" : base == 8 ? "0o" : base == 2 ? "0b" : "";
  text = strip(text);
  return !prefix.empty() && text.starts_with(prefix) ? text.substr(prefix.size()) : text;
}

template <class Number>
std::optional<Number> parse_number(std::string_view text, int base = 10) {
  text = strip(text);
  if (text.starts_with('+')) {
    text.remove_prefix(1);
  }
  Number number{};
  std::from_chars_result result{};
  if constexpr (std::is_integral_v<Number>) {
    result = std::from_chars(text.data(), text.data() + text.size(), number, base);
  } else {
    result = std::from_chars(text.data(), text.data() + text.size(), number);
  }
  return result.ec == std::errc() && result.ptr == text.data() + text.size() ? std::optional(number)
                                                                             : std::nullopt;
}

std::optional<int64_t> truncated(double number) {
  constexpr double kLimit = 9223372036854775808.0;  // 2^63
  return std::abs(number) < kLimit ? std::optional(static_cast<int64_t>(number)) : std::nullopt;
}

Value to_integer(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "int", arguments, {"default", "base"});
  const int64_t base = bound.integer(1).value_or(10);
  if (base < 2 || base > 36) {
    runtime.fail("int: expected base 2 to 36, got {}", base);
  }
  if (input.is_undefined()) {
    fail_undefined(runtime, "int", input);
  }
  std::optional<int64_t> number;
  if (input.is_integral()) {
    number = input.integer();
  } else if (input.is<double>()) {
    number = truncated(input.number());
  } else if (input.is<Text>()) {
    number = parse_number<int64_t>(without_prefix(input.text(), base), static_cast<int>(base));
    const auto fraction = parse_number<double>(input.text());
    if (!number && fraction) {
      number = truncated(*fraction);
    }
  }
  if (number) {
    return Value(*number);
  }
  return bound.find(0) == nullptr ? Value(int64_t{0}) : *bound.find(0);
}

Value to_float(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(runtime, "float", arguments, {"default"});
  if (input.is_undefined()) {
    fail_undefined(runtime, "float", input);
  }
  if (input.is_number()) {
    return Value(input.number());
  }
  if (input.is<Text>()) {
    if (const auto number = parse_number<double>(input.text())) {
      return Value(*number);
    }
  }
  return bound.find(0) == nullptr ? Value(0.0) : *bound.find(0);
}

Value absolute(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_no_arguments(runtime, "abs", arguments);
  if (!input.is_number()) {
    runtime.fail("abs: expected a number, got '{}'", input.type_name());
  }
  if (input.is_integral()) {
    return input.integer() < 0 ? negate(runtime, input) : Value(input.integer());
  }
  return Value(std::abs(input.number()));
}

// To the nearest decimal, halves of the exact binary value to even: what printing with that many
// digits does too.
double round_to(double number, int64_t digits) {
  if (digits > 0) {
    double rounded = number;
    const std::string text = fmt::format("{:.{}f}", number, digits);
    std::from_chars(text.data(), text.data() + text.size(), rounded);
    return rounded;
  }
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(number / unit) * unit;
}

Value round_number(Runtime& runtime, const Value& input, const Arguments& arguments) {
  constexpr int64_t kMaxDigits = 300;
  const BoundArguments bound(runtime, "round", arguments, {"precision", "method"});
  const int64_t digits = bound.integer(0).value_or(0);
  const std::string_view method = bound.text(1).value_or("common");
  if (!input.is_number() || digits < -kMaxDigits || digits > kMaxDigits) {
    runtime.fail("round: expected a number and a precision within {}", kMaxDigits);
  }
  if (method == "common" && input.is_integral()) {
    const double rounded = round_to(input.number(), std::min<int64_t>(digits, 0));
    return digits >= 0 ? Value(input.integer()) : Value(truncated(rounded).value_or(0));
  }
  if (method == "common") {
    return Value(round_to(input.number(), digits));
  }
  if (method != "ceil" && method != "floor") {
    runtime.fail("round: expected common, ceil or floor, got '{:.80}'", method);
  }
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = input.number() * scale;
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

struct Row {
  std::string_view name;
  Filter filter;
};

constexpr std::array kFilters{
    Row{"abs", absolute},
    Row{"float", to_float},
    Row{"int", to_integer},
    Row{"round", round_number},
};

}  // namespace

Filter find_number_filter(std::string_view name) {
  const Row* row = find_named(kFilters, name);
  return row == nullptr ? nullptr : row->filter;
}

}  // namespace adze::text::chat_template
