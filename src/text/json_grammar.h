#pragma once
// What a schema is compiled to. Internal to json_schema.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "text/json_schema.h"
#include "text/string_automaton.h"

namespace adze::text {

// Texts of bytes or characters as a tree.
class SymbolTrie {
 public:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  SymbolTrie() : SymbolTrie(std::vector<std::u32string>{}) {}
  explicit SymbolTrie(const std::vector<std::u32string>& texts);  // rising, each once

  uint32_t child(uint32_t node, uint32_t symbol) const;
  bool has_children(uint32_t node) const { return first_child(node) != first_child(node + 1); }
  // Numbers of the texts that begin with the node's.
  uint32_t begin(uint32_t node) const { return nodes_[node].begin; }
  uint32_t end(uint32_t node) const { return nodes_[node].end; }
  bool ends_text(uint32_t node) const { return nodes_[node].ends_text; }  // number begin(node)
  // Children with symbols from `first` to `last`: use(child) until it is true.
  template <class Use>
  bool any_child(uint32_t node, uint32_t first, uint32_t last, Use&& use) const {
    for (uint32_t next = first_child(node); next < first_child(node + 1); ++next) {
      if (nodes_[next].symbol >= first && nodes_[next].symbol <= last && use(next)) {
        return true;
      }
    }
    return false;
  }

 private:
  struct Node {
    uint32_t symbol = 0;
    uint32_t first_child = 0;
    uint32_t begin = 0;
    uint32_t end = 0;
    bool ends_text = false;
  };
  uint32_t first_child(uint32_t node) const { return nodes_[node].first_child; }

  std::vector<Node> nodes_;  // and one behind the last
};

struct GrammarNode {
  enum class Kind : uint8_t {
    kAlternatives,
    kString,
    kLiterals,
    kDecimal,
    kNumber,
    kObject,
    kList
  };
  static constexpr uint32_t kNever = std::numeric_limits<uint32_t>::max();

  Kind kind = Kind::kAlternatives;
  uint32_t index = 0;                       // in the list of its kind
  uint32_t height = kNever;                 // objects and lists that a value has at least
  std::vector<uint32_t> alternatives = {};  // of no alternatives; itself if it is none
};

// Whole multiples of 10^-decimals; bounds are multiples too.
struct DecimalRange {
  int64_t least;
  int64_t most;
  uint8_t decimals;
};

struct ObjectShape {
  static constexpr uint32_t kOther = SymbolTrie::kNone;  // the state of a key without a property

  std::vector<uint32_t> properties;  // nodes
  std::vector<uint32_t>
      next_required;            // [properties + 1]: the first from there on, or their number
  std::vector<uint32_t> ranks;  // of each property among the sorted names
  std::vector<uint32_t> by_rank;
  SymbolTrie names;
  uint32_t additional = SymbolTrie::kNone;  // node
};

struct ListShape {
  std::vector<uint32_t> prefix;
  uint32_t rest = SymbolTrie::kNone;
  uint32_t least = 0;
  uint32_t most = std::numeric_limits<uint32_t>::max();

  uint32_t item(uint32_t place) const { return place < prefix.size() ? prefix[place] : rest; }
};

struct JsonGrammar::Parts {
  static constexpr uint32_t kAnyValue = 0;
  static constexpr uint32_t kAnyString = 1;  // its automaton too is free, and serves all such

  uint32_t root = kAnyValue;
  std::vector<GrammarNode> nodes;
  std::vector<StringAutomaton> strings;
  std::vector<SymbolTrie> literals;
  std::vector<DecimalRange> decimals;
  std::vector<ObjectShape> objects;
  std::vector<ListShape> lists;

  // Whether a value of the node fits into so many objects and lists.
  bool fits(uint32_t node, size_t depth) const {
    return nodes[node].height <= kMostDepth && depth + nodes[node].height <= kMostDepth;
  }
};

}  // namespace adze::text
