#pragma once
// Character properties as the reference (`tokenizers`) has them in BERT's and other normalisers: it
// keeps tables of Unicode 8 and 9, so that characters added since have none of these properties.
// Models were trained with that, and ids have to be equal.

#include <cstdint>
#include <string>

namespace adze::text {

bool is_reference_mark(uint32_t code_point);
bool is_reference_nonspacing_mark(uint32_t code_point);
bool is_reference_other(uint32_t code_point);
bool has_no_reference_decomposition(uint32_t code_point);  // though Unicode has one

// Members of a class of characters, as PCRE2 writes them, that are punctuation to one of the two.
std::string reference_punctuation_exceptions();

}  // namespace adze::text
