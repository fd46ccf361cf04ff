#pragma once
// Byte-level tokenizers by the name that GGUF files give their pre-tokenizer
// ("tokenizer.ggml.pre"). The name stands for all that happens before merging, as in the
// tokenizer.json of the family.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_spec.h"

namespace adze::text {

struct PreTokenizerFamily {
  std::vector<NormalizerStep> normalizers;
  std::vector<PreTokenizerStep> steps;
  bool prefers_whole_tokens = false;
};

// Throws core::Error that lists the known names. There is no default: one wrong rule gives
// plausible but worse results.
PreTokenizerFamily pre_tokenizer_family(std::string_view name);

// The name that stands for what the spec does before merging; nullopt: none does.
std::optional<std::string> name_of_family(const TokenizerSpec& spec);

// Whether the expression is one of a family that is known to take linear time on any text.
bool is_linear_expression(std::string_view expression);

// The spec with its name, if it has one, written out.
TokenizerSpec with_family_written_out(TokenizerSpec spec);

// Why name_of_family() has no answer: the first step that no family has; nullopt where each step is
// known, but not all of them together.
std::optional<PreTokenizerStep> step_of_no_family(const TokenizerSpec& spec);

}  // namespace adze::text
