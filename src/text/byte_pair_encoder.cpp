#include "text/byte_pair_encoder.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>

#include "core/error.h"
#include "text/byte_alphabet.h"

namespace adze::text {

namespace {

constexpr int32_t kNoToken = -1;
constexpr int32_t kNoPosition = -1;
// Up to here a scan for the best pair beats a heap: a cache line or three of ranks.
constexpr size_t kShortPiece = 48;

// Text must never become a token that steers the model, or a stranger could end a turn.
bool may_come_from_text(TokenKind kind) {
  return kind != TokenKind::kControl && kind != TokenKind::kUnknown;
}

bool is_concatenation(std::string_view text, std::string_view left, std::string_view right) {
  return text.size() == left.size() + right.size() && text.starts_with(left) &&
         text.ends_with(right);
}

// The tokens of a long piece, linked so that a merge removes its right token in O(1), and a queue
// of the pairs that can merge.
class LinkedPiece {
 public:
  LinkedPiece(std::span<int32_t> tokens, const MergeTable& merges)
      : tokens_(tokens), merges_(merges), links_(tokens.size()) {
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
  std::vector<Link> links_;
  Queue queue_;
};

}  // namespace

BytePairEncoder::BytePairEncoder(const TokenizerSpec& spec, const TextIndex& index)
    : merges_(spec.merges.size()) {
  fill_byte_tokens(spec, index);
  fill_merges(spec, index);
}

void BytePairEncoder::fill_byte_tokens(const TokenizerSpec& spec, const TextIndex& index) {
  token_of_byte_.fill(kNoToken);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.kinds[id] != TokenKind::kByte) {
      continue;
    }
    const auto byte = byte_named(spec.tokens[id]);
    if (!byte) {
      throw core::error("tokenizer",
                        "tokens[{}]: expected a byte token <0x00> to <0xFF>, got '{:.80}'",
                        id,
                        spec.tokens[id]);
    }
    token_of_byte_[*byte] = static_cast<int32_t>(id);
  }
  for (size_t byte = 0; byte < token_of_byte_.size(); ++byte) {
    const char text = static_cast<char>(byte);
    const auto id = index.find(alphabet_from_bytes({&text, 1}));
    if (id && may_come_from_text(spec.kinds[static_cast<size_t>(*id)])) {
      token_of_byte_[byte] = *id;
    }
    if (token_of_byte_[byte] == kNoToken) {
      missing_bytes_ += text;
    }
  }
}

void BytePairEncoder::fill_merges(const TokenizerSpec& spec, const TextIndex& index) {
  int32_t token = kNoToken;  // of the merge before
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const std::string_view line = spec.merges[rank];
    const size_t space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      throw core::error(
          "tokenizer", "merges[{}]: expected two texts and one space, got '{:.80}'", rank, line);
    }
    const auto find = [&](std::string_view text) {
      const auto id = index.find(text);
      if (!id) {
        throw core::error("tokenizer", "merges[{}]: '{:.80}' is not a token", rank, text);
      }
      return *id;
    };
    const std::string_view left = line.substr(0, space);
    const std::string_view right = line.substr(space + 1);
    // Vocabularies list merged tokens in the order of their merges: the next one is worth a look
    // before the index is asked, and saves a third of the time.
    const size_t next = token == kNoToken ? 0 : static_cast<size_t>(token) + 1;
    token = next < spec.tokens.size() && is_concatenation(spec.tokens[next], left, right)
                ? static_cast<int32_t>(next)
                : find(std::string(left).append(right));
    if (may_come_from_text(spec.kinds[static_cast<size_t>(token)])) {
      merges_.insert(find(left), find(right), {static_cast<uint32_t>(rank), token});
    }
  }
}

void BytePairEncoder::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (piece.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw core::error("tokenizer", "text: a piece of {} bytes exceeds 2^31 - 1", piece.size());
  }
  const size_t begin = ids.size();
  for (const char byte : piece) {
    const int32_t token = token_of_byte_[static_cast<uint8_t>(byte)];
    if (token != kNoToken) {
      ids.push_back(token);
    }
  }
  const std::span<int32_t> tokens = std::span(ids).subspan(begin);
  if (tokens.size() > 1) {
    ids.resize(begin + (tokens.size() <= kShortPiece ? merge_short(tokens) : merge_long(tokens)));
  }
}

size_t BytePairEncoder::merge_short(std::span<int32_t> tokens) const {
  std::array<uint32_t, kShortPiece> ranks;   // of the pair that begins at each token
  std::array<int32_t, kShortPiece> results;  // what the pair merges into
  size_t count = tokens.size();
  const auto look_up = [&](size_t index) {
    const Merge merge = merges_.find(tokens[index], tokens[index + 1]);
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

size_t BytePairEncoder::merge_long(std::span<int32_t> tokens) const {
  LinkedPiece piece(tokens, merges_);
  while (piece.merge_best()) {
  }
  return piece.compact();
}

}  // namespace adze::text
