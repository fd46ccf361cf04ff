#pragma once
// The parts of tokenizer.json that are lists of steps.

#include <vector>

#include "data/json_place.h"
#include "text/tokenizer_spec.h"

namespace adze::data {

// null is no step; a Sequence is its members. Throws core::Error that names an unsupported one.
std::vector<text::NormalizerStep> normalizer_steps(const JsonPlace& place);
std::vector<text::PreTokenizerStep> pre_tokenizer_steps(const JsonPlace& place);
std::vector<text::DecoderStep> decoder_steps(const JsonPlace& place);

// Back: a Sequence where there are several steps, null where there is none.
nlohmann::ordered_json normalizers_json(const std::vector<text::NormalizerStep>& steps);
nlohmann::ordered_json pre_tokenizers_json(const std::vector<text::PreTokenizerStep>& steps);
nlohmann::ordered_json decoders_json(const std::vector<text::DecoderStep>& steps);

}  // namespace adze::data
