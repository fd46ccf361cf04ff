#include "text/tokenizer_check.h"

#include "core/error.h"
#include "text/byte_alphabet.h"
#include "text/printable.h"

namespace adze::text {

namespace {

constexpr size_t kMaxTokenBytes = 1 << 16;
// Longest known: 62 bytes. Every position of a text may be compared with that many bytes.
constexpr size_t kMaxSpecialTokenBytes = 1 << 10;
constexpr size_t kMaxTokens = 1 << 26;

bool is_matched_whole(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown ||
         kind == TokenKind::kUserDefined;
}

void check_id(const char* field, std::optional<int32_t> id, size_t num_tokens) {
  if (id && (*id < 0 || static_cast<size_t>(*id) >= num_tokens)) {
    throw core::error("tokenizer", "{}: expected 0 to {}, got {}", field, num_tokens - 1, *id);
  }
}

void check_size(const char* field, size_t expected, size_t found) {
  if (expected != found) {
    throw core::error("tokenizer", "{}: expected {}, one a token, got {}", field, expected, found);
  }
}

void check_token(size_t id, const std::string& text, TokenKind kind) {
  if (kind > TokenKind::kByte) {
    throw core::error(
        "tokenizer", "kinds[{}]: expected 0 to 5, got {}", id, static_cast<int>(kind));
  }
  const size_t limit = is_matched_whole(kind) ? kMaxSpecialTokenBytes : kMaxTokenBytes;
  if (text.size() > limit) {
    throw core::error(
        "tokenizer", "tokens[{}]: expected at most {} bytes, got {}", id, limit, text.size());
  }
  if (kind == TokenKind::kByte && !byte_named(text)) {
    throw core::error("tokenizer",
                      "tokens[{}]: expected a byte token <0x00> to <0xFF>, got '{}'",
                      id,
                      printable(text));
  }
}

}  // namespace

void check_tokenizer_spec(const TokenizerSpec& spec) {
  const size_t num_tokens = spec.tokens.size();
  if (num_tokens == 0 || num_tokens > kMaxTokens) {
    throw core::error(
        "tokenizer", "tokens: expected 1 to {} of them, got {}", kMaxTokens, num_tokens);
  }
  check_size("kinds", num_tokens, spec.kinds.size());
  if (spec.model == TokenizerModel::kScoredPairs || spec.model == TokenizerModel::kUnigram) {
    check_size("scores", num_tokens, spec.scores.size());
  }
  for (size_t id = 0; id < num_tokens; ++id) {
    check_token(id, spec.tokens[id], spec.kinds[id]);
  }
  check_id("begin_of_text", spec.begin_of_text, num_tokens);
  check_id("end_of_text", spec.end_of_text, num_tokens);
  check_id("separator", spec.separator, num_tokens);
  check_id("unknown", spec.unknown, num_tokens);
  check_id("padding", spec.padding, num_tokens);
  for (const AddedToken& token : spec.added_tokens.value_or(std::vector<AddedToken>())) {
    check_id("added_tokens", token.id, num_tokens);
    const size_t size = spec.tokens[static_cast<size_t>(token.id)].size();
    if (size > kMaxSpecialTokenBytes) {
      throw core::error("tokenizer",
                        "tokens[{}]: expected at most {} bytes, got {}",
                        token.id,
                        kMaxSpecialTokenBytes,
                        size);
    }
  }
  if (spec.writes_unknown && !spec.unknown) {
    throw core::error("tokenizer", "writes_unknown: expected false without unknown, got true");
  }
  if (spec.add_begin_of_text && !spec.begin_of_text) {
    throw core::error("tokenizer", "add_begin_of_text: expected false without begin_of_text");
  }
  if (spec.add_end_of_text && !closing_token(spec)) {
    throw core::error("tokenizer",
                      "add_end_of_text: expected false without end_of_text or separator");
  }
}

}  // namespace adze::text
