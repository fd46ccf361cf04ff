#include "text/tokenizer.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "text/byte_alphabet.h"
#include "text/byte_pair_encoder.h"
#include "text/pre_tokenizer.h"
#include "text/special_token_finder.h"
#include "text/text_index.h"
#include "text/utf8.h"

namespace adze::text {

namespace {

constexpr size_t kMaxTokenBytes = 1 << 16;
// Longest known: 62 bytes. Every position of a text may be compared with that many bytes.
constexpr size_t kMaxSpecialTokenBytes = 1 << 10;
constexpr size_t kMaxTokens = 1 << 26;

constexpr std::array<std::string_view, 14> kEndOfTurnTexts{
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|eot|>",
    "<|return|>",
    "<end_of_turn>",
    "<|END_OF_TURN_TOKEN|>",
    "</s>",
    "<eos>",
    "<|end_of_turn|>",
    "<｜end▁of▁sentence｜>",
};

bool is_control_kind(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown;
}

bool is_matched_whole(TokenKind kind) {
  return is_control_kind(kind) || kind == TokenKind::kUserDefined;
}

void check_id(const char* field, std::optional<int32_t> id, size_t num_tokens) {
  if (id && (*id < 0 || static_cast<size_t>(*id) >= num_tokens)) {
    throw core::error("tokenizer", "{}: expected 0 to {}, got {}", field, num_tokens - 1, *id);
  }
}

void check_spec(const TokenizerSpec& spec) {
  if (spec.model != "gpt2") {
    throw core::error(
        "tokenizer", "model: expected 'gpt2' (byte-level BPE), got '{:.80}'", spec.model);
  }
  if (spec.tokens.empty() || spec.tokens.size() > kMaxTokens) {
    throw core::error(
        "tokenizer", "tokens: expected 1 to {} of them, got {}", kMaxTokens, spec.tokens.size());
  }
  if (spec.kinds.size() != spec.tokens.size()) {
    throw core::error("tokenizer",
                      "kinds: expected {}, one a token, got {}",
                      spec.tokens.size(),
                      spec.kinds.size());
  }
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.kinds[id] > TokenKind::kByte) {
      throw core::error(
          "tokenizer", "kinds[{}]: expected 0 to 5, got {}", id, static_cast<int>(spec.kinds[id]));
    }
    const size_t limit = is_matched_whole(spec.kinds[id]) ? kMaxSpecialTokenBytes : kMaxTokenBytes;
    if (spec.tokens[id].size() > limit) {
      throw core::error("tokenizer",
                        "tokens[{}]: expected at most {} bytes, got {}",
                        id,
                        limit,
                        spec.tokens[id].size());
    }
  }
  check_id("begin_of_text", spec.begin_of_text, spec.tokens.size());
  check_id("end_of_text", spec.end_of_text, spec.tokens.size());
  check_id("unknown", spec.unknown, spec.tokens.size());
  check_id("padding", spec.padding, spec.tokens.size());
}

TokenizerSpec checked(TokenizerSpec spec) {
  check_spec(spec);
  return spec;
}

// Tokens matched as a whole are written as they are; so are texts outside the alphabet, which no
// byte-level vocabulary should hold but some do as padding.
std::string decoded_token(const std::string& text, TokenKind kind) {
  if (kind == TokenKind::kByte) {
    return std::string(1, static_cast<char>(byte_named(text).value_or(0)));
  }
  return is_matched_whole(kind) ? text : bytes_from_alphabet(text).value_or(text);
}

std::vector<std::string> decoded_tokens(const TokenizerSpec& spec) {
  std::vector<std::string> decoded;
  decoded.reserve(spec.tokens.size());
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    decoded.push_back(decoded_token(spec.tokens[id], spec.kinds[id]));
  }
  return decoded;
}

SpecialTokenFinder make_finder(const TokenizerSpec& spec, bool with_control) {
  std::vector<std::pair<std::string_view, int32_t>> tokens;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const TokenKind kind = spec.kinds[id];
    if (kind == TokenKind::kUserDefined || (with_control && is_control_kind(kind))) {
      tokens.emplace_back(spec.tokens[id], static_cast<int32_t>(id));
    }
  }
  return SpecialTokenFinder(std::move(tokens));
}

}  // namespace

struct Tokenizer::Implementation {
  explicit Implementation(TokenizerSpec given)
      : spec(checked(std::move(given))),
        pre_tokenizer(spec.pre_tokenizer),
        index(spec.tokens),
        encoder(spec, index),
        bytes(decoded_tokens(spec)),
        all_special(make_finder(spec, true)),
        user_defined(make_finder(spec, false)) {
    fill_end_of_generation();
  }

  void fill_end_of_generation() {
    if (spec.end_of_text) {
      end_of_generation.push_back(*spec.end_of_text);
    }
    for (const std::string_view text : kEndOfTurnTexts) {
      const auto id = index.find(text);
      if (id && is_control_kind(spec.kinds[static_cast<size_t>(*id)])) {
        end_of_generation.push_back(*id);
      }
    }
    std::sort(end_of_generation.begin(), end_of_generation.end());
    end_of_generation.erase(std::unique(end_of_generation.begin(), end_of_generation.end()),
                            end_of_generation.end());
  }

  // The id, checked.
  size_t position_of(int32_t id) const {
    if (id < 0 || static_cast<size_t>(id) >= bytes.size()) {
      throw core::error("tokenizer", "token id: expected 0 to {}, got {}", bytes.size() - 1, id);
    }
    return static_cast<size_t>(id);
  }

  // Texts of tokens matched as a whole are no alphabet, the others are.
  std::optional<int32_t> find_ordinary(std::string_view text) const {
    const auto id = index.find(alphabet_from_bytes(text));
    return id && !is_matched_whole(spec.kinds[static_cast<size_t>(*id)]) ? id : std::nullopt;
  }

  // Text without special tokens.
  void encode_text(std::string_view text,
                   PreTokenizer::Workspace& workspace,
                   std::vector<int32_t>& ids) const {
    while (!text.empty()) {
      const size_t valid = valid_prefix(text);
      pre_tokenizer.split(text.substr(0, valid), workspace, [&](std::string_view piece) {
        if (pre_tokenizer.prefers_whole_tokens()) {
          if (const auto id = find_ordinary(piece)) {
            ids.push_back(*id);
            return;
          }
        }
        encoder.encode(piece, ids);
      });
      text.remove_prefix(valid);
      if (!text.empty()) {
        encoder.encode(text.substr(0, 1), ids);
        text.remove_prefix(1);
      }
    }
  }

  TokenizerSpec spec;
  PreTokenizer pre_tokenizer;
  TextIndex index;
  BytePairEncoder encoder;
  std::vector<std::string> bytes;  // by id
  SpecialTokenFinder all_special;
  SpecialTokenFinder user_defined;
  std::vector<int32_t> end_of_generation;
};

Tokenizer::Tokenizer(TokenizerSpec spec)
    : implementation_(std::make_unique<Implementation>(std::move(spec))) {}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, SpecialTokens special) const {
  const Implementation& self = *implementation_;
  const SpecialTokenFinder& finder =
      special == SpecialTokens::kParse ? self.all_special : self.user_defined;
  const auto workspace = self.pre_tokenizer.make_workspace();
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  size_t position = 0;
  while (true) {
    const auto found = finder.find(text, position);
    if (!found) {
      break;
    }
    self.encode_text(text.substr(position, found->begin - position), *workspace, ids);
    ids.push_back(found->id);
    position = found->begin + found->length;
  }
  self.encode_text(text.substr(position), *workspace, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool with_control_tokens) const {
  std::string text;
  text.reserve(ids.size() * 5);
  for (const int32_t id : ids) {
    const size_t position = implementation_->position_of(id);
    if (with_control_tokens || !is_control_kind(implementation_->spec.kinds[position])) {
      text += implementation_->bytes[position];
    }
  }
  return text;
}

const std::string& Tokenizer::token_bytes(int32_t id) const {
  return implementation_->bytes[implementation_->position_of(id)];
}

bool Tokenizer::is_control(int32_t id) const {
  return is_control_kind(implementation_->spec.kinds[implementation_->position_of(id)]);
}

std::optional<int32_t> Tokenizer::find(std::string_view text) const {
  if (const auto id = implementation_->find_ordinary(text)) {
    return id;
  }
  const auto id = implementation_->index.find(text);
  return id && implementation_->bytes[static_cast<size_t>(*id)] == text ? id : std::nullopt;
}

const std::string& Tokenizer::missing_bytes() const {
  return implementation_->encoder.missing_bytes();
}

const std::vector<int32_t>& Tokenizer::end_of_generation() const {
  return implementation_->end_of_generation;
}

int64_t Tokenizer::vocab_size() const {
  return static_cast<int64_t>(implementation_->bytes.size());
}

const TokenizerSpec& Tokenizer::spec() const {
  return implementation_->spec;
}

}  // namespace adze::text
