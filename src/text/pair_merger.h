#pragma once
// Merges neighbouring tokens of one piece: the pair of best rank first, of equal ranks the
// leftmost, until no pair can merge. O(n log n) in the tokens.

#include <cstdint>
#include <functional>
#include <span>

#include "text/merge_table.h"

namespace adze::text {

// Told of every merge: left and right token, and what they became.
using MergeObserver = std::function<void(int32_t left, int32_t right, int32_t token)>;

// The tokens that are left stand at the front; returns how many they are. At most 2^31 - 1 tokens.
size_t merge_pairs(std::span<int32_t> tokens,
                   const MergeTable& merges,
                   const MergeObserver* observer = nullptr);

}  // namespace adze::text
