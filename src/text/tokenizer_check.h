#pragma once

#include "text/tokenizer_spec.h"

namespace adze::text {

// What every part of a tokenizer relies on: sizes that agree, ids and kinds in range, texts of
// bearable length. Throws core::Error that names the field.
void check_tokenizer_spec(const TokenizerSpec& spec);

}  // namespace adze::text
