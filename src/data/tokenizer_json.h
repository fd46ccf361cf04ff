#pragma once
// tokenizer.json, as the `tokenizers` library writes it, to and from text::TokenizerSpec.

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "text/tokenizer_spec.h"

namespace adze::data {

// Everything but the names of begin, end and padding tokens, which are in other files. What the
// post-processor puts around a text becomes begin_of_text and end_of_text. Throws core::Error that
// names the file, the place and what is wrong or not supported.
text::TokenizerSpec tokenizer_from_json(const nlohmann::json& root, const std::string& file);

// The same spec with its normalizers, pre_tokenizers and decoders written out as `tokenizers`
// knows them, and merges instead of scores. Throws core::Error where it knows no counterpart.
text::TokenizerSpec for_tokenizers_library(text::TokenizerSpec spec);

// The text of tokenizer.json; `spec` is what for_tokenizers_library() returned.
std::string tokenizer_json(const text::TokenizerSpec& spec);

// Bytes as JSON carries them; decoding throws core::Error that names `place`.
std::string base64_encoded(std::string_view bytes);
std::string base64_decoded(std::string_view text, std::string_view place);

}  // namespace adze::data
