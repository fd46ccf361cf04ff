#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "text/added_token_finder.h"
#include "text/byte_alphabet.h"
#include "text/byte_pair_encoder.h"
#include "text/character_pair_encoder.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/pre_tokenizer_families.h"
#include "text/printable.h"
#include "text/special_token_finder.h"
#include "text/text_index.h"
#include "text/tokenizer_check.h"
#include "text/unigram_encoder.h"
#include "text/utf8.h"
#include "text/word_piece_encoder.h"

namespace adze::text {

namespace {

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

TokenizerSpec checked(TokenizerSpec spec) {
  check_tokenizer_spec(spec);
  return spec;
}

// SentencePiece finds user-defined tokens in normalised text, and puts no space behind them.
bool keeps_user_defined(const TokenizerSpec& spec) {
  return spec.model == TokenizerModel::kScoredPairs || spec.sentencepiece_rules;
}

std::vector<AddedToken> added_tokens(const TokenizerSpec& spec) {
  if (spec.added_tokens) {
    return *spec.added_tokens;
  }
  std::vector<AddedToken> tokens;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const TokenKind kind = spec.kinds[id];
    if (is_control_kind(kind) || (kind == TokenKind::kUserDefined && !keeps_user_defined(spec))) {
      tokens.push_back({.id = static_cast<int32_t>(id)});
    }
  }
  return tokens;
}

TokenDecoder::NormalizedTexts normalized_texts(const TokenizerSpec& spec,
                                               const Normalizer& normalizer) {
  RegularExpression::Workspace workspace;
  TokenDecoder::NormalizedTexts texts;
  for (const AddedToken& token : added_tokens(spec)) {
    const std::string& text = spec.tokens[static_cast<size_t>(token.id)];
    if (token.normalized && !normalizer.changes_nothing() && valid_prefix(text) == text.size()) {
      texts.emplace(token.id, normalizer.normalize(text, workspace));
    }
  }
  return texts;
}

AddedTokenFinder make_finder(const TokenizerSpec& spec,
                             const TokenDecoder::NormalizedTexts& texts,
                             bool with_control,
                             bool normalized) {
  std::vector<AddedTokenFinder::Entry> entries;
  for (const AddedToken& token : added_tokens(spec)) {
    const auto id = static_cast<size_t>(token.id);
    if (token.normalized == normalized && (with_control || !is_control_kind(spec.kinds[id]))) {
      const auto found = texts.find(token.id);
      entries.push_back({token, found == texts.end() ? spec.tokens[id] : found->second});
    }
  }
  return AddedTokenFinder(std::move(entries));
}

SpecialTokenFinder make_control_finder(const TokenizerSpec& spec) {
  std::vector<std::pair<std::string_view, int32_t>> tokens;
  for (const AddedToken& token : added_tokens(spec)) {
    const std::string& text = spec.tokens[static_cast<size_t>(token.id)];
    if (is_control_kind(spec.kinds[static_cast<size_t>(token.id)]) &&
        next_character(text).length < text.size()) {
      tokens.emplace_back(text, token.id);
    }
  }
  return SpecialTokenFinder(std::move(tokens));
}

SpecialTokenFinder make_user_defined_finder(const TokenizerSpec& spec) {
  std::vector<std::pair<std::string_view, int32_t>> tokens;
  for (size_t id = 0; id < spec.tokens.size() && keeps_user_defined(spec); ++id) {
    if (spec.kinds[id] == TokenKind::kUserDefined &&
        valid_prefix(spec.tokens[id]) == spec.tokens[id].size()) {
      tokens.emplace_back(spec.tokens[id], static_cast<int32_t>(id));
    }
  }
  return SpecialTokenFinder(std::move(tokens));
}

std::unique_ptr<PieceEncoder> make_encoder(const TokenizerSpec& spec,
                                           const TextIndex& index,
                                           bool byte_level) {
  if (byte_level && spec.model != TokenizerModel::kMergedPairs) {
    throw core::error("tokenizer", "pre_tokenizer: expected bytes only before merges (BPE)");
  }
  switch (spec.model) {
    case TokenizerModel::kUnigram:
      return std::make_unique<UnigramEncoder>(spec);
    case TokenizerModel::kWordPiece:
      return std::make_unique<WordPieceEncoder>(spec);
    case TokenizerModel::kMergedPairs:
      if (byte_level) {
        return std::make_unique<BytePairEncoder>(spec, index);
      }
      break;
    case TokenizerModel::kScoredPairs:
      break;
  }
  return std::make_unique<CharacterPairEncoder>(spec, index);
}

std::string with_replacements(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() + 16);
  while (!bytes.empty()) {
    const size_t valid = valid_prefix(bytes);
    text.append(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (!bytes.empty()) {
      text.append(kReplacementCharacter);
      bytes.remove_prefix(next_character(bytes).length);
    }
  }
  return text;
}

}  // namespace

struct Tokenizer::Implementation {
  explicit Implementation(TokenizerSpec given)
      : spec(checked(std::move(given))),
        rules(spec.pre_tokenizer.empty() ? rules_of(spec) : rules_of_family(spec)),
        normalizer(rules.normalizers),
        pre_tokenizer(rules.steps),
        byte_level(pre_tokenizer.is_byte_level()),
        index(spec.tokens),
        encoder((spec.prefers_whole_tokens |= rules.prefers_whole_tokens,
                 make_encoder(spec, index, byte_level))),
        kept(make_user_defined_finder(spec)),
        controls(make_control_finder(spec)),
        texts(normalized_texts(spec, normalizer)),
        decoder(spec, byte_level, texts),
        parse_raw(make_finder(spec, texts, true, false)),
        parse_normalized(make_finder(spec, texts, true, true)),
        plain_raw(make_finder(spec, texts, false, false)),
        plain_normalized(make_finder(spec, texts, false, true)) {
    fill_end_of_generation();
  }

  static PreTokenizerFamily rules_of(const TokenizerSpec& spec) {
    return {spec.normalizers, spec.pre_tokenizers, spec.prefers_whole_tokens};
  }
  static PreTokenizerFamily rules_of_family(const TokenizerSpec& spec) {
    if (spec.model != TokenizerModel::kMergedPairs || !spec.normalizers.empty() ||
        !spec.pre_tokenizers.empty()) {
      throw core::error("tokenizer",
                        "pre_tokenizer: expected a name only for byte-level BPE without steps, "
                        "got '{}'",
                        printable(spec.pre_tokenizer));
    }
    return pre_tokenizer_family(spec.pre_tokenizer);
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
    if (id < 0 || static_cast<size_t>(id) >= decoder.size()) {
      throw core::error("tokenizer", "token id: expected 0 to {}, got {}", decoder.size() - 1, id);
    }
    return static_cast<size_t>(id);
  }

  // One text on its way to ids.
  struct Encoding {
    const AddedTokenFinder& raw;
    const AddedTokenFinder* normalized;
    PreTokenizer::WorkspacePointer workspace;
    std::vector<int32_t> ids;
  };

  // Well-formed text without tokens that are matched as they are.
  void encode_valid(std::string_view text, bool at_start, Encoding& encoding) const {
    std::string changed;
    if (!normalizer.changes_nothing()) {
      changed = normalizer.normalize(text, PreTokenizer::expressions(*encoding.workspace), &kept);
      text = changed;
    }
    const auto encode_piece = [&](std::string_view piece) { encoder->encode(piece, encoding.ids); };
    encoding.normalized->split(
        text,
        [&](size_t begin, size_t end) {
          pre_tokenizer.split(text.substr(begin, end - begin),
                              at_start && begin == 0,
                              *encoding.workspace,
                              encode_piece);
        },
        [&](int32_t id) { encoding.ids.push_back(id); });
  }

  // Any bytes of a byte-level tokenizer, well-formed text of another.
  void encode_text(std::string_view text, bool at_start, Encoding& encoding) const {
    while (!text.empty()) {
      const size_t valid = byte_level ? valid_prefix(text) : text.size();
      if (valid > 0) {
        encode_valid(text.substr(0, valid), at_start, encoding);
      }
      text.remove_prefix(valid);
      if (!text.empty()) {
        encoder->encode(text.substr(0, 1), encoding.ids);
        text.remove_prefix(1);
      }
      at_start = false;
    }
  }

  std::string protect(std::string_view text, std::string_view mark) const {
    std::string result;
    size_t done = 0;
    // Another may begin within one that was broken up.
    while (const auto match = controls.find(text, done)) {
      const size_t end = match->begin + next_character(text.substr(match->begin)).length;
      result.append(text.substr(done, end - done)).append(mark);
      done = end;
    }
    return result.append(text.substr(done));
  }

  // `mark`: see encode_protected(); empty: none.
  std::vector<int32_t> encode(std::string_view text,
                              SpecialTokens special,
                              std::string_view mark = {}) const {
    std::string replaced;
    if (!byte_level && valid_prefix(text) != text.size()) {
      replaced = with_replacements(text);
      text = replaced;
    }
    const bool parse = special == SpecialTokens::kParse;
    Encoding encoding{parse ? parse_raw : plain_raw,
                      parse ? &parse_normalized : &plain_normalized,
                      pre_tokenizer.make_workspace(),
                      {}};
    PreTokenizer::expressions(*encoding.workspace).begin(text.size());
    encoding.ids.reserve(text.size() / 4 + 8);
    encoding.raw.split(
        text,
        [&](size_t begin, size_t end) {
          const std::string_view piece = text.substr(begin, end - begin);
          if (mark.empty() || piece.find(mark) == std::string_view::npos) {
            encode_text(piece, begin == 0, encoding);
            return;
          }
          const auto* parsing = std::exchange(encoding.normalized, &plain_normalized);
          encode_text(without(piece, mark), begin == 0, encoding);
          encoding.normalized = parsing;
        },
        [&](int32_t id) { encoding.ids.push_back(id); });
    return std::move(encoding.ids);
  }

  static std::string without(std::string_view text, std::string_view mark) {
    std::string result;
    for (size_t found = text.find(mark); found != std::string_view::npos; found = text.find(mark)) {
      result.append(text.substr(0, found));
      text.remove_prefix(found + mark.size());
    }
    return result.append(text);
  }

  std::optional<int32_t> find_bytes(std::string_view text) const {
    const auto id = index.find(alphabet_from_bytes(text));
    return id && !is_matched_whole(spec.kinds[static_cast<size_t>(*id)]) ? id : std::nullopt;
  }

  std::optional<int32_t> find(std::string_view text) const {
    if (byte_level) {
      if (const auto id = find_bytes(text)) {
        return id;
      }
      const auto id = index.find(text);
      return id && decoder.bytes(*id) == text ? id : std::nullopt;
    }
    std::optional<int32_t> control;
    for (size_t position = 0; position < decoder.size(); ++position) {
      const auto id = static_cast<int32_t>(position);
      if (decoder.bytes(id) == text) {
        if (!is_control_kind(spec.kinds[position])) {
          return id;
        }
        control = control.value_or(id);
      }
    }
    return control;
  }

  TokenizerSpec spec;
  PreTokenizerFamily rules;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  bool byte_level;
  TextIndex index;
  std::unique_ptr<PieceEncoder> encoder;
  SpecialTokenFinder kept;      // user-defined tokens of SentencePiece
  SpecialTokenFinder controls;  // of more than one character
  TokenDecoder::NormalizedTexts texts;
  TokenDecoder decoder;
  AddedTokenFinder parse_raw;
  AddedTokenFinder parse_normalized;
  AddedTokenFinder plain_raw;
  AddedTokenFinder plain_normalized;
  std::vector<int32_t> end_of_generation;
};

Tokenizer::Tokenizer(TokenizerSpec spec)
    : implementation_(std::make_unique<Implementation>(std::move(spec))) {}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, SpecialTokens special) const {
  return implementation_->encode(text, special);
}

std::string Tokenizer::protect(std::string_view text, std::string_view mark) const {
  return implementation_->protect(text, mark);
}

std::vector<int32_t> Tokenizer::encode_protected(std::string_view text,
                                                 std::string_view mark) const {
  return implementation_->encode(text, SpecialTokens::kParse, mark);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool with_control_tokens) const {
  std::string text;
  text.reserve(ids.size() * 5);
  TokenDecoder::State state;
  for (const int32_t id : ids) {
    const size_t position = implementation_->position_of(id);
    if (with_control_tokens || !is_control_kind(implementation_->spec.kinds[position])) {
      implementation_->decoder.append(id, state, text);
    }
  }
  return text;
}

const std::string& Tokenizer::token_bytes(int32_t id) const {
  implementation_->position_of(id);
  return implementation_->decoder.bytes(id);
}

void Tokenizer::decode_next(int32_t id, TokenDecoder::State& state, std::string& text) const {
  implementation_->position_of(id);
  implementation_->decoder.append(id, state, text);
}

bool Tokenizer::is_control(int32_t id) const {
  return is_control_kind(implementation_->spec.kinds[implementation_->position_of(id)]);
}

std::optional<int32_t> Tokenizer::find(std::string_view text) const {
  return implementation_->find(text);
}

const std::string& Tokenizer::missing_bytes() const {
  return implementation_->encoder->missing_bytes();
}

const std::vector<int32_t>& Tokenizer::end_of_generation() const {
  return implementation_->end_of_generation;
}

int64_t Tokenizer::vocab_size() const {
  return static_cast<int64_t>(implementation_->decoder.size());
}

const TokenizerSpec& Tokenizer::spec() const {
  return implementation_->spec;
}

}  // namespace adze::text
