#pragma once
// The merges of a vocabulary, parsed: which tokens they join and what they make.

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include "text/text_index.h"
#include "text/tokenizer_spec.h"

namespace adze::text {

// "left right" -> its parts. Throws core::Error that names merges[rank].
std::pair<std::string_view, std::string_view> merge_parts(std::string_view line, size_t rank);

// Calls use(rank, left, right, token) for each merge. Throws core::Error: malformed merges, merges
// of or into texts that are no token.
using UseMerge = std::function<void(size_t rank, int32_t left, int32_t right, int32_t token)>;
void for_each_merge(const TokenizerSpec& spec, const TextIndex& index, const UseMerge& use);

}  // namespace adze::text
