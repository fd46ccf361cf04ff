#include "data/tokenizer_files.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "formats/quote_untrusted.h"

namespace adze::data {
namespace {

using formats::GgufFile;
using formats::quote_untrusted;

constexpr std::string_view kModelKey = "tokenizer.ggml.model";
constexpr std::string_view kPreTokenizerKey = "tokenizer.ggml.pre";
constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kKindsKey = "tokenizer.ggml.token_type";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
constexpr std::string_view kBeginKey = "tokenizer.ggml.bos_token_id";
constexpr std::string_view kEndKey = "tokenizer.ggml.eos_token_id";
constexpr std::string_view kUnknownKey = "tokenizer.ggml.unknown_token_id";
constexpr std::string_view kPaddingKey = "tokenizer.ggml.padding_token_id";
constexpr std::string_view kAddBeginKey = "tokenizer.ggml.add_bos_token";
constexpr std::string_view kTemplateKey = "tokenizer.chat_template";

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
  constexpr std::array<std::string_view, 5> kFamilies = {
      "llama-bpe", "llama3", "llama-v3", "falcon3", "tekken"};
  return std::find(kFamilies.begin(), kFamilies.end(), pre_tokenizer) != kFamilies.end();
}

}  // namespace

text::TokenizerSpec tokenizer_spec(const GgufFile& file) {
  text::TokenizerSpec spec;
  constexpr std::string_view kSupportedModels = "\"gpt2\" (byte-level BPE)";
  spec.model = require_string(file, kModelKey, kSupportedModels);
  if (spec.model != "gpt2") {
    fail(file,
         kModelKey,
         kSupportedModels,
         quote_untrusted(spec.model) + ", which is not supported yet");
  }
  // No default: a tokenizer that differs in one rule scores low and reports no error.
  spec.pre_tokenizer = require_string(file, kPreTokenizerKey, "the name of the pre-tokenizer");
  spec.tokens = require_strings(file, kTokensKey);
  check_vocabulary_size(file, spec.tokens.size());
  spec.kinds = token_kinds(file, spec.tokens);
  spec.merges = token_merges(file);
  spec.begin_of_text = token_id(file, kBeginKey, spec.tokens.size());
  spec.end_of_text = token_id(file, kEndKey, spec.tokens.size());
  spec.unknown = token_id(file, kUnknownKey, spec.tokens.size());
  spec.padding = token_id(file, kPaddingKey, spec.tokens.size());
  spec.add_begin_of_text =
      file.find_bool(kAddBeginKey)
          .value_or(adds_begin_by_default(spec.pre_tokenizer) && spec.begin_of_text.has_value());
  if (spec.add_begin_of_text && !spec.begin_of_text) {
    fail(file, kAddBeginKey, fmt::format("false without {}", kBeginKey), "true");
  }
  return spec;
}

std::optional<std::string> chat_template_source(const GgufFile& file) {
  return file.find_string(kTemplateKey);
}

}  // namespace adze::data
