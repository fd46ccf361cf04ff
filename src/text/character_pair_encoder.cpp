#include "text/character_pair_encoder.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "text/byte_alphabet.h"
#include "text/pair_merger.h"
#include "text/utf8.h"
#include "text/vocabulary_merges.h"

namespace adze::text {

namespace {

constexpr std::string_view kWordStart = "\u2581";
constexpr uint32_t kNumLow = 0x10000;
// Bounds on time and memory that a hostile vocabulary can ask for. The largest known have 93 bytes
// in a token and 0.6 million pairs.
constexpr size_t kMaxScoredTokenBytes = 512;
constexpr size_t kMaxPairs = (size_t{1} << 20) - 1;

// Stands for a character without a token: negative, so that it is in no merge.
constexpr int32_t symbol_of(uint32_t code_point) {
  return -2 - static_cast<int32_t>(code_point);
}
constexpr uint32_t character_of(int32_t symbol) {
  return static_cast<uint32_t>(-2 - symbol);
}

size_t character_bytes(std::string_view text) {
  return next_character(text).length;
}

bool is_one_character(std::string_view text) {
  return !text.empty() && character_bytes(text) == text.size();
}

SpecialTokenFinder user_defined_finder(const TokenizerSpec& spec) {
  std::vector<std::pair<std::string_view, int32_t>> tokens;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.model == TokenizerModel::kScoredPairs && spec.kinds[id] == TokenKind::kUserDefined) {
      tokens.emplace_back(spec.tokens[id], static_cast<int32_t>(id));
    }
  }
  return SpecialTokenFinder(std::move(tokens));
}

struct Pair {
  double score;
  int32_t left;
  int32_t right;
  int32_t token;
};

}  // namespace

CharacterPairEncoder::CharacterPairEncoder(const TokenizerSpec& spec, const TextIndex& index)
    : spec_(&spec),
      index_(&index),
      token_of_low_(kNumLow, kNoToken),
      merges_(spec.merges.size()),
      user_defined_(user_defined_finder(spec)) {
  fill_characters();
  if (spec.model == TokenizerModel::kScoredPairs) {
    fill_scored_merges();
  } else {
    fill_merges();
  }
  const auto word_start = index.find(kWordStart);
  words_are_apart_ = words_are_apart_ && word_start && token_of_low_[0x2581] != kNoToken;
}

void CharacterPairEncoder::fill_characters() {
  token_of_byte_.fill(kNoToken);
  for (size_t id = spec_->tokens.size(); id-- > 0;) {  // of equal texts the first counts
    const std::string& text = spec_->tokens[id];
    const TokenKind kind = spec_->kinds[id];
    if (const auto byte = byte_named(text); byte && kind == TokenKind::kByte) {
      token_of_byte_[*byte] = static_cast<int32_t>(id);
    }
    if (!may_come_from_text(kind) || !is_one_character(text)) {
      continue;
    }
    const Utf8Step step = next_character(text);
    if (step.state == Utf8Step::State::kCharacter && step.code_point < kNumLow) {
      token_of_low_[step.code_point] = static_cast<int32_t>(id);
    }
  }
}

void CharacterPairEncoder::fill_merges() {
  for_each_merge(*spec_, *index_, [&](size_t rank, int32_t left, int32_t right, int32_t token) {
    if (may_come_from_text(spec_->kinds[static_cast<size_t>(token)])) {
      merges_.insert(left, right, {static_cast<uint32_t>(rank), token});
      note_inner_word_start(spec_->tokens[static_cast<size_t>(token)]);
    }
  });
}

void CharacterPairEncoder::note_inner_word_start(std::string_view text) {
  while (text.starts_with(kWordStart)) {
    text.remove_prefix(kWordStart.size());
  }
  words_are_apart_ &= text.find(kWordStart) == std::string_view::npos;
}

// Every way to put a token together from two others, or from characters, is a merge; of the rank
// that its score has among the scores. Characters that only occur within tokens get ids above the
// vocabulary.
void CharacterPairEncoder::fill_scored_merges() {
  std::vector<Pair> pairs;
  const auto mergeable = [&](int32_t id) {
    const TokenKind kind = spec_->kinds[static_cast<size_t>(id)];
    return kind == TokenKind::kNormal || kind == TokenKind::kUnused;
  };
  const auto symbol = [&](std::string_view text) {
    if (const auto id = index_->find(text); id && mergeable(*id)) {
      return *id;
    }
    if (!is_one_character(text)) {
      return kNoToken;
    }
    const auto next = static_cast<int32_t>(spec_->tokens.size() + characters_.size());
    const uint32_t code_point = next_character(text).code_point;
    const auto [place, added] = inner_.try_emplace(code_point, next);
    if (added) {
      characters_.push_back(code_point);
    }
    return place->second;
  };
  for (size_t id = 0; id < spec_->tokens.size(); ++id) {
    const std::string_view text = spec_->tokens[id];
    if (!mergeable(static_cast<int32_t>(id)) || valid_prefix(text) != text.size()) {
      continue;
    }
    if (!std::isfinite(spec_->scores[id])) {
      throw core::error(
          "tokenizer", "scores[{}]: expected a number, got {}", id, spec_->scores[id]);
    }
    if (text.size() > kMaxScoredTokenBytes) {
      throw core::error("tokenizer",
                        "tokens[{}]: expected at most {} bytes, got {}",
                        id,
                        kMaxScoredTokenBytes,
                        text.size());
    }
    has_unused_ |= spec_->kinds[id] == TokenKind::kUnused;
    note_inner_word_start(text);
    if (text.empty() || index_->find(text) != static_cast<int32_t>(id)) {
      continue;
    }
    for (size_t cut = character_bytes(text); cut < text.size();
         cut += character_bytes(text.substr(cut))) {
      const int32_t left = symbol(text.substr(0, cut));
      const int32_t right = left == kNoToken ? kNoToken : symbol(text.substr(cut));
      if (right != kNoToken) {
        pairs.push_back({spec_->scores[id], left, right, static_cast<int32_t>(id)});
      }
    }
    if (pairs.size() > kMaxPairs) {
      throw core::error("tokenizer", "tokens: expected at most {} pairs in them", kMaxPairs);
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(), [](const Pair& first, const Pair& second) {
    return first.score > second.score;
  });
  merges_ = MergeTable(pairs.size());
  uint32_t rank = 0;
  for (size_t index = 0; index < pairs.size(); ++index) {
    rank += index > 0 && pairs[index].score != pairs[index - 1].score ? 1 : 0;
    merges_.insert(pairs[index].left, pairs[index].right, {rank, pairs[index].token});
  }
  for (const auto& [code_point, id] : inner_) {
    if (code_point < kNumLow) {
      token_of_low_[code_point] = id;
    }
  }
}

int32_t CharacterPairEncoder::token_of(uint32_t code_point, std::string_view bytes) const {
  if (code_point < kNumLow) {
    return token_of_low_[code_point];
  }
  const auto id = index_->find(bytes);
  if (id && may_come_from_text(spec_->kinds[static_cast<size_t>(*id)])) {
    return *id;
  }
  const auto found = inner_.find(code_point);
  return found == inner_.end() ? kNoToken : found->second;
}

bool CharacterPairEncoder::has_byte_tokens(std::string_view bytes) const {
  return spec_->byte_fallback && std::all_of(bytes.begin(), bytes.end(), [&](char byte) {
           return token_of_byte_[static_cast<uint8_t>(byte)] != kNoToken;
         });
}

void CharacterPairEncoder::append_bytes(std::string_view bytes, std::vector<int32_t>& ids) const {
  for (const char byte : bytes) {
    ids.push_back(token_of_byte_[static_cast<uint8_t>(byte)]);
  }
}

void CharacterPairEncoder::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (spec_->prefers_whole_tokens) {
    const auto id = index_->find(piece);
    if (id && may_come_from_text(spec_->kinds[static_cast<size_t>(*id)])) {
      ids.push_back(*id);
      return;
    }
  }
  if (spec_->model != TokenizerModel::kScoredPairs) {
    encode_words(piece, ids);
    return;
  }
  size_t position = 0;
  while (const auto found = user_defined_.find(piece, position)) {
    encode_words(piece.substr(position, found->begin - position), ids);
    ids.push_back(found->id);
    position = found->begin + found->length;
  }
  encode_words(piece.substr(position), ids);
}

// Nothing merges over the front of a word if no token does, so that words are done one by one:
// short pieces are the fast ones.
void CharacterPairEncoder::encode_words(std::string_view piece, std::vector<int32_t>& ids) const {
  size_t begin = 0;
  const auto encode_word = [&](size_t end) {
    const std::string_view word = piece.substr(begin, end - begin);
    if (!word.empty()) {
      spec_->model == TokenizerModel::kScoredPairs ? encode_scored(word, ids)
                                                   : encode_merged(word, ids);
    }
    begin = end;
  };
  if (words_are_apart_) {
    size_t found = piece.find(kWordStart);
    while (found != std::string_view::npos) {
      const size_t run_end = found + kWordStart.size();
      const bool after_word_start =
          found >= kWordStart.size() &&
          piece.substr(found - kWordStart.size(), kWordStart.size()) == kWordStart;
      if (!after_word_start) {
        encode_word(found);
      }
      found = piece.find(kWordStart, run_end);
    }
  }
  encode_word(piece.size());
}

// As `tokenizers`: unknown characters are replaced before anything merges.
void CharacterPairEncoder::encode_merged(std::string_view piece, std::vector<int32_t>& ids) const {
  const size_t begin = ids.size();
  bool unknown_waits = false;  // NOTE: the reference puts it behind bytes that follow it
  const auto flush_unknown = [&] {
    if (std::exchange(unknown_waits, false)) {
      ids.push_back(*spec_->unknown);
    }
  };
  for (std::string_view rest = piece; !rest.empty();) {
    const Utf8Step step = next_character(rest);
    const std::string_view bytes = rest.substr(0, step.length);
    rest.remove_prefix(step.length);
    const int32_t token = token_of(step.code_point, bytes);
    if (token != kNoToken) {
      flush_unknown();
      ids.push_back(token);
    } else if (has_byte_tokens(bytes)) {
      append_bytes(bytes, ids);
    } else if (spec_->writes_unknown) {
      if (!spec_->fuse_unknown) {
        flush_unknown();
      }
      unknown_waits = true;
    }
  }
  flush_unknown();
  ids.resize(begin + merge_pairs(std::span(ids).subspan(begin), merges_));
}

// As SentencePiece: what is left without a token after merging is replaced.
void CharacterPairEncoder::encode_scored(std::string_view piece, std::vector<int32_t>& ids) const {
  std::vector<int32_t> symbols;
  symbols.reserve(piece.size());
  for (std::string_view rest = piece; !rest.empty();) {
    const Utf8Step step = next_character(rest);
    const int32_t token = token_of(step.code_point, rest.substr(0, step.length));
    symbols.push_back(token != kNoToken ? token : symbol_of(step.code_point));
    rest.remove_prefix(step.length);
  }
  std::unordered_map<int32_t, std::pair<int32_t, int32_t>> parts;  // of unused tokens
  const MergeObserver note_unused = [&](int32_t left, int32_t right, int32_t token) {
    if (spec_->kinds[static_cast<size_t>(token)] == TokenKind::kUnused) {
      parts[token] = {left, right};
    }
  };
  symbols.resize(merge_pairs(symbols, merges_, has_unused_ ? &note_unused : nullptr));
  const auto num_tokens = static_cast<int32_t>(spec_->tokens.size());
  bool after_unknown = false;
  std::vector<int32_t> open;  // symbols to write, the next one last
  for (const int32_t symbol : symbols) {
    open.assign(1, symbol);
    while (!open.empty()) {
      const int32_t next = open.back();
      open.pop_back();
      if (next < 0) {
        append_fallback(character_of(next), after_unknown, ids);
      } else if (next >= num_tokens) {
        append_fallback(characters_[static_cast<size_t>(next - num_tokens)], after_unknown, ids);
      } else if (const auto found = parts.find(next); found != parts.end()) {
        open.push_back(found->second.second);
        open.push_back(found->second.first);
      } else {
        after_unknown = false;
        ids.push_back(next);
      }
    }
  }
}

void CharacterPairEncoder::append_fallback(uint32_t code_point,
                                           bool& after_unknown,
                                           std::vector<int32_t>& ids) const {
  std::string bytes;
  append_utf8(bytes, code_point);
  if (has_byte_tokens(bytes)) {
    append_bytes(bytes, ids);
    after_unknown = false;
  } else if (spec_->unknown && !after_unknown) {
    ids.push_back(*spec_->unknown);
    after_unknown = true;
  }
}

}  // namespace adze::text
