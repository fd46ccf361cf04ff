#include "text/pair_merger.h"

#include <algorithm>
#include <array>
#include <limits>
#include <queue>
#include <vector>

#include "core/error.h"

namespace adze::text {

namespace {

constexpr int32_t kNoPosition = -1;
// Up to here a scan for the best pair beats a heap: a cache line or three of ranks.
constexpr size_t kShortPiece = 48;

// The tokens of a long piece, linked so that a merge removes its right token in O(1), and a queue
// of the pairs that can merge.
class LinkedPiece {
 public:
  LinkedPiece(std::span<int32_t> tokens, const MergeTable& merges, const MergeObserver* observer)
      : tokens_(tokens), merges_(merges), observer_(observer), links_(tokens.size()) {
    const auto count = static_cast<int32_t>(tokens.size());
    std::vector<uint64_t> entries;
    for (int32_t position = 0; position < count; ++position) {
      const bool last = position + 1 == count;
      const Merge merge = last ? Merge{} : merges_.find(token(position), token(position + 1));
      link(position) = {position - 1, last ? kNoPosition : position + 1, merge};
      if (merge.rank != Merge::kNone) {
        entries.push_back(entry(merge.rank, position));
      }
    }
    queue_ = Queue(std::greater<>(), std::move(entries));
  }

  // Merges the best pair; false where there is none left.
  bool merge_best() {
    while (!queue_.empty()) {
      const auto rank = static_cast<uint32_t>(queue_.top() >> 32);
      const auto position = static_cast<int32_t>(queue_.top() & 0xFFFFFFFFU);
      queue_.pop();
      // Entries stay when a neighbour merges; one whose rank is no longer its link's is void.
      if (link(position).merge.rank == rank) {
        merge_at(position);
        return true;
      }
    }
    return false;
  }

  // Moves the tokens that are left to the front; returns how many they are.
  size_t compact() {
    size_t count = 0;
    for (int32_t position = 0; position != kNoPosition; position = link(position).next) {
      tokens_[count++] = token(position);
    }
    return count;
  }

 private:
  struct Link {
    int32_t previous;
    int32_t next;
    Merge merge;  // with the next token
  };
  using Queue = std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>>;

  // Rank in the high half and position in the low one: the order in which pairs merge.
  static uint64_t entry(uint32_t rank, int32_t position) {
    return (static_cast<uint64_t>(rank) << 32) | static_cast<uint32_t>(position);
  }
  Link& link(int32_t position) { return links_[static_cast<size_t>(position)]; }
  int32_t& token(int32_t position) { return tokens_[static_cast<size_t>(position)]; }

  void merge_at(int32_t position) {
    Link& pair = link(position);
    Link& right = link(pair.next);
    if (observer_ != nullptr) {
      (*observer_)(token(position), token(pair.next), pair.merge.token);
    }
    token(position) = pair.merge.token;
    right.merge = {};  // gone
    pair.next = right.next;
    if (pair.next != kNoPosition) {
      link(pair.next).previous = position;
    }
    look_up(position);
    if (pair.previous != kNoPosition) {
      look_up(pair.previous);
    }
  }

  void look_up(int32_t position) {
    Link& pair = link(position);
    pair.merge =
        pair.next == kNoPosition ? Merge{} : merges_.find(token(position), token(pair.next));
    if (pair.merge.rank != Merge::kNone) {
      queue_.push(entry(pair.merge.rank, position));
    }
  }

  std::span<int32_t> tokens_;
  const MergeTable& merges_;
  const MergeObserver* observer_;
  std::vector<Link> links_;
  Queue queue_;
};

// With an observer or without: encoding spends half its time here.
template <bool kObserved>
size_t merge_short(std::span<int32_t> tokens,
                   const MergeTable& merges,
                   const MergeObserver* observer) {
  std::array<uint32_t, kShortPiece> ranks;   // of the pair that begins at each token
  std::array<int32_t, kShortPiece> results;  // what the pair merges into
  size_t count = tokens.size();
  const auto look_up = [&](size_t index) {
    const Merge merge = merges.find(tokens[index], tokens[index + 1]);
    ranks[index] = merge.rank;
    results[index] = merge.token;
  };
  for (size_t index = 0; index + 1 < count; ++index) {
    look_up(index);
  }
  while (count > 1) {
    const size_t pairs = count - 1;
    const size_t best =
        static_cast<size_t>(std::min_element(ranks.begin(), ranks.begin() + pairs) - ranks.begin());
    if (ranks[best] == Merge::kNone) {
      break;
    }
    if constexpr (kObserved) {
      (*observer)(tokens[best], tokens[best + 1], results[best]);
    }
    tokens[best] = results[best];
    for (size_t index = best + 1; index + 1 < count; ++index) {
      tokens[index] = tokens[index + 1];
      ranks[index] = ranks[index + 1];
      results[index] = results[index + 1];
    }
    --count;
    if (best > 0) {
      look_up(best - 1);
    }
    if (best + 1 < count) {
      look_up(best);
    }
  }
  return count;
}

size_t merge_long(std::span<int32_t> tokens,
                  const MergeTable& merges,
                  const MergeObserver* observer) {
  LinkedPiece piece(tokens, merges, observer);
  while (piece.merge_best()) {
  }
  return piece.compact();
}

}  // namespace

size_t merge_pairs(std::span<int32_t> tokens,
                   const MergeTable& merges,
                   const MergeObserver* observer) {
  if (tokens.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw core::error("tokenizer", "text: a piece of {} tokens exceeds 2^31 - 1", tokens.size());
  }
  if (tokens.size() < 2) {
    return tokens.size();
  }
  if (tokens.size() > kShortPiece) {
    return merge_long(tokens, merges, observer);
  }
  return observer == nullptr ? merge_short<false>(tokens, merges, observer)
                             : merge_short<true>(tokens, merges, observer);
}

}  // namespace adze::text
