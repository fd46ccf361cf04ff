#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"
#include "core/rng.h"
#include "methods/dataset_decomposition/dataset_decomposition.h"

namespace adze::methods::dataset_decomposition {
namespace {

int64_t floor_log2(int64_t value) {
  return std::bit_width(static_cast<uint64_t>(value)) - 1;
}

// Bucket of the next piece of a document that is longer than the longest: P(k) is proportional to
// 2^(M - k), so that every bucket expects as many tokens. [01 §2.3 over-long]
int64_t draw_bucket(int64_t least, int64_t most, double uniform) {
  const double all = std::exp2(static_cast<double>(most - least + 1)) - 1;
  double below = 0;
  for (int64_t bucket = least; bucket < most; ++bucket) {
    below += std::exp2(static_cast<double>(most - bucket)) / all;
    if (uniform < below) {
      return bucket;
    }
  }
  return most;
}

bool is_length(int64_t rows) {
  return rows >= 2 && rows <= int64_t{1} << 20 && std::has_single_bit(static_cast<uint64_t>(rows));
}

}  // namespace

int64_t DecompositionOptions::smallest_bucket() const {
  return floor_log2(shortest);
}
int64_t DecompositionOptions::largest_bucket() const {
  return floor_log2(longest);
}

void DecompositionOptions::validate(const char* where) const {
  const auto refuse = [&](const char* field, const std::string& value, const char* legal) {
    throw core::InvalidOption(fmt::format("{}: {}", where, field), value, legal);
  };
  if (!is_length(shortest)) {
    refuse("shortest", std::to_string(shortest), "a power of two from 2 to 1048576");
  }
  if (!is_length(longest) || longest < shortest) {
    refuse("longest", std::to_string(longest), "a power of two from shortest to 1048576");
  }
  if (tail != "overlap" && tail != "drop" && tail != "pad") {
    refuse("tail", tail, "overlap, drop or pad");
  }
  if (overlong != "greedy" && overlong != "random") {
    refuse("overlong", overlong, "greedy or random");
  }
}

std::vector<Piece> decompose(int64_t length,
                             const DecompositionOptions& options,
                             uint64_t seed,
                             uint64_t document) {
  const int64_t least = options.smallest_bucket();
  const int64_t most = options.largest_bucket();
  core::Rng rng(seed, document);
  std::vector<Piece> pieces;
  int64_t place = 0;
  // A sequence of 2^k predictions consumes 2^k + 1 tokens. [01 §2.3]
  while (length - place > 1) {
    int64_t bucket = floor_log2(length - place - 1);
    if (bucket < least) {
      break;
    }
    if (bucket > most) {
      bucket = options.overlong == "greedy" ? most : draw_bucket(least, most, rng.next_uniform());
    }
    pieces.push_back({bucket, place, (int64_t{1} << bucket) + 1});
    place += pieces.back().tokens;
  }
  // [01 §2.4]
  const int64_t shortest_tokens = options.shortest + 1;
  if (options.tail == "drop" || place == length) {
    return pieces;
  }
  if (length >= shortest_tokens) {
    // The last tokens once more as a whole piece; what earlier pieces predict has no loss.
    const int64_t first = length - shortest_tokens;
    pieces.push_back({least, first, shortest_tokens, place - first - 1});
  } else if (options.tail == "pad" && length > 1) {
    // DEVIATION(2.4): rows are ragged here, so nothing is padded: the sequence is short.
    pieces.push_back({least, 0, length});
  }
  return pieces;
}

// [01 §2.9]
LengthStatistics length_statistics(std::span<const double> bucket_tokens, int64_t first_bucket) {
  double tokens = 0;
  double sequences = 0;
  double contexts = 0;  // Σ l (l - 1) / 2
  for (size_t i = 0; i < bucket_tokens.size(); ++i) {
    const double length = std::exp2(static_cast<double>(first_bucket) + static_cast<double>(i));
    tokens += bucket_tokens[i];
    sequences += bucket_tokens[i] / length;
    contexts += bucket_tokens[i] * (length - 1) / 2;
  }
  return {sequences > 0 ? tokens / sequences : 0, tokens > 0 ? contexts / tokens : 0};
}

std::vector<BucketCount> count_buckets(const data::TokenData& data,
                                       const DecompositionOptions& options) {
  std::vector<BucketCount> counts;
  for (int64_t rows = options.shortest; rows <= options.longest; rows *= 2) {
    counts.push_back({rows});
  }
  for (int64_t document = 0; document < data.num_documents(); ++document) {
    for (const Piece& piece :
         decompose(data.length(document), options, 0, static_cast<uint64_t>(document))) {
      BucketCount& count = counts[static_cast<size_t>(piece.bucket - options.smallest_bucket())];
      ++count.sequences;
      count.targets += piece.tokens - 1 - piece.ignored;
    }
  }
  return counts;
}

}  // namespace adze::methods::dataset_decomposition
