#include "text/string_automaton.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "core/error.h"
#include "text/printable.h"
#include "text/utf8.h"

namespace adze::text {
namespace {

constexpr uint32_t kLastCharacter = 0x10FFFF;
constexpr uint32_t kInfinite = std::numeric_limits<uint32_t>::max();

struct Range {
  uint32_t first;
  uint32_t last;
  auto operator<=>(const Range&) const = default;
};
using CharacterSet = std::vector<Range>;  // rising, apart

CharacterSet normalised(CharacterSet set) {
  std::sort(set.begin(), set.end());
  CharacterSet result;
  for (const Range& range : set) {
    if (!result.empty() && range.first <= result.back().last + 1) {
      result.back().last = std::max(result.back().last, range.last);
    } else {
      result.push_back(range);
    }
  }
  return result;
}

CharacterSet complement(const CharacterSet& set) {
  CharacterSet result;
  uint32_t next = 0;
  for (const Range& range : set) {
    if (range.first > next) {
      result.push_back({next, range.first - 1});
    }
    next = range.last + 1;
  }
  if (next <= kLastCharacter) {
    result.push_back({next, kLastCharacter});
  }
  return result;
}

const CharacterSet kLineEnds{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
const CharacterSet kDigits{{'0', '9'}};
const CharacterSet kWord{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CharacterSet kSpaces{{'\t', '\r'},
                           {' ', ' '},
                           {0xA0, 0xA0},
                           {0x1680, 0x1680},
                           {0x2000, 0x200A},
                           {0x2028, 0x2029},
                           {0x202F, 0x202F},
                           {0x205F, 0x205F},
                           {0x3000, 0x3000},
                           {0xFEFF, 0xFEFF}};

// A part of an expression.
struct Part {
  enum class Kind : uint8_t { kSequence, kChoice, kRepeat, kSet, kStart, kEnd };
  Kind kind;
  std::vector<uint32_t> parts = {};
  uint32_t least = 0;  // kRepeat
  uint32_t most = 0;
  CharacterSet set = {};
};

class Parser {
 public:
  explicit Parser(std::string_view source) : source_(source) {
    for (std::string_view rest = source; !rest.empty();) {
      const Utf8Step step = next_character(rest);
      if (step.state != Utf8Step::State::kCharacter) {
        throw fail("UTF-8", "other bytes");
      }
      text_.push_back(step.code_point);
      rest.remove_prefix(step.length);
    }
  }

  // The whole expression's part is the last one.
  std::vector<Part> parse() {
    choice(0);
    if (position_ < text_.size()) {
      throw fail("a group to close", "')'");
    }
    return std::move(parts_);
  }

 private:
  core::Error fail(std::string_view expected, std::string_view got) const {
    return core::error("pattern",
                       "expected {}, got {} at character {} of '{}'",
                       expected,
                       got,
                       position_,
                       printable(source_));
  }

  bool at(uint32_t character) const {
    return position_ < text_.size() && text_[position_] == character;
  }
  bool take(uint32_t character) { return at(character) && ++position_ > 0; }
  uint32_t take() {
    if (position_ == text_.size()) {
      throw fail("a whole expression", "its end");
    }
    return text_[position_++];
  }

  uint32_t add_set(CharacterSet set) {
    // No text has surrogates.
    set = complement(normalised(std::move(set)));
    set.push_back({0xD800, 0xDFFF});
    set = complement(normalised(std::move(set)));
    if (set.empty()) {
      throw fail("a class that has characters", "an empty one");
    }
    return add({.kind = Part::Kind::kSet, .set = std::move(set)});
  }

  uint32_t add(Part part) {
    if (parts_.size() == StringAutomaton::kMostParts) {
      throw fail(fmt::format("at most {} parts", StringAutomaton::kMostParts), "more");
    }
    parts_.push_back(std::move(part));
    return static_cast<uint32_t>(parts_.size() - 1);
  }

  uint32_t choice(size_t depth) {
    if (depth > StringAutomaton::kMostNesting) {
      throw fail(fmt::format("at most {} nested groups", StringAutomaton::kMostNesting), "more");
    }
    Part part{.kind = Part::Kind::kChoice, .parts = {sequence(depth)}};
    while (take('|')) {
      part.parts.push_back(sequence(depth));
    }
    return add(std::move(part));
  }

  uint32_t sequence(size_t depth) {
    Part part{.kind = Part::Kind::kSequence};
    while (position_ < text_.size() && !at('|') && !at(')')) {
      part.parts.push_back(repeated(depth));
    }
    return add(std::move(part));
  }

  uint32_t repeated(size_t depth) {
    if (take('^')) {
      return add({.kind = Part::Kind::kStart});
    }
    if (take('$')) {
      return add({.kind = Part::Kind::kEnd});
    }
    const uint32_t part = atom(depth);
    const auto range = quantifier();
    if (!range) {
      return part;
    }
    take('?');  // lazy: the same texts
    return add(
        {.kind = Part::Kind::kRepeat, .parts = {part}, .least = range->first, .most = range->last});
  }

  std::optional<Range> quantifier() {
    if (take('?')) {
      return Range{0, 1};
    }
    if (take('*')) {
      return Range{0, kInfinite};
    }
    if (take('+')) {
      return Range{1, kInfinite};
    }
    if (!take('{')) {
      return std::nullopt;
    }
    Range range{count(), 0};
    range.last = range.first;
    if (take(',')) {
      range.last = at('}') ? kInfinite : count();
    }
    if (!take('}') || range.first > range.last) {
      throw fail("a quantifier {m}, {m,} or {m,n} with m <= n", "another");
    }
    return range;
  }

  uint32_t count() {
    uint32_t value = 0;
    const size_t begin = position_;
    while (position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9') {
      value = value * 10 + (text_[position_++] - '0');
      if (value > StringAutomaton::kMostRepeats) {
        throw fail(fmt::format("at most {} repeats", StringAutomaton::kMostRepeats), "more");
      }
    }
    if (position_ == begin) {
      throw fail("a number in {m,n}", "none");
    }
    return value;
  }

  uint32_t atom(size_t depth) {
    const uint32_t character = take();
    switch (character) {
      case '(': {
        if (take('?') && !take(':')) {
          throw fail("(...) or (?:...)", "another kind of group");
        }
        const uint32_t part = choice(depth + 1);
        if (!take(')')) {
          throw fail("')'", "the end");
        }
        return part;
      }
      case '.':
        return add_set(complement(kLineEnds));
      case '[':
        return add_set(bracket());
      case '\\':
        return add_set(escape());
      case '*':
      case '+':
      case '?':
      case '{':
      case '}':
      case ']':
        --position_;
        throw fail("something to repeat, or an escaped sign", "a bare one");
      default:
        return add_set({{character, character}});
    }
  }

  CharacterSet bracket() {
    const bool negated = take('^');
    CharacterSet set;
    while (!take(']')) {
      const CharacterSet first = bracket_member();
      if (at('-') && position_ + 1 < text_.size() && text_[position_ + 1] != ']') {
        ++position_;
        const CharacterSet last = bracket_member();
        if (first.size() != 1 || last.size() != 1 || first[0].first != first[0].last ||
            last[0].first != last[0].last || first[0].first > last[0].first) {
          throw fail("a range of rising characters", "another");
        }
        set.push_back({first[0].first, last[0].first});
      } else {
        set.insert(set.end(), first.begin(), first.end());
      }
    }
    return negated ? complement(normalised(std::move(set))) : set;
  }

  CharacterSet bracket_member() {
    const uint32_t character = take();
    return character == '\\' ? escape() : CharacterSet{{character, character}};
  }

  CharacterSet escape() {
    const uint32_t character = take();
    const auto one = [](uint32_t code_point) { return CharacterSet{{code_point, code_point}}; };
    switch (character) {
      case 'd':
        return kDigits;
      case 'D':
        return complement(kDigits);
      case 'w':
        return kWord;
      case 'W':
        return complement(kWord);
      case 's':
        return kSpaces;
      case 'S':
        return complement(kSpaces);
      case 'n':
        return one('\n');
      case 't':
        return one('\t');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'x':
        return one(hexadecimal(2));
      case 'u':
        return one(take('{') ? hexadecimal(0) : hexadecimal(4));
      case '0':
        if (position_ == text_.size() || text_[position_] < '0' || text_[position_] > '9') {
          return one(0);
        }
        break;
      default:
        if (character > ' ' && character < 0x7F && character != '_' &&
            !(character >= '0' && character <= '9') &&
            !((character | 32) >= 'a' && (character | 32) <= 'z')) {
          return one(character);
        }
    }
    --position_;
    throw fail("a supported escape",
               fmt::format("\\{}", character < 0x7F ? static_cast<char>(character) : '?'));
  }

  uint32_t hexadecimal(size_t digits) {  // 0: up to '}'
    uint32_t value = 0;
    for (size_t taken = 0; digits == 0 ? !take('}') : taken < digits; ++taken) {
      const uint32_t digit = take();
      if (digit >= '0' && digit <= '9') {
        value = value * 16 + (digit - '0');
      } else if ((digit | 32) >= 'a' && (digit | 32) <= 'f') {
        value = value * 16 + ((digit | 32) - 'a' + 10);
      } else {
        throw fail("hexadecimal digits", "others");
      }
      if (value > kLastCharacter) {
        break;
      }
    }
    if (value > kLastCharacter || (value >= 0xD800 && value <= 0xDFFF)) {
      throw fail("a character up to U+10FFFF, surrogates apart", "another");
    }
    return value;
  }

  std::string_view source_;
  std::vector<uint32_t> text_;
  size_t position_ = 0;
  std::vector<Part> parts_;
};

// Thompson's construction, "Regular expression search algorithm", 1968.
struct Machine {
  enum class Kind : uint8_t { kSet, kFork, kStart, kEnd, kMatch };
  struct State {
    Kind kind;
    uint32_t next = 0;
    uint32_t other = 0;      // kFork
    CharacterSet set = {};   // kSet
    std::vector<bool> in{};  // kSet: by class
  };

  const std::vector<Part>& parts;
  std::vector<State> states = {};
  size_t calls = 0;

  uint32_t add(State state) {
    states.push_back(std::move(state));
    return static_cast<uint32_t>(states.size() - 1);
  }

  // The state where a text of the part begins that `next` goes on from.
  uint32_t build(uint32_t index, uint32_t next) {
    // An empty part costs a call too, or repeats of it would cost nothing.
    if (++calls > StringAutomaton::kMostParts) {
      throw core::error("pattern",
                        "expected at most {} parts with repeats written out, got more",
                        StringAutomaton::kMostParts);
    }
    const Part& part = parts[index];
    switch (part.kind) {
      case Part::Kind::kSet:
        return add({.kind = Kind::kSet, .next = next, .set = part.set});
      case Part::Kind::kStart:
        return add({.kind = Kind::kStart, .next = next});
      case Part::Kind::kEnd:
        return add({.kind = Kind::kEnd, .next = next});
      case Part::Kind::kSequence:
        for (auto child = part.parts.rbegin(); child != part.parts.rend(); ++child) {
          next = build(*child, next);
        }
        return next;
      case Part::Kind::kChoice: {
        uint32_t entry = build(part.parts[0], next);
        for (size_t child = 1; child < part.parts.size(); ++child) {
          const uint32_t other = build(part.parts[child], next);
          entry = add({.kind = Kind::kFork, .next = entry, .other = other});
        }
        return entry;
      }
      case Part::Kind::kRepeat:
        break;
    }
    uint32_t entry = next;
    if (part.most == kInfinite) {
      entry = add({.kind = Kind::kFork, .next = next, .other = next});
      const uint32_t body = build(part.parts[0], entry);
      states[entry].next = body;
    } else {
      for (uint32_t i = part.least; i < part.most; ++i) {
        const uint32_t body = build(part.parts[0], entry);
        entry = add({.kind = Kind::kFork, .next = body, .other = next});
      }
    }
    for (uint32_t i = 0; i < part.least; ++i) {
      entry = build(part.parts[0], entry);
    }
    return entry;
  }
};

void spend(int64_t& work, int64_t steps) {
  work -= steps;
  if (work < 0) {
    throw core::error("pattern", "expected expressions that are less complex, got too many states");
  }
}

// Sets of the machine's states, as states.
class Subsets {
 public:
  Subsets(const Machine& machine, size_t num_classes, int64_t& work)
      : machine_(machine), num_classes_(num_classes), work_(work), seen_(machine.states.size()) {}

  void run(uint32_t entry) {
    sets_.push_back(closure({entry}, true, false));
    for (size_t index = 0; index < sets_.size(); ++index) {
      const std::vector<uint32_t> at_end = closure(sets_[index], index == 0, true);
      accepting.push_back(std::any_of(at_end.begin(), at_end.end(), [&](uint32_t state) {
        return machine_.states[state].kind == Machine::Kind::kMatch;
      }));
      for (size_t column = 0; column < num_classes_; ++column) {
        table.push_back(successor(index, column));
      }
    }
  }

  std::vector<uint32_t> table;  // [sets, classes]
  std::vector<bool> accepting;

 private:
  uint32_t successor(size_t index, size_t column) {
    std::vector<uint32_t> targets;
    for (const uint32_t state : sets_[index]) {
      if (machine_.states[state].kind == Machine::Kind::kSet && machine_.states[state].in[column]) {
        targets.push_back(machine_.states[state].next);
      } else if (machine_.states[state].kind == Machine::Kind::kMatch) {
        targets = {state};  // whatever follows
        break;
      }
    }
    spend(work_, static_cast<int64_t>(sets_[index].size()) + 1);
    if (targets.empty()) {
      return StringAutomaton::kDead;
    }
    targets = closure(std::move(targets), false, false);
    // The start is no state to come back to: ^ holds there.
    const auto [found, added] = numbers_.try_emplace(targets, static_cast<uint32_t>(sets_.size()));
    if (added) {
      if (sets_.size() == StringAutomaton::kMostStates) {
        throw core::error(
            "pattern", "expected at most {} states, got more", StringAutomaton::kMostStates);
      }
      sets_.push_back(std::move(targets));
    }
    return found->second;
  }

  // With what is reached without a character, rising. Forks are left out.
  std::vector<uint32_t> closure(std::vector<uint32_t> open, bool at_start, bool at_end) {
    std::vector<uint32_t> result;
    std::vector<uint32_t> visited;
    while (!open.empty()) {
      const uint32_t index = open.back();
      open.pop_back();
      if (seen_[index]) {
        continue;
      }
      seen_[index] = true;
      visited.push_back(index);
      const Machine::State& state = machine_.states[index];
      if (state.kind == Machine::Kind::kFork) {
        open.push_back(state.next);
        open.push_back(state.other);
        continue;
      }
      if ((state.kind == Machine::Kind::kStart && at_start) ||
          (state.kind == Machine::Kind::kEnd && at_end)) {
        open.push_back(state.next);
      }
      // An anchor that cannot hold any more is no state.
      if (state.kind != Machine::Kind::kStart) {
        result.push_back(index);
      }
    }
    for (const uint32_t index : visited) {
      seen_[index] = false;
    }
    spend(work_, static_cast<int64_t>(visited.size()));
    std::sort(result.begin(), result.end());
    return result;
  }

  const Machine& machine_;
  size_t num_classes_;
  int64_t& work_;
  std::vector<bool> seen_;
  std::vector<std::vector<uint32_t>> sets_;
  std::map<std::vector<uint32_t>, uint32_t> numbers_;
};

// States that count characters as well, up to the bound that matters last.
void multiply_by_length(
    Subsets& machine, size_t num_classes, uint32_t least, uint32_t most, int64_t& work) {
  const bool bounded = most != StringAutomaton::kUnlimited;
  const uint32_t last = bounded ? most : least;
  std::vector<std::pair<uint32_t, uint32_t>> states{{0, 0}};
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> numbers{{{0, 0}, 0}};
  std::vector<uint32_t> table;
  std::vector<bool> accepting;
  for (size_t index = 0; index < states.size(); ++index) {
    const auto [state, count] = states[index];
    accepting.push_back(machine.accepting[state] && count >= least);
    for (size_t column = 0; column < num_classes; ++column) {
      spend(work, 2);
      const uint32_t next = machine.table[state * num_classes + column];
      if (next == StringAutomaton::kDead || (bounded && count == last)) {
        table.push_back(StringAutomaton::kDead);
        continue;
      }
      const std::pair<uint32_t, uint32_t> target{next, std::min(count + 1, last)};
      const auto [found, added] = numbers.try_emplace(target, static_cast<uint32_t>(states.size()));
      if (added) {
        states.push_back(target);
      }
      table.push_back(found->second);
    }
    if (states.size() > StringAutomaton::kMostStates) {
      throw core::error("pattern",
                        "expected at most {} states along with minLength and maxLength, got more",
                        StringAutomaton::kMostStates);
    }
  }
  machine.table = std::move(table);
  machine.accepting = std::move(accepting);
}

// Forbids what leads to states from which nothing is accepted; false: the start is one.
bool prune(std::vector<uint32_t>& table, const std::vector<bool>& accepting, size_t num_classes) {
  const size_t num_states = accepting.size();
  std::vector<size_t> begins(num_states + 1, 0);  // of each state's predecessors
  for (const uint32_t next : table) {
    begins[next == StringAutomaton::kDead ? 0 : next + 1] += next == StringAutomaton::kDead ? 0 : 1;
  }
  for (size_t state = 0; state < num_states; ++state) {
    begins[state + 1] += begins[state];
  }
  std::vector<uint32_t> before(begins.back());
  std::vector<size_t> filled(begins.begin(), begins.end() - 1);
  for (size_t entry = 0; entry < table.size(); ++entry) {
    if (table[entry] != StringAutomaton::kDead) {
      before[filled[table[entry]]++] = static_cast<uint32_t>(entry / num_classes);
    }
  }
  std::vector<bool> alive = accepting;
  std::vector<uint32_t> open;
  for (uint32_t state = 0; state < num_states; ++state) {
    if (alive[state]) {
      open.push_back(state);
    }
  }
  while (!open.empty()) {
    const uint32_t state = open.back();
    open.pop_back();
    for (size_t place = begins[state]; place < begins[state + 1]; ++place) {
      if (!alive[before[place]]) {
        alive[before[place]] = true;
        open.push_back(before[place]);
      }
    }
  }
  for (uint32_t& next : table) {
    next = next == StringAutomaton::kDead || alive[next] ? next : StringAutomaton::kDead;
  }
  return alive[0];
}

}  // namespace

StringAutomaton::StringAutomaton(std::string_view expression,
                                 uint32_t least,
                                 uint32_t most,
                                 int64_t& work)
    : least_(least), most_(most) {
  const std::vector<Part> parts = Parser(expression).parse();
  Machine machine{.parts = parts};
  const uint32_t match = machine.add({.kind = Machine::Kind::kMatch});
  const uint32_t body = machine.build(static_cast<uint32_t>(parts.size() - 1), match);
  // The expression may begin behind any characters.
  const uint32_t entry = machine.add({.kind = Machine::Kind::kFork, .next = body});
  machine.states[entry].other =
      machine.add({.kind = Machine::Kind::kSet, .next = entry, .set = {{0, kLastCharacter}}});

  starts_ = {0};
  for (const Part& part : parts) {
    for (const Range& range : part.set) {
      starts_.push_back(range.first);
      starts_.push_back(range.last + 1);
    }
  }
  std::sort(starts_.begin(), starts_.end());
  starts_.erase(std::unique(starts_.begin(), starts_.end()), starts_.end());
  starts_.erase(std::lower_bound(starts_.begin(), starts_.end(), kLastCharacter + 1),
                starts_.end());
  if (starts_.size() > kMostClasses) {
    throw core::error(
        "pattern", "expected at most {} ranges of characters, got more", kMostClasses);
  }
  for (Machine::State& state : machine.states) {
    if (state.kind == Machine::Kind::kSet) {
      spend(work, static_cast<int64_t>(starts_.size() / 8 + state.set.size()));
      state.in.resize(starts_.size());
      size_t column = 0;
      for (const Range& range : state.set) {
        column = static_cast<size_t>(
            std::lower_bound(
                starts_.begin() + static_cast<std::ptrdiff_t>(column), starts_.end(), range.first) -
            starts_.begin());
        for (; column < starts_.size() && starts_[column] <= range.last; ++column) {
          state.in[column] = true;
        }
      }
    }
  }
  Subsets subsets(machine, starts_.size(), work);
  subsets.run(entry);
  if (least > 0 || most != kUnlimited) {
    multiply_by_length(subsets, starts_.size(), least, most, work);
  }
  if (!prune(subsets.table, subsets.accepting, starts_.size())) {
    throw core::error("pattern", "expected an expression that some text matches, got none");
  }
  table_ = std::move(subsets.table);
  accepting_ = std::move(subsets.accepting);
  for (uint32_t character = 0; character < ascii_.size(); ++character) {
    ascii_[character] = static_cast<uint16_t>(
        std::upper_bound(starts_.begin(), starts_.end(), character) - starts_.begin() - 1);
  }
}

size_t StringAutomaton::class_of(uint32_t code_point) const {
  if (code_point < ascii_.size()) {
    return ascii_[code_point];
  }
  return static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), code_point) -
                             starts_.begin() - 1);
}

bool StringAutomaton::continues(uint32_t state, uint32_t first, uint32_t last) const {
  if (counts()) {
    return state < most_;
  }
  const uint32_t* row = &table_[state * num_classes()];
  return std::any_of(
      row + class_of(first), row + class_of(last) + 1, [](uint32_t next) { return next != kDead; });
}

}  // namespace adze::text
