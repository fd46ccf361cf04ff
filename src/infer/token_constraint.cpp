#include "infer/token_constraint.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "text/utf8.h"

namespace adze::infer {
namespace {

constexpr size_t kMostKeptStrings = 512;  // about 6 KiB each for 49,152 tokens

void set_bits(std::span<const int32_t> tokens, std::span<uint64_t> bits) {
  for (const int32_t token : tokens) {
    bits[static_cast<size_t>(token) / 64] |= uint64_t{1} << (static_cast<size_t>(token) % 64);
  }
}

bool is_ordinary(text::TokenKind kind) {
  return kind == text::TokenKind::kNormal || kind == text::TokenKind::kUserDefined ||
         kind == text::TokenKind::kByte;
}

}  // namespace

TokenVocabulary::TokenVocabulary(const text::Tokenizer& tokenizer) : tokenizer_(&tokenizer) {
  const std::vector<int32_t>& ends = tokenizer.end_of_generation();
  bool parts_characters = false;
  for (int32_t token = 0; token < tokenizer.vocab_size(); ++token) {
    const std::string& bytes = tokenizer.token_bytes(token);
    if (is_ordinary(tokenizer.spec().kinds[static_cast<size_t>(token)]) && !bytes.empty() &&
        bytes.size() <= kMostBytes && !std::binary_search(ends.begin(), ends.end(), token)) {
      tokens_.push_back(token);
      parts_characters |= text::valid_prefix(bytes) != bytes.size();
    }
  }
  // By bytes as unsigned numbers, which is how strings compare.
  std::sort(tokens_.begin(), tokens_.end(), [&](int32_t left, int32_t right) {
    return std::pair(std::string_view(tokenizer.token_bytes(left)), left) <
           std::pair(std::string_view(tokenizer.token_bytes(right)), right);
  });
  std::array<bool, 256> covered{};
  std::vector<uint32_t> path;  // nodes of the bytes of the last token
  std::string_view last;
  for (size_t place = 0; place < tokens_.size(); ++place) {
    const std::string_view bytes = tokenizer.token_bytes(tokens_[place]);
    size_t common = 0;
    while (common < path.size() && common < bytes.size() && bytes[common] == last[common]) {
      ++common;
    }
    for (; path.size() > common; path.pop_back()) {
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
    }
    for (; common < bytes.size(); ++common) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.end = 0,
                        .first_token = static_cast<uint32_t>(place),
                        .depth = static_cast<uint8_t>(common + 1),
                        .byte = static_cast<uint8_t>(bytes[common])});
    }
    last = bytes;
    if (bytes.size() == 1) {
      covered[static_cast<uint8_t>(bytes[0])] = true;
    }
  }
  for (; !path.empty(); path.pop_back()) {
    nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
  }
  nodes_.push_back(
      {.end = 0, .first_token = static_cast<uint32_t>(tokens_.size()), .depth = 0, .byte = 0});
  for (size_t byte = 0x20; byte < 0xC0; ++byte) {
    if (!covered[byte] && (byte < 0x7F || (byte >= 0x80 && parts_characters))) {
      throw core::error("tokenizer",
                        "expected a token for each byte that JSON needs, got none for 0x{:02x}",
                        byte);
    }
  }
}

TokenConstraint::TokenConstraint(std::shared_ptr<const TokenVocabulary> vocabulary,
                                 std::shared_ptr<const text::JsonGrammar> grammar)
    : vocabulary_(std::move(vocabulary)), matcher_(std::move(grammar)) {}

void TokenConstraint::allowed(std::span<uint64_t> bits) const {
  core::check(bits.size() >= vocabulary_->num_words(), "words ", bits.size());
  std::fill(bits.begin(), bits.end(), 0);
  if (ended_ || matcher_.complete()) {
    set_bits(vocabulary_->tokenizer().end_of_generation(), bits);
  }
  if (must_end()) {
    return;
  }
  const std::lock_guard lock(shared_->mutex);
  for (size_t i = 0; i < matcher_.num_readings(); ++i) {
    const text::JsonMatcher reading = matcher_.reading(i);
    if (const auto string = reading.string()) {
      allow_string(reading, *string, bits);
    } else {
      allow_nodes(reading, 0, vocabulary_->num_nodes(), 0, bits);
    }
  }
}

void TokenConstraint::allow_nodes(const text::JsonMatcher& matcher,
                                  uint32_t begin,
                                  uint32_t end,
                                  size_t depth,
                                  std::span<uint64_t> bits) const {
  std::vector<text::JsonMatcher>& levels = shared_->levels;
  if (levels.empty()) {
    levels.resize(TokenVocabulary::kMostBytes + 1, matcher);
  }
  levels[depth] = matcher;
  for (uint32_t index = begin; index < end;) {
    const TokenVocabulary::Node& node = vocabulary_->node(index);
    if (levels[node.depth - size_t{1}].advance(node.byte, levels[node.depth])) {
      set_bits(vocabulary_->tokens(index), bits);
      ++index;
    } else {
      index = node.end;
    }
  }
}

TokenConstraint::StringTokens TokenConstraint::explore(const text::JsonString& start) const {
  StringTokens result;
  result.bits.resize(vocabulary_->num_words());
  std::vector<text::JsonString> levels(TokenVocabulary::kMostBytes + 1, start);
  std::vector<std::vector<int32_t>> by_length;
  for (uint32_t index = 0; index < vocabulary_->num_nodes();) {
    const TokenVocabulary::Node& node = vocabulary_->node(index);
    text::JsonString& string = levels[node.depth];
    string = levels[node.depth - size_t{1}];
    const text::JsonString::Step step = string.accept(node.byte);
    if (step != text::JsonString::Step::kInside) {
      if (step == text::JsonString::Step::kClosed) {
        result.exits.push_back({index, string.meaning(), string.characters()});
      }
      index = node.end;
      continue;
    }
    const auto tokens = vocabulary_->tokens(index);
    if (!tokens.empty()) {
      set_bits(tokens, result.bits);
      by_length.resize(std::max<size_t>(by_length.size(), string.characters() + size_t{1}));
      std::vector<int32_t>& equals = by_length[string.characters()];
      equals.insert(equals.end(), tokens.begin(), tokens.end());
    }
    ++index;
  }
  for (const std::vector<int32_t>& equals : by_length) {
    if (by_length.size() > 1) {
      result.by_length.insert(result.by_length.end(), equals.begin(), equals.end());
    }
    result.length_end.push_back(static_cast<uint32_t>(result.by_length.size()));
  }
  return result;
}

void TokenConstraint::allow_string(const text::JsonMatcher& matcher,
                                   const text::JsonString& string,
                                   std::span<uint64_t> bits) const {
  const text::JsonString unlimited = string.free_string();
  auto& kept = shared_->strings;
  auto found = kept.find(unlimited.key());
  if (found == kept.end()) {
    if (kept.size() >= kMostKeptStrings) {
      kept.clear();
    }
    found = kept.emplace(unlimited.key(), explore(unlimited)).first;
  }
  const StringTokens& tokens = found->second;
  if (string.most() + size_t{1} >= tokens.length_end.size()) {
    for (size_t word = 0; word < tokens.bits.size(); ++word) {
      bits[word] |= tokens.bits[word];
    }
  } else {
    set_bits(std::span(tokens.by_length).first(tokens.length_end[string.most()]), bits);
  }
  text::JsonMatcher closed = matcher;
  const StringTokens::Exit* last = nullptr;
  for (const StringTokens::Exit& exit : tokens.exits) {
    if (exit.characters < string.least() || exit.characters > string.most()) {
      continue;
    }
    if (last == nullptr || last->meaning != exit.meaning) {
      closed = matcher;
      closed.close_string(exit.meaning);
    }
    last = &exit;
    const TokenVocabulary::Node& node = vocabulary_->node(exit.node);
    set_bits(vocabulary_->tokens(exit.node), bits);
    allow_nodes(closed, exit.node + 1, node.end, node.depth, bits);
  }
}

void TokenConstraint::accept(int32_t token) {
  const text::Tokenizer& tokenizer = vocabulary_->tokenizer();
  const std::vector<int32_t>& ends = tokenizer.end_of_generation();
  if (std::binary_search(ends.begin(), ends.end(), token)) {
    if (!ended_ && !complete()) {
      throw core::error("token_constraint", "expected more of the JSON, got end token {}", token);
    }
    ended_ = true;
    return;
  }
  const std::string& bytes = tokenizer.token_bytes(token);
  if (bytes.empty() || !is_ordinary(tokenizer.spec().kinds[static_cast<size_t>(token)]) ||
      !accept_bytes(bytes)) {
    throw core::error("token_constraint", "expected a token that the JSON allows, got {}", token);
  }
}

bool TokenConstraint::accept_bytes(std::string_view bytes) {
  text::JsonMatcher next = matcher_;
  const bool allowed = !ended_ && std::all_of(bytes.begin(), bytes.end(), [&](char byte) {
    return next.accept(static_cast<uint8_t>(byte));
  });
  if (allowed) {
    matcher_ = std::move(next);
  }
  return allowed;
}

}  // namespace adze::infer
