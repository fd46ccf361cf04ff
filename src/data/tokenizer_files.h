#pragma once
// Tokenizers and chat templates out of model files and into them.

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/gguf.h"
#include "text/tokenizer.h"

namespace adze::data {

// From tokenizer.ggml.*: byte-level BPE ("gpt2", with the rules of its family, which the file only
// names), SentencePiece ("llama", "t5"), WordPiece ("bert"). Throws core::Error that names the key,
// the value and the legal range.
text::TokenizerSpec tokenizer_spec(const formats::GgufFile& file);
std::optional<std::string> chat_template_source(const formats::GgufFile& file);

// The same of a Hugging Face folder: tokenizer.json, or else SentencePiece's tokenizer.model, with
// begin, end and padding tokens from tokenizer_config.json and special_tokens_map.json. Throws
// core::Error that names the file, the place in it and what is not supported.
text::TokenizerSpec tokenizer_spec(const std::filesystem::path& folder);
// chat_template.jinja, or else the one in tokenizer_config.json (of several, "default").
std::optional<std::string> chat_template_source(const std::filesystem::path& folder);

// What a GGUF file carries. Throws core::Error where GGUF knows no counterpart: expressions that
// belong to no known family, or merges that scores cannot express. NOTE: GGUF has no place for the
// white space that an added token takes, nor for added tokens that are matched in normalised text.
std::vector<std::pair<std::string, formats::GgufValue>> gguf_tokenizer_metadata(
    const text::TokenizerSpec& spec, const std::optional<std::string>& chat_template);

// What a tokenizer is written to.
inline constexpr std::array kTokenizerFiles = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"};

// kTokenizerFiles (the second with the chat template), as `transformers` reads them with
// AutoTokenizer. Throws core::Error where they know no counterpart.
void write_tokenizer_files(const std::filesystem::path& folder,
                           const text::TokenizerSpec& spec,
                           const std::optional<std::string>& chat_template);

// Throws core::Error: write_tokenizer_files without a template would change a file that is there.
void check_tokenizer_files(const std::filesystem::path& folder, const text::TokenizerSpec& spec);

}  // namespace adze::data
