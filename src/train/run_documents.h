#pragma once
// Whether documents are those that a run or a model goes with.

#include <string>

#include "data/token_data.h"
#include "text/tokenizer_spec.h"

namespace adze::train {

// What the documents are, whatever folder they lie in. validation: may be null.
std::string documents_sha256(const data::TokenData& training, const data::TokenData* validation);

// Throws core::Error where a number is one token of the model and another one of the data; either
// may have padding or nothing there.
void check_tokenizer(const std::string& model_name,
                     const text::TokenizerSpec& model,
                     const text::TokenizerSpec& data);

}  // namespace adze::train
