#pragma once
// Tokenizers in GGUF metadata: the keys, shared by reader and writer.

#include <string_view>
#include <vector>

#include "text/tokenizer_spec.h"

namespace adze::data {

inline constexpr std::string_view kModelKey = "tokenizer.ggml.model";
inline constexpr std::string_view kPreTokenizerKey = "tokenizer.ggml.pre";
inline constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
inline constexpr std::string_view kKindsKey = "tokenizer.ggml.token_type";
inline constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
inline constexpr std::string_view kBeginKey = "tokenizer.ggml.bos_token_id";
inline constexpr std::string_view kEndKey = "tokenizer.ggml.eos_token_id";
inline constexpr std::string_view kUnknownKey = "tokenizer.ggml.unknown_token_id";
inline constexpr std::string_view kPaddingKey = "tokenizer.ggml.padding_token_id";
inline constexpr std::string_view kAddBeginKey = "tokenizer.ggml.add_bos_token";
inline constexpr std::string_view kTemplateKey = "tokenizer.chat_template";
inline constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";
inline constexpr std::string_view kSeparatorKey = "tokenizer.ggml.seperator_token_id";  // sic
inline constexpr std::string_view kClassKey = "tokenizer.ggml.cls_token_id";
inline constexpr std::string_view kAddEndKey = "tokenizer.ggml.add_eos_token";
inline constexpr std::string_view kAddSeparatorKey = "tokenizer.ggml.add_sep_token";
inline constexpr std::string_view kAddSpaceKey = "tokenizer.ggml.add_space_prefix";
inline constexpr std::string_view kRemoveSpacesKey = "tokenizer.ggml.remove_extra_whitespaces";
inline constexpr std::string_view kCharsmapKey = "tokenizer.ggml.precompiled_charsmap";
inline constexpr std::string_view kLowercaseKey = "tokenizer.ggml.normalizer.lowercase";
inline constexpr std::string_view kStripAccentsKey = "tokenizer.ggml.normalizer.strip_accents";

// U+2581 -> space, <0x41> -> byte; with `prefix`, one space less at the front.
std::vector<text::DecoderStep> sentencepiece_decoders(bool prefix);

}  // namespace adze::data
