#pragma once
// SentencePiece's tokenizer.model: a protocol-buffer message, of which we read what matters.

#include <string>
#include <string_view>

#include "text/tokenizer_spec.h"

namespace adze::data {

// Begin, end, unknown and padding tokens are those that the model was trained with; whether begin
// and end are added is not in the file: no. Throws core::Error that names the file and the field:
// broken encoding, models of words or characters, spaces kept or put behind words.
text::TokenizerSpec sentencepiece_spec(std::string_view bytes, const std::string& file);

}  // namespace adze::data
