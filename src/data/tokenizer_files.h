#pragma once
// Tokenizers and chat templates out of model files.

#include <optional>
#include <string>

#include "formats/gguf.h"
#include "text/tokenizer.h"

namespace adze::data {

// From tokenizer.ggml.*; throws core::Error that names the key, the value and the legal range.
text::TokenizerSpec tokenizer_spec(const formats::GgufFile& file);
std::optional<std::string> chat_template_source(const formats::GgufFile& file);

}  // namespace adze::data
