#include <algorithm>
#include <utility>

#include "core/check.h"
#include "text/json_grammar.h"
#include "text/json_schema.h"

namespace adze::text {
namespace {

using Kind = JsonFrame::Kind;
using Parts = JsonGrammar::Parts;

constexpr uint64_t kSpacesPerLevel = 4;

// Phases of objects and lists.
enum : uint8_t { kOpened, kAfterComma, kBeforeColon, kAfterItem };

// Phases of strings. Between characters first, then within one.
enum : uint8_t {
  kBetween,
  kTwoBytes,
  kThreeBytes,
  kFourBytes,
  kEscape,        // behind a backslash
  kDigits,        // behind \u
  kLowBackslash,  // behind a high surrogate
  kLowU,          // and a backslash
  kLowDigits,     // and u; `value` has the high one in its upper half
};
constexpr std::array<uint32_t, 4> kLowest{0, 0x80, 0x800, 0x10000};
constexpr std::array<uint32_t, 4> kHighest{0x7F, 0x7FF, 0xFFFF, 0x10FFFF};

// Phases of numbers.
enum : uint8_t {
  kNoDigit,
  kMinus,
  kZero,
  kInteger,
  kPoint,
  kFraction,
  kExponent,
  kExponentSign,
  kExponentDigits
};
constexpr uint8_t kMostDigits = 16;
constexpr uint8_t kMostExponentDigits = 2;

bool is_digit(uint8_t byte) {
  return byte >= '0' && byte <= '9';
}

// ---- Keys

const ObjectShape& shape_of(const Parts& parts, const JsonFrame& frame) {
  return parts.objects[parts.nodes[frame.node].index];
}

bool may_end(const ObjectShape& shape, uint32_t passed) {
  return shape.next_required[passed] == shape.properties.size();
}

bool allows_other(const Parts& parts, const JsonFrame& key) {
  const ObjectShape& shape = shape_of(parts, key);
  return shape.additional != SymbolTrie::kNone && may_end(shape, key.count) &&
         parts.fits(shape.additional, key.depth);
}

bool allows_property(const Parts& parts, const JsonFrame& key, uint32_t property) {
  const ObjectShape& shape = shape_of(parts, key);
  return property >= key.count && property <= shape.next_required[key.count] &&
         parts.fits(shape.properties[property], key.depth);
}

// Whether a property that may come has a name that begins with the trie's node.
bool allows_below(const Parts& parts, const JsonFrame& key, uint32_t node) {
  const ObjectShape& shape = shape_of(parts, key);
  const auto end =
      std::min<size_t>(shape.next_required[key.count] + size_t{1}, shape.properties.size());
  for (uint32_t property = key.count; property < end; ++property) {
    const uint32_t rank = shape.ranks[property];
    if (rank >= shape.names.begin(node) && rank < shape.names.end(node) &&
        allows_property(parts, key, property)) {
      return true;
    }
  }
  return false;
}

JsonFrame key_of(const Parts& parts, const JsonFrame& object) {
  const SymbolTrie& names = shape_of(parts, object).names;
  const bool nameless = names.end(SymbolTrie::kRoot) == 0;
  return {.kind = Kind::kKey,
          .depth = static_cast<uint8_t>(object.depth + 1),
          .node = object.node,
          .state = nameless ? ObjectShape::kOther : SymbolTrie::kRoot,
          .count = object.count};
}

bool allows_key(const Parts& parts, const JsonFrame& object) {
  const JsonFrame key = key_of(parts, object);
  return allows_other(parts, key) ||
         (key.state != ObjectShape::kOther && allows_below(parts, key, key.state));
}

// ---- The characters of strings

const StringAutomaton& automaton_of(const Parts& parts, const JsonFrame& string) {
  return parts.strings[parts.nodes[string.node].index];
}

uint32_t next_state(const Parts& parts, const JsonFrame& string, uint32_t character) {
  if (string.kind == Kind::kString) {
    return automaton_of(parts, string).next(string.state, character);
  }
  static_assert(ObjectShape::kOther == StringAutomaton::kDead);  // hence the pair in take()
  if (string.state == ObjectShape::kOther) {
    return ObjectShape::kOther;
  }
  return shape_of(parts, string).names.child(string.state, character);
}

// Goes on with a character; false: not allowed.
bool take(const Parts& parts, JsonFrame& string, uint32_t character) {
  const uint32_t next = next_state(parts, string, character);
  if (string.kind == Kind::kString) {
    if (next == StringAutomaton::kDead) {
      return false;
    }
  } else if (!allows_other(parts, string) &&
             (next == ObjectShape::kOther || !allows_below(parts, string, next))) {
    return false;
  }
  string.state = next;
  string.phase = kBetween;
  string.left = 0;
  string.value = 0;
  return true;
}

// Whether a character from `first` to `last` may come; surrogates are none.
bool leads_on(const Parts& parts, const JsonFrame& string, uint32_t first, uint32_t last) {
  const auto continues = [&](uint32_t begin, uint32_t end) {
    if (begin > end) {
      return false;
    }
    if (string.kind == Kind::kString) {
      return automaton_of(parts, string).continues(string.state, begin, end);
    }
    return allows_other(parts, string) ||
           shape_of(parts, string).names.any_child(string.state, begin, end, [&](uint32_t child) {
             return allows_below(parts, string, child);
           });
  };
  return continues(first, std::min(last, uint32_t{0xD7FF})) ||
         continues(std::max(first, uint32_t{0xE000}), last);
}

bool may_close(const Parts& parts, const JsonFrame& string) {
  if (string.kind == Kind::kString) {
    return automaton_of(parts, string).accepts(string.state);
  }
  const ObjectShape& shape = shape_of(parts, string);
  if (string.state != ObjectShape::kOther && shape.names.ends_text(string.state)) {
    return allows_property(parts, string, shape.by_rank[shape.names.begin(string.state)]);
  }
  return allows_other(parts, string);
}

// Whether the bytes so far begin a character that may come; goes on with it where they are all.
bool bytes_lead_on(const Parts& parts, JsonFrame& string) {
  const int open = 6 * string.left;
  const auto first = static_cast<uint32_t>(string.value << open);
  const uint32_t last = first | ((1U << open) - 1);
  return leads_on(parts,
                  string,
                  std::max(first, kLowest[string.phase]),
                  std::min(last, kHighest[string.phase])) &&
         (string.left > 0 || take(parts, string, first));
}

constexpr uint32_t pair_of(uint32_t high, uint32_t low) {
  return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

// The same of the hexadecimal digits of \u.
bool digits_lead_on(const Parts& parts, JsonFrame& string, uint8_t byte) {
  const uint8_t lower = byte | 0x20;
  if (!is_digit(byte) && (lower < 'a' || lower > 'f')) {
    return false;
  }
  const auto digit = static_cast<uint32_t>(is_digit(byte) ? byte - '0' : lower - 'a' + 10);
  const uint64_t high = string.value >> 16;
  const uint32_t digits = (static_cast<uint32_t>(string.value & 0xFFFF) << 4) | digit;
  string.value = (high << 16) | digits;
  --string.left;
  const int open = 4 * string.left;
  const uint32_t first = digits << open;
  const uint32_t last = first | ((1U << open) - 1);
  if (string.phase == kLowDigits) {
    const uint32_t lowest = std::max(first, uint32_t{0xDC00});
    const uint32_t highest = std::min(last, uint32_t{0xDFFF});
    const auto upper = static_cast<uint32_t>(high);
    return lowest <= highest &&
           leads_on(parts, string, pair_of(upper, lowest), pair_of(upper, highest)) &&
           (string.left > 0 || take(parts, string, pair_of(upper, first)));
  }
  const uint32_t lowest = std::max(first, uint32_t{0xD800});
  const uint32_t highest = std::min(last, uint32_t{0xDBFF});
  if (lowest <= highest &&
      leads_on(parts, string, pair_of(lowest, 0xDC00), pair_of(highest, 0xDFFF))) {
    string.phase = string.left == 0 ? kLowBackslash : kDigits;
    return true;
  }
  return leads_on(parts, string, first, last) && (string.left > 0 || take(parts, string, first));
}

bool take_escape(const Parts& parts, JsonFrame& string, uint8_t byte) {
  constexpr std::string_view kLetters = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  if (byte == 'u') {
    string.phase = kDigits;
    string.left = 4;
    return true;
  }
  const size_t place = kLetters.find(static_cast<char>(byte));
  return place != std::string_view::npos &&
         take(parts, string, static_cast<uint8_t>(kMeanings[place]));
}

JsonString::Step read_string(const Parts& parts, JsonFrame& string, uint8_t byte) {
  const auto inside = [](bool allowed) {
    return allowed ? JsonString::Step::kInside : JsonString::Step::kRefused;
  };
  switch (string.phase) {
    case kBetween:
      if (byte == '"') {
        return may_close(parts, string) ? JsonString::Step::kClosed : JsonString::Step::kRefused;
      }
      if (byte == '\\') {
        string.phase = kEscape;
        return inside(leads_on(parts, string, 0, kHighest.back()));
      }
      if (byte < 0x80) {
        return inside(byte >= 0x20 && take(parts, string, byte));
      }
      if (byte < 0xC2 || byte > 0xF4) {
        return JsonString::Step::kRefused;
      }
      string.phase = byte < 0xE0 ? kTwoBytes : byte < 0xF0 ? kThreeBytes : kFourBytes;
      string.left = string.phase;
      string.value = byte & (0x3FU >> string.phase);
      return inside(bytes_lead_on(parts, string));
    case kEscape:
      return inside(take_escape(parts, string, byte));
    case kDigits:
    case kLowDigits:
      return inside(digits_lead_on(parts, string, byte));
    case kLowBackslash:
      string.phase = kLowU;
      return inside(byte == '\\');
    case kLowU:
      string.phase = kLowDigits;
      string.left = 4;
      string.value <<= 16;
      return inside(byte == 'u');
    default:
      if ((byte & 0xC0) != 0x80) {
        return JsonString::Step::kRefused;
      }
      string.value = (string.value << 6) | (byte & 0x3F);
      --string.left;
      return inside(bytes_lead_on(parts, string));
  }
}

uint32_t meaning_of(const Parts& parts, const JsonFrame& string) {
  if (string.kind == Kind::kString || string.state == ObjectShape::kOther) {
    return ObjectShape::kOther;
  }
  const ObjectShape& shape = shape_of(parts, string);
  return shape.names.ends_text(string.state) ? shape.by_rank[shape.names.begin(string.state)]
                                             : ObjectShape::kOther;
}

// ---- Numbers

bool read_number(JsonFrame& number, uint8_t byte) {
  const auto become = [&](uint8_t phase) {
    number.left = number.phase == phase ? static_cast<uint8_t>(number.left + 1) : 1;
    number.phase = phase;
    return number.left <= (phase == kExponentDigits ? kMostExponentDigits : kMostDigits);
  };
  switch (number.phase) {
    case kNoDigit:
    case kMinus:
      if (byte == '-') {
        return number.phase == kNoDigit && become(kMinus);
      }
      return is_digit(byte) && become(byte == '0' ? kZero : kInteger);
    case kZero:
    case kInteger:
      if (is_digit(byte)) {
        return number.phase == kInteger && become(kInteger);
      }
      return byte == '.' ? become(kPoint) : (byte | 0x20) == 'e' && become(kExponent);
    case kPoint:
      return is_digit(byte) && become(kFraction);
    case kFraction:
      return is_digit(byte) ? become(kFraction) : (byte | 0x20) == 'e' && become(kExponent);
    case kExponent:
      if (byte == '+' || byte == '-') {
        return become(kExponentSign);
      }
      [[fallthrough]];
    default:
      return is_digit(byte) && become(kExponentDigits);
  }
}

// Of a decimal: phases kNoDigit, kMinus, kInteger, kPoint (digits behind it in `left`); `state` is
// 1 below zero, `value` all digits.
constexpr uint64_t power_of_ten(int exponent) {
  uint64_t power = 1;
  for (; exponent > 0; --exponent) {
    power *= 10;
  }
  return power;
}

struct Magnitudes {
  uint64_t least;
  uint64_t most;

  bool overlaps(uint64_t low, uint64_t high) const {
    return least <= most && low <= most && high >= least;
  }
};

// Absolute values of the numbers with the sign; zero has none.
Magnitudes magnitudes_of(const DecimalRange& range, bool negative) {
  const auto absolute = [](int64_t value) {
    return value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  };
  if (negative) {
    return range.least >= 0
               ? Magnitudes{1, 0}
               : Magnitudes{range.most < 0 ? absolute(range.most) : 1, absolute(range.least)};
  }
  return range.most < 0
             ? Magnitudes{1, 0}
             : Magnitudes{range.least < 0 ? 0 : absolute(range.least), absolute(range.most)};
}

// Whether further digits can make a number of the range.
bool can_complete(const DecimalRange& range, const JsonFrame& number) {
  const Magnitudes magnitudes = magnitudes_of(range, number.state == 1);
  if (number.phase == kMinus) {
    return magnitudes.least <= magnitudes.most;
  }
  if (number.phase == kPoint) {
    const uint64_t unit = power_of_ten(range.decimals - number.left);
    return magnitudes.overlaps(number.value * unit, number.value * unit + unit - 1);
  }
  const uint64_t unit = power_of_ten(range.decimals);
  const Magnitudes whole{magnitudes.least <= magnitudes.most ? magnitudes.least / unit : 1,
                         magnitudes.least <= magnitudes.most ? magnitudes.most / unit : 0};
  uint64_t low = number.value;
  uint64_t high = number.value;
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  while (!whole.overlaps(low, high)) {
    if (low == 0 || low > whole.most / 10) {
      return false;
    }
    low *= 10;
    high = high > (kMost - 9) / 10 ? kMost : high * 10 + 9;
  }
  return true;
}

bool read_decimal(const DecimalRange& range, JsonFrame& number, uint8_t byte) {
  if (byte == '-' && number.phase == kNoDigit) {
    number.phase = kMinus;
    number.state = 1;
  } else if (byte == '.' && number.phase == kInteger && range.decimals > 0) {
    number.phase = kPoint;
  } else if (is_digit(byte)) {
    const bool leading_zero = number.phase == kInteger && number.value == 0;
    if (leading_zero || (number.phase == kPoint && number.left == range.decimals) ||
        number.value > (std::numeric_limits<uint64_t>::max() - 9) / 10) {
      return false;
    }
    number.value = number.value * 10 + (byte - uint64_t{'0'});
    number.left = static_cast<uint8_t>(number.left + (number.phase == kPoint ? 1 : 0));
    number.phase = number.phase == kPoint ? kPoint : kInteger;
  } else {
    return false;
  }
  return can_complete(range, number);
}

// Whether the text so far of a number or constant is a value.
bool ends_value(const Parts& parts, const JsonFrame& frame) {
  const uint32_t index = parts.nodes[frame.node].index;
  switch (frame.kind) {
    case Kind::kLiteral:
      return parts.literals[index].ends_text(frame.state);
    case Kind::kNumber:
      return frame.phase == kZero || frame.phase == kInteger || frame.phase == kFraction ||
             frame.phase == kExponentDigits;
    case Kind::kDecimal: {
      const DecimalRange& range = parts.decimals[index];
      if (frame.phase != kInteger && (frame.phase != kPoint || frame.left == 0)) {
        return false;
      }
      const uint64_t value = frame.value * power_of_ten(range.decimals - frame.left);
      return magnitudes_of(range, frame.state == 1).overlaps(value, value);
    }
    default:
      return false;
  }
}

// ---- Values

bool read_white_space(JsonFrame& frame, uint8_t byte, uint64_t levels) {
  // 0: none, 1: a space, else a line break and value - 2 spaces.
  if (frame.value == 0 && (byte == ' ' || byte == '\n')) {
    frame.value = byte == ' ' ? 1 : 2;
    return true;
  }
  if (frame.value >= 2 && byte == ' ' && frame.value - 2 < kSpacesPerLevel * levels) {
    ++frame.value;
    return true;
  }
  return false;
}

bool read_literal(const Parts& parts, JsonFrame& frame, uint8_t byte) {
  frame.state = parts.literals[parts.nodes[frame.node].index].child(frame.state, byte);
  return frame.state != SymbolTrie::kNone;
}

// The frames that a value of the node may begin with.
std::vector<JsonFrame> begin_value(const Parts& parts, uint32_t node, size_t depth, uint8_t byte) {
  using NodeKind = GrammarNode::Kind;
  std::vector<JsonFrame> frames;
  for (const uint32_t alternative : parts.nodes[node].alternatives) {
    const GrammarNode& value = parts.nodes[alternative];
    JsonFrame frame{.depth = static_cast<uint8_t>(depth), .node = alternative};
    bool begins = false;
    switch (value.kind) {
      case NodeKind::kString:
        frame.kind = Kind::kString;
        begins = byte == '"';
        break;
      case NodeKind::kObject:
      case NodeKind::kList:
        frame.kind = value.kind == NodeKind::kObject ? Kind::kObject : Kind::kList;
        begins =
            byte == (value.kind == NodeKind::kObject ? '{' : '[') && parts.fits(alternative, depth);
        break;
      case NodeKind::kLiterals:
        frame.kind = Kind::kLiteral;
        begins = read_literal(parts, frame, byte);
        break;
      case NodeKind::kDecimal:
        frame.kind = Kind::kDecimal;
        begins = read_decimal(parts.decimals[value.index], frame, byte);
        break;
      case NodeKind::kNumber:
        frame.kind = Kind::kNumber;
        begins = read_number(frame, byte);
        break;
      case NodeKind::kAlternatives:
        break;
    }
    if (begins) {
      frames.push_back(frame);
    }
  }
  return frames;
}

// ---- Stacks

using Stack = std::vector<JsonFrame>;

// Puts the frames in turn on top of the stack; `forks` takes all but the first.
bool put(Stack& stack, const std::vector<JsonFrame>& frames, std::vector<Stack>& forks) {
  for (size_t i = 1; i < frames.size(); ++i) {
    forks.push_back(stack);
    forks.back().push_back(frames[i]);
  }
  if (!frames.empty()) {
    stack.push_back(frames[0]);
  }
  return !frames.empty();
}

void close_key(const Parts& parts, Stack& stack, uint32_t meaning) {
  stack.pop_back();
  JsonFrame& object = stack.back();
  const ObjectShape& shape = shape_of(parts, object);
  const bool other = meaning == ObjectShape::kOther;
  object.state = other ? shape.additional : shape.properties[meaning];
  object.count = other ? static_cast<uint32_t>(shape.properties.size()) : meaning + 1;
  object.phase = kBeforeColon;
}

bool read_object(const Parts& parts, Stack& stack, uint8_t byte) {
  JsonFrame& object = stack.back();
  if (object.phase == kBeforeColon) {
    if (byte == ':') {
      object.phase = kAfterItem;
      stack.push_back({.depth = static_cast<uint8_t>(object.depth + 1), .node = object.state});
    }
    return byte == ':';
  }
  const bool closes = object.phase != kAfterComma && may_end(shape_of(parts, object), object.count);
  if (byte == '}' && closes) {
    stack.pop_back();
    return true;
  }
  if (object.phase == kAfterItem) {
    if (byte == ',' && object.value == 0 && allows_key(parts, object)) {
      object.phase = kAfterComma;
      return true;
    }
    return closes && read_white_space(object, byte, object.depth + uint64_t{1});
  }
  if (byte == '"' && allows_key(parts, object)) {
    object.value = 0;
    stack.push_back(key_of(parts, object));
    return true;
  }
  return read_white_space(object, byte, object.depth + uint64_t{1});
}

bool read_list(const Parts& parts, Stack& stack, uint8_t byte, std::vector<Stack>& forks) {
  JsonFrame& list = stack.back();
  const ListShape& shape = parts.lists[parts.nodes[list.node].index];
  const bool closes = list.count >= shape.least;
  if (byte == ']' && closes) {
    stack.pop_back();
    return true;
  }
  const uint32_t item = shape.item(list.count);
  const auto depth = static_cast<uint8_t>(list.depth + 1);
  const bool goes_on =
      list.count < shape.most && item != SymbolTrie::kNone && parts.fits(item, depth);
  if (list.phase == kOpened) {
    if (read_white_space(list, byte, depth)) {
      return true;
    }
    const auto frames = goes_on ? begin_value(parts, item, depth, byte) : std::vector<JsonFrame>{};
    if (!frames.empty()) {
      list.phase = kAfterItem;
      list.value = 0;
      ++list.count;
    }
    return put(stack, frames, forks);
  }
  if (byte == ',' && list.value == 0 && goes_on) {
    ++list.count;
    stack.push_back({.depth = depth, .node = item});
    return true;
  }
  return closes && read_white_space(list, byte, depth);
}

// One byte; further readings go to `forks`. Where it is refused the stack is spoilt.
bool read(const Parts& parts, Stack& stack, uint8_t byte, std::vector<Stack>& forks) {
  if (stack.empty()) {
    return false;
  }
  JsonFrame& top = stack.back();
  const uint32_t index = parts.nodes[top.node].index;
  bool within = false;  // a number or constant
  switch (top.kind) {
    case Kind::kObject:
      return read_object(parts, stack, byte);
    case Kind::kList:
      return read_list(parts, stack, byte, forks);
    case Kind::kValue: {
      if (top.depth > 0 && read_white_space(top, byte, top.depth)) {
        return true;
      }
      const auto frames = begin_value(parts, top.node, top.depth, byte);
      stack.pop_back();
      return put(stack, frames, forks);
    }
    case Kind::kKey:
    case Kind::kString: {
      const JsonString::Step step = read_string(parts, top, byte);
      if (step == JsonString::Step::kClosed && top.kind == Kind::kKey) {
        close_key(parts, stack, meaning_of(parts, top));
      } else if (step == JsonString::Step::kClosed) {
        stack.pop_back();
      }
      return step != JsonString::Step::kRefused;
    }
    case Kind::kLiteral: {
      JsonFrame next = top;
      if ((within = read_literal(parts, next, byte))) {
        top = next;
        const SymbolTrie& texts = parts.literals[index];
        if (!texts.has_children(top.state)) {
          stack.pop_back();
        }
      }
      break;
    }
    case Kind::kDecimal: {
      JsonFrame next = top;
      if ((within = read_decimal(parts.decimals[index], next, byte))) {
        top = next;
      }
      break;
    }
    case Kind::kNumber: {
      JsonFrame next = top;
      if ((within = read_number(next, byte))) {
        top = next;
      }
      break;
    }
  }
  if (within) {
    return true;
  }
  if (!ends_value(parts, top)) {
    return false;
  }
  stack.pop_back();  // what ends a number is the byte behind it, which never goes on with it
  return read(parts, stack, byte, forks);
}

}  // namespace

JsonString::Step JsonString::accept(uint8_t byte) {
  return read_string(*parts_, frame_, byte);
}

uint32_t JsonString::meaning() const {
  return meaning_of(*parts_, frame_);
}

uint32_t JsonString::least() const {
  if (frame_.kind == Kind::kKey || !automaton_of(*parts_, frame_).counts()) {
    return 0;
  }
  const uint32_t least = automaton_of(*parts_, frame_).least();
  return least - std::min(least, frame_.state);
}

uint32_t JsonString::most() const {
  if (frame_.kind == Kind::kKey || !automaton_of(*parts_, frame_).counts()) {
    return StringAutomaton::kUnlimited;
  }
  const uint32_t most = automaton_of(*parts_, frame_).most();
  return most == StringAutomaton::kUnlimited ? most : most - frame_.state;
}

JsonString JsonString::free_string() const {
  JsonString free = *this;
  const bool is_free = frame_.kind == Kind::kKey ? frame_.state == ObjectShape::kOther
                                                 : automaton_of(*parts_, frame_).counts();
  if (is_free) {
    free.frame_.kind = Kind::kString;
    free.frame_.node = Parts::kAnyString;
    free.frame_.state = 0;
    free.frame_.count = 0;
    free.frame_.depth = 0;
  }
  return free;
}

uint32_t JsonString::characters() const {
  return frame_.node == Parts::kAnyString ? frame_.state + (frame_.phase == kBetween ? 0 : 1) : 0;
}

std::array<uint64_t, 3> JsonString::key() const {
  const bool is_key = frame_.kind == Kind::kKey;
  const uint64_t index = parts_->nodes[frame_.node].index;
  return {index << 32 | (is_key ? uint64_t{frame_.depth} << 24 : 0) | uint64_t{frame_.left} << 16 |
              uint64_t{frame_.phase} << 8 | (is_key ? 1 : 0),
          uint64_t{frame_.count} << 32 | frame_.state,
          frame_.value};
}

JsonMatcher::JsonMatcher(std::shared_ptr<const JsonGrammar> grammar)
    : grammar_(std::move(grammar)), readings_{{{.node = grammar_->parts().root}}} {}

bool JsonMatcher::advance(uint8_t byte, JsonMatcher& next) const {
  const Parts& parts = grammar_->parts();
  std::vector<Stack>& stacks = next.readings_;
  std::vector<Stack> forks;
  size_t count = 0;
  const auto keep = [&] {  // stacks[count], unless it is there already
    const auto end = stacks.begin() + static_cast<std::ptrdiff_t>(count);
    count +=
        count < JsonGrammar::kMostReadings && std::find(stacks.begin(), end, *end) == end ? 1 : 0;
  };
  for (const Stack& reading : readings_) {
    stacks.resize(std::max(stacks.size(), count + 1));
    stacks[count] = reading;
    if (read(parts, stacks[count], byte, forks)) {
      keep();
    }
    for (Stack& fork : forks) {
      stacks.resize(std::max(stacks.size(), count + 1));
      stacks[count] = std::move(fork);
      keep();
    }
    forks.clear();
  }
  if (count == 0) {
    return false;
  }
  stacks.resize(count);
  if (next.grammar_ != grammar_) {
    next.grammar_ = grammar_;
  }
  return true;
}

bool JsonMatcher::accept(uint8_t byte) {
  JsonMatcher next = *this;
  if (!advance(byte, next)) {
    return false;
  }
  *this = std::move(next);
  return true;
}

bool JsonMatcher::complete() const {
  return std::any_of(readings_.begin(), readings_.end(), [&](const Stack& stack) {
    return stack.empty() || (stack.size() == 1 && ends_value(grammar_->parts(), stack[0]));
  });
}

bool JsonMatcher::must_end() const {
  return std::all_of(
      readings_.begin(), readings_.end(), [](const Stack& stack) { return stack.empty(); });
}

JsonMatcher JsonMatcher::reading(size_t index) const {
  core::check(index < readings_.size(), "reading ", index);
  JsonMatcher one = *this;
  one.readings_ = {readings_[index]};
  return one;
}

std::optional<JsonString> JsonMatcher::string() const {
  if (readings_.size() != 1 || readings_[0].empty()) {
    return std::nullopt;
  }
  const JsonFrame& top = readings_[0].back();
  if (top.kind != Kind::kKey && top.kind != Kind::kString) {
    return std::nullopt;
  }
  return JsonString(grammar_->parts(), top);
}

void JsonMatcher::close_string(uint32_t meaning) {
  core::check(string().has_value(), "no string to close");
  if (readings_[0].back().kind == Kind::kKey) {
    close_key(grammar_->parts(), readings_[0], meaning);
  } else {
    readings_[0].pop_back();
  }
}

}  // namespace adze::text
