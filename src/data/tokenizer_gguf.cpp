#include "data/tokenizer_gguf.h"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

#include "core/error.h"
#include "data/tokenizer_files.h"
#include "formats/quote_untrusted.h"

namespace adze::data {
namespace {

using formats::GgufFile;
using formats::quote_untrusted;
using text::TokenizerModel;
using text::TokenizerSpec;
using text::TokenKind;

constexpr std::string_view kWordStart = "\u2581";

// The largest vocabularies in use have about 2^18 tokens and 2^19 merges. The bound keeps our copy
// of a hostile file's lists within 64 MiB.
constexpr size_t kMaxEntries = size_t{1} << 20;

[[noreturn]] void fail(const GgufFile& file,
                       std::string_view key,
                       std::string_view expected,
                       std::string_view found) {
  throw core::error(
      "tokenizer", "{}: {}: expected {}, got {}", file.path().string(), key, expected, found);
}

std::string require_string(const GgufFile& file, std::string_view key, std::string_view expected) {
  auto value = file.find_string(key);
  if (!value) {
    fail(file, key, expected, "no such key");
  }
  return *std::move(value);
}

const std::vector<std::string>& require_strings(const GgufFile& file, std::string_view key) {
  const auto* list = file.find_strings(key);
  if (list == nullptr) {
    fail(file, key, "a list of strings", "no such key");
  }
  if (list->empty() || list->size() > kMaxEntries) {
    fail(file, key, fmt::format("1 to {} entries", kMaxEntries), std::to_string(list->size()));
  }
  return *list;
}

// Embedding rows and vocabulary must agree, or an id would read beyond the table.
void check_vocabulary_size(const GgufFile& file, size_t num_tokens) {
  const auto found = fmt::format("{} tokens", num_tokens);
  if (const auto architecture = file.find_string("general.architecture")) {
    const auto declared = file.find_integer(*architecture + ".vocab_size");
    if (declared && !std::cmp_equal(*declared, num_tokens)) {
      fail(file, kTokensKey, fmt::format("vocab_size, {}", *declared), found);
    }
  }
  if (const auto* embedding = file.find_tensor("token_embd.weight")) {
    if (!std::cmp_equal(embedding->shape.front(), num_tokens)) {
      fail(file,
           kTokensKey,
           fmt::format("one a row of token_embd.weight, {}", embedding->shape[0]),
           found);
    }
  }
}

text::TokenKind token_kind(const GgufFile& file, size_t index, int64_t number) {
  // Numbered from 1 in the file; 0 stands for "undefined", which no tokenizer can act on.
  constexpr std::array kKinds = {text::TokenKind::kNormal,
                                 text::TokenKind::kUnknown,
                                 text::TokenKind::kControl,
                                 text::TokenKind::kUserDefined,
                                 text::TokenKind::kUnused,
                                 text::TokenKind::kByte};
  if (number < 1 || number > static_cast<int64_t>(kKinds.size())) {
    fail(file,
         fmt::format("{}[{}]", kKindsKey, index),
         fmt::format("1 to {}", kKinds.size()),
         std::to_string(number));
  }
  return kKinds[static_cast<size_t>(number - 1)];
}

// "<0x00>" to "<0xFF>"
bool is_byte_token(std::string_view text) {
  const auto is_digit = [](char character) {
    return (character >= '0' && character <= '9') || (character >= 'A' && character <= 'F');
  };
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') && is_digit(text[3]) &&
         is_digit(text[4]);
}

std::vector<text::TokenKind> token_kinds(const GgufFile& file,
                                         const std::vector<std::string>& tokens) {
  const auto numbers = file.find_integers(kKindsKey);
  if (!numbers) {
    return std::vector<text::TokenKind>(tokens.size(), text::TokenKind::kNormal);
  }
  if (numbers->size() != tokens.size()) {
    fail(file,
         kKindsKey,
         fmt::format("{} entries, one a token", tokens.size()),
         std::to_string(numbers->size()));
  }
  std::vector<text::TokenKind> kinds;
  kinds.reserve(tokens.size());
  for (size_t index = 0; index < tokens.size(); ++index) {
    kinds.push_back(token_kind(file, index, (*numbers)[index]));
    if (kinds.back() == text::TokenKind::kByte && !is_byte_token(tokens[index])) {
      fail(file,
           fmt::format("{}[{}]", kTokensKey, index),
           "a byte token, <0x00> to <0xFF>",
           quote_untrusted(tokens[index]));
    }
  }
  return kinds;
}

const std::vector<std::string>& token_merges(const GgufFile& file) {
  const auto& merges = require_strings(file, kMergesKey);
  for (size_t index = 0; index < merges.size(); ++index) {
    const std::string& merge = merges[index];
    const size_t space = merge.find(' ');
    if (space == 0 || space == std::string::npos || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string::npos) {
      fail(file,
           fmt::format("{}[{}]", kMergesKey, index),
           "two parts with one space between them",
           quote_untrusted(merge));
    }
  }
  return merges;
}

std::optional<int32_t> token_id(const GgufFile& file, std::string_view key, size_t num_tokens) {
  const auto id = file.find_integer(key);
  if (!id) {
    return std::nullopt;
  }
  if (*id < 0 || !std::cmp_less(*id, num_tokens)) {
    fail(file, key, fmt::format("0 to {}", num_tokens - 1), std::to_string(*id));
  }
  return static_cast<int32_t>(*id);
}

// Families whose files may leave the flag out although their tokenizer sets it.
bool adds_begin_by_default(std::string_view pre_tokenizer) {
  constexpr std::array<std::string_view, 9> kFamilies = {"llama-bpe",
                                                         "llama3",
                                                         "llama-v3",
                                                         "falcon3",
                                                         "falcon-h1",
                                                         "pixtral",
                                                         "midm-2.0",
                                                         "lfm2",
                                                         "tekken"};
  return std::find(kFamilies.begin(), kFamilies.end(), pre_tokenizer) != kFamilies.end();
}

std::vector<double> token_scores(const GgufFile& file, size_t num_tokens) {
  const auto found = file.metadata().find(std::string(kScoresKey));
  const auto* array =
      found == file.metadata().end() ? nullptr : std::get_if<formats::GgufArray>(&found->second);
  const auto* scores = array == nullptr ? nullptr : std::get_if<std::vector<float>>(&array->values);
  if (scores == nullptr) {
    fail(file, kScoresKey, "an array of float32", array == nullptr ? "none" : "another array");
  }
  if (scores->size() != num_tokens) {
    fail(file,
         kScoresKey,
         fmt::format("{} entries, one a token", num_tokens),
         std::to_string(scores->size()));
  }
  return {scores->begin(), scores->end()};
}

// The table of replacements, as bytes.
std::string charsmap(const GgufFile& file) {
  const auto found = file.metadata().find(std::string(kCharsmapKey));
  if (found == file.metadata().end()) {
    return {};
  }
  const auto* array = std::get_if<formats::GgufArray>(&found->second);
  if (array != nullptr) {
    if (const auto* bytes = std::get_if<std::vector<uint8_t>>(&array->values)) {
      return {bytes->begin(), bytes->end()};
    }
    if (const auto* bytes = std::get_if<std::vector<int8_t>>(&array->values)) {
      return {bytes->begin(), bytes->end()};
    }
  }
  fail(file, kCharsmapKey, "an array of bytes", "another value");
}

// A vocabulary of SentencePiece: by scores, or as a unigram model.
void read_sentencepiece(const GgufFile& file, TokenizerSpec& spec, bool unigram) {
  const bool prefix = file.find_bool(kAddSpaceKey).value_or(!unigram);
  spec.model = unigram ? TokenizerModel::kUnigram : TokenizerModel::kScoredPairs;
  spec.scores = token_scores(file, spec.tokens.size());
  spec.sentencepiece_rules = unigram;
  spec.byte_fallback =
      std::find(spec.kinds.begin(), spec.kinds.end(), TokenKind::kByte) != spec.kinds.end();
  spec.normalizers = {{.kind = text::NormalizerStep::Kind::kSentencePiece,
                       .content = charsmap(file),
                       .add_prefix_space = prefix,
                       .remove_extra_spaces = file.find_bool(kRemoveSpacesKey).value_or(false)}};
  spec.decoders = sentencepiece_decoders(prefix);
}

// A token at the front of a word has U+2581 before it in the file, one within a word nothing (so
// that U+2581 alone is one within a word).
void read_word_piece(const GgufFile& file, TokenizerSpec& spec) {
  spec.model = TokenizerModel::kWordPiece;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    std::string& token = spec.tokens[id];
    const bool bracketed = token.size() > 2 && token.starts_with('[') && token.ends_with(']');
    if (token.starts_with(kWordStart) && token != kWordStart) {
      token.erase(0, kWordStart.size());
    } else if (spec.kinds[id] != TokenKind::kControl && spec.kinds[id] != TokenKind::kUnknown &&
               !bracketed) {
      token.insert(0, spec.continuing_prefix);
    }
  }
  const bool lowercase = file.find_bool(kLowercaseKey).value_or(true);
  spec.normalizers = {{.kind = text::NormalizerStep::Kind::kBert,
                       .strip_accents = file.find_bool(kStripAccentsKey).value_or(lowercase),
                       .lowercase = lowercase}};
  spec.pre_tokenizers = {{.kind = text::PreTokenizerStep::Kind::kBert}};
  spec.decoders = {
      {.kind = text::DecoderStep::Kind::kWordPiece, .pattern = spec.continuing_prefix}};
}

// Ids that files of a model may leave out, as llama.cpp fills them in.
struct DefaultIds {
  std::optional<int32_t> begin, end, unknown, separator, padding;
};

DefaultIds default_ids(std::string_view model) {
  if (model == "llama") {
    return {.begin = 1, .end = 2, .unknown = 0, .separator = {}, .padding = {}};
  }
  if (model == "bert") {
    return {.begin = 101, .end = {}, .unknown = 100, .separator = 102, .padding = 0};
  }
  if (model == "t5") {
    return {.begin = {}, .end = 1, .unknown = 2, .separator = {}, .padding = 0};
  }
  return {};
}

std::optional<int32_t> token_id(const GgufFile& file,
                                std::string_view key,
                                size_t num_tokens,
                                std::optional<int32_t> fallback) {
  if (const auto id = token_id(file, key, num_tokens)) {
    return id;
  }
  return fallback && std::cmp_less(*fallback, num_tokens) ? fallback : std::nullopt;
}

void read_ids(const GgufFile& file, std::string_view model, TokenizerSpec& spec) {
  const size_t count = spec.tokens.size();
  const DefaultIds defaults = default_ids(model);
  spec.begin_of_text = token_id(file, kBeginKey, count, defaults.begin);
  if (model == "bert") {  // files say [CLS] either way
    spec.begin_of_text = token_id(file, kClassKey, count, spec.begin_of_text);
  }
  spec.end_of_text = token_id(file, kEndKey, count, defaults.end);
  spec.separator = token_id(file, kSeparatorKey, count, defaults.separator);
  spec.unknown = token_id(file, kUnknownKey, count, defaults.unknown);
  spec.padding = token_id(file, kPaddingKey, count, defaults.padding);
  if (model != "bert" && !file.find_bool(kAddSeparatorKey).value_or(false)) {
    spec.separator.reset();
  }
}

void read_flags(const GgufFile& file, std::string_view model, TokenizerSpec& spec) {
  const bool begins = model == "llama" || model == "bert" ||
                      (model == "gpt2" && adds_begin_by_default(spec.pre_tokenizer));
  const bool ends = model == "t5" || model == "bert";
  spec.add_begin_of_text =
      file.find_bool(kAddBeginKey).value_or(begins && spec.begin_of_text.has_value());
  spec.add_end_of_text =
      file.find_bool(kAddEndKey).value_or(ends && closing_token(spec).has_value()) ||
      file.find_bool(kAddSeparatorKey).value_or(false);
  if (model == "bert") {  // files say so only now and then; a model without them means nothing
    spec.add_begin_of_text = spec.begin_of_text.has_value();
    spec.add_end_of_text = closing_token(spec).has_value();
  }
  if (spec.add_begin_of_text && !spec.begin_of_text) {
    fail(file, kAddBeginKey, fmt::format("false without {}", kBeginKey), "true");
  }
  if (spec.add_end_of_text && !closing_token(spec)) {
    fail(file, kAddEndKey, fmt::format("false without {}", kEndKey), "true");
  }
}

// Phi-3's control tokens take the white space behind them, which files of its kind cannot say.
void mark_phi3_tokens(const GgufFile& file, TokenizerSpec& spec) {
  if (file.find_string("general.architecture").value_or("") != "phi3" ||
      spec.model != TokenizerModel::kScoredPairs) {
    return;
  }
  spec.added_tokens.emplace();
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& token = spec.tokens[id];
    if (spec.kinds[id] == TokenKind::kControl || spec.kinds[id] == TokenKind::kUnknown) {
      const bool plain = token == "<unk>" || token == "<s>" || token == "<|endoftext|>";
      spec.added_tokens->push_back({.id = static_cast<int32_t>(id), .right_strip = !plain});
    }
  }
}

}  // namespace

std::vector<text::DecoderStep> sentencepiece_decoders(bool prefix) {
  using Kind = text::DecoderStep::Kind;
  std::vector<text::DecoderStep> steps{
      {.kind = Kind::kReplaceText, .pattern = std::string(kWordStart), .content = " "},
      {.kind = Kind::kByteFallback},
      {.kind = Kind::kFuse}};
  if (prefix) {
    steps.push_back({.kind = Kind::kStrip, .pattern = " ", .count = 1});
  }
  return steps;
}

TokenizerSpec tokenizer_spec(const GgufFile& file) {
  constexpr std::string_view kSupported =
      "\"gpt2\" (byte-level BPE), \"llama\" (SentencePiece), \"t5\" (unigram) or \"bert\" "
      "(WordPiece)";
  TokenizerSpec spec;
  const std::string model = require_string(file, kModelKey, kSupported);
  if (model != "gpt2" && model != "llama" && model != "t5" && model != "bert") {
    fail(file, kModelKey, kSupported, quote_untrusted(model) + ", which is not supported yet");
  }
  if (model == "gpt2") {
    // No default: a tokenizer that differs in one rule scores low and reports no error.
    spec.pre_tokenizer = require_string(file, kPreTokenizerKey, "the name of the pre-tokenizer");
  }
  spec.tokens = require_strings(file, kTokensKey);
  check_vocabulary_size(file, spec.tokens.size());
  spec.kinds = token_kinds(file, spec.tokens);
  if (model == "gpt2") {
    spec.merges = token_merges(file);
  } else if (model == "bert") {
    read_word_piece(file, spec);
  } else {
    read_sentencepiece(file, spec, model == "t5");
  }
  read_ids(file, model, spec);
  read_flags(file, model, spec);
  mark_phi3_tokens(file, spec);
  return spec;
}

std::optional<std::string> chat_template_source(const GgufFile& file) {
  return file.find_string(kTemplateKey);
}

}  // namespace adze::data
