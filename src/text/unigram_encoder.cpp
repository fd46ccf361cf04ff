#include "text/unigram_encoder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"
#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace adze::text {

namespace {

constexpr double kUnknownPenalty = 10;  // below the worst token; as SentencePiece
constexpr double kUserDefinedPenalty = 0.1;
constexpr uint32_t kUnreached = std::numeric_limits<uint32_t>::max();

ByteTrie make_trie(const TokenizerSpec& spec) {
  std::vector<std::pair<std::string_view, int32_t>> entries;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const TokenKind kind = spec.kinds[id];
    const bool excluded =
        spec.sentencepiece_rules && (kind == TokenKind::kByte || kind == TokenKind::kUnused);
    const std::string_view text = spec.tokens[id];
    if (may_come_from_text(kind) && !excluded && !text.empty() &&
        valid_prefix(text) == text.size()) {
      entries.emplace_back(text, static_cast<int32_t>(id));
    }
  }
  return ByteTrie(std::move(entries));
}

}  // namespace

UnigramEncoder::UnigramEncoder(const TokenizerSpec& spec)
    : spec_(&spec), trie_(make_trie(spec)), scores_(spec.scores) {
  if (!spec.unknown) {
    throw core::error("tokenizer", "unknown: expected a token for unknown characters, got none");
  }
  unknown_ = *spec.unknown;
  double worst = std::numeric_limits<float>::max();
  best_score_ = std::numeric_limits<float>::min();  // as SentencePiece: the least above zero
  has_bonus_.resize(spec.tokens.size());
  token_of_byte_.fill(kNoToken);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!std::isfinite(scores_[id]) || std::abs(scores_[id]) > 1e30) {
      throw core::error("tokenizer", "scores[{}]: expected -1e30 to 1e30, got {}", id, scores_[id]);
    }
    const TokenKind kind = spec.kinds[id];
    if (!spec.sentencepiece_rules || kind == TokenKind::kNormal) {
      worst = std::min(worst, scores_[id]);
      best_score_ = std::max(best_score_, scores_[id]);
    }
    has_bonus_[id] = spec.sentencepiece_rules && kind == TokenKind::kUserDefined;
    if (const auto byte = byte_named(spec.tokens[id]); byte && kind == TokenKind::kByte) {
      token_of_byte_[*byte] = static_cast<int32_t>(id);
    }
  }
  unknown_score_ = worst - kUnknownPenalty;
}

double UnigramEncoder::score_of(int32_t token, size_t bytes) const {
  const auto id = static_cast<size_t>(token);
  return has_bonus_[id]
             ? static_cast<double>(static_cast<float>(bytes) * static_cast<float>(best_score_)) -
                   kUserDefinedPenalty
             : scores_[id];
}

void UnigramEncoder::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  spec_->single_precision ? encode_as<float>(piece, ids) : encode_as<double>(piece, ids);
}

// Where no token spans a place, the best way to it is settled: it is written, and the memory used
// again.
template <class Score>
void UnigramEncoder::encode_as(std::string_view piece, std::vector<int32_t>& ids) const {
  constexpr Node<Score> kEmpty{0, kUnreached, kNoToken};
  std::vector<Node<Score>> nodes(1, kEmpty);  // by place behind `base`
  size_t base = 0;
  size_t furthest = 0;  // end of the longest token so far
  bool after_unknown = false;
  const auto offer = [&](size_t start, size_t end, Score candidate, int32_t token) {
    if (nodes.size() <= end - base) {
      nodes.resize(end - base + 1, kEmpty);
    }
    furthest = std::max(furthest, end);
    Node<Score>& node = nodes[end - base];
    if (node.start == kUnreached || candidate > node.score) {
      node = {candidate, static_cast<uint32_t>(start - base), token};
    }
  };
  for (size_t start = 0; start < piece.size();) {
    if (start == furthest && start > base) {
      append_path(piece.substr(base, start - base), nodes, after_unknown, ids);
      nodes.front() = {nodes[start - base].score, kUnreached, kNoToken};
      nodes.resize(1);
      base = start;
    } else if (start - base > kUnreached / 2) {
      throw core::error("tokenizer", "text: a piece of {} bytes exceeds 2^31", piece.size());
    }
    const Score score = nodes[start - base].score;
    const size_t length = next_character(piece.substr(start)).length;
    bool has_character = false;
    uint32_t node = ByteTrie::kRoot;
    for (size_t end = start; end < piece.size();) {
      node = trie_.child(node, static_cast<uint8_t>(piece[end++]));
      if (node == ByteTrie::kNone) {
        break;
      }
      if (const int32_t token = trie_.value(node); token != ByteTrie::kNoValue) {
        has_character |= end - start == length;
        offer(start, end, static_cast<Score>(score_of(token, end - start)) + score, token);
      }
    }
    if (!has_character) {
      offer(start, start + length, static_cast<Score>(unknown_score_) + score, unknown_);
    }
    start += length;
  }
  append_path(piece.substr(base), nodes, after_unknown, ids);
}

template <class Score>
void UnigramEncoder::append_path(std::string_view text,
                                 const std::vector<Node<Score>>& nodes,
                                 bool& after_unknown,
                                 std::vector<int32_t>& ids) const {
  const size_t begin = ids.size();
  std::vector<std::pair<uint32_t, uint32_t>>
      unknown;  // places of unknown characters, the last first
  for (size_t end = text.size(); end > 0; end = nodes[end].start) {
    ids.push_back(nodes[end].token);
    if (nodes[end].token == unknown_) {
      unknown.emplace_back(nodes[end].start, static_cast<uint32_t>(end));
    }
  }
  std::reverse(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end());
  if (unknown.empty()) {
    after_unknown = after_unknown && ids.size() == begin;
    return;
  }
  const std::vector<int32_t> path(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end());
  ids.resize(begin);
  for (const int32_t token : path) {
    if (token == unknown_) {
      const auto [start, end] = unknown.back();
      unknown.pop_back();
      append_unknown(text.substr(start, end - start), after_unknown, ids);
    } else {
      ids.push_back(token);
      after_unknown = false;
    }
  }
}

// A run of unknown characters is one token; with byte fallback, their bytes.
void UnigramEncoder::append_unknown(std::string_view text,
                                    bool& after_unknown,
                                    std::vector<int32_t>& ids) const {
  const bool has_bytes =
      spec_->byte_fallback && std::all_of(text.begin(), text.end(), [&](char byte) {
        return token_of_byte_[static_cast<uint8_t>(byte)] != kNoToken;
      });
  if (has_bytes) {
    for (const char byte : text) {
      ids.push_back(token_of_byte_[static_cast<uint8_t>(byte)]);
    }
    after_unknown = false;
  } else {
    if (!after_unknown) {
      ids.push_back(unknown_);
    }
    after_unknown = true;
  }
}

}  // namespace adze::text
