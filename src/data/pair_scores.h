#pragma once
// The two forms of byte-pair encoding over characters, one into the other: a list of merges
// (tokenizer.json) and scores of tokens (SentencePiece, GGUF).

#include <string>
#include <vector>

#include "text/tokenizer_spec.h"

namespace adze::data {

// Every way to put a token together from two others, by falling score; of equal scores by id, then
// by the length of the left part, as `transformers` does it.
std::vector<std::string> merges_from_scores(const text::TokenizerSpec& spec);

// Scores by which SentencePiece merges in the same order. Throws core::Error that names a token for
// which there are none: its merges are apart in the list, or some are missing.
std::vector<double> scores_from_merges(const text::TokenizerSpec& spec);

}  // namespace adze::data
