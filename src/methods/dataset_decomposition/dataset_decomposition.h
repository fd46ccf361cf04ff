#pragma once
// Dataset decomposition with a variable-length curriculum (Pouransari et al., arXiv:2405.13226):
// every document is cut by itself into pieces whose lengths are powers of two, a step takes all its
// sequences from one bucket of equal lengths, and a curriculum says which.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/batch_source.h"

namespace adze::methods::dataset_decomposition {

struct DecompositionOptions {
  int64_t shortest = 256;           // rows of the smallest bucket, a power of two
  int64_t longest = 8192;           // rows of the largest, a power of two
  std::string tail = "overlap";     // overlap, drop or pad
  std::string overlong = "greedy";  // greedy or random

  int64_t smallest_bucket() const;  // exponent m of 2^m = shortest
  int64_t largest_bucket() const;   // exponent M
  void validate(const char* where) const;
};

// A sequence of a document: tokens [offset, offset + tokens) make tokens - 1 rows, of which the
// first `ignored` have no loss, since another piece has them.
struct Piece {
  int64_t bucket;  // exponent; 2^bucket rows but for short ones under tail = pad
  int64_t offset;
  int64_t tokens;
  int64_t ignored = 0;

  bool operator==(const Piece&) const = default;
};

// The pieces of a document of `length` tokens, longest first. `document` numbers the draws of
// overlong = random.
std::vector<Piece> decompose(int64_t length,
                             const DecompositionOptions& options,
                             uint64_t seed = 0,
                             uint64_t document = 0);

// What the sheet's table counts, from tokens in each bucket of exponents first, first + 1, ...
struct LengthStatistics {
  double mean_length = 0;   // of a sequence
  double mean_context = 0;  // tokens before a token, on average
};
LengthStatistics length_statistics(std::span<const double> bucket_tokens, int64_t first_bucket);

// Odds of each bucket, the shortest first, by the name of a curriculum: uniform, grow-linear,
// grow-p2, grow-p100, shrink-p100. Throws InvalidOption.
std::vector<uint64_t> curriculum_odds(const std::string& curriculum, int64_t buckets);

// Bucket (index) of each step: `batches` of each bucket, spread over `cycles`, drawn by the odds
// among those that have any left in the cycle.
std::vector<uint8_t> plan_buckets(std::span<const int64_t> batches,
                                  std::span<const uint64_t> odds,
                                  int64_t cycles,
                                  uint64_t seed);

// Documents of the data decomposed: what `adze data inspect` shows.
struct BucketCount {
  int64_t rows;  // of a sequence
  int64_t sequences = 0;
  int64_t targets = 0;  // rows with a loss
};
std::vector<BucketCount> count_buckets(const data::TokenData& data,
                                       const DecompositionOptions& options);

struct SourceOptions {
  int64_t shortest = 256;
  int64_t longest = 8192;
  std::string tail = "overlap";
  std::string overlong = "greedy";
  std::string mixture = "natural";
  std::string curriculum = "grow-p2";
  int64_t cycles = 8;

  void validate() const;
  DecompositionOptions decomposition() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("shortest", self.shortest, "rows of the shortest sequences, a power of two");
    visit("longest", self.longest, "rows of the longest, a power of two");
    visit("tail",
          self.tail,
          "a document's last tokens: overlap (in a piece that repeats what precedes them, without "
          "a loss for it), drop, or pad (overlap; documents shorter than a piece stay too)");
    visit("overlong",
          self.overlong,
          "documents of more than the longest: greedy (longest pieces) or random (short favoured)");
    visit("mixture",
          self.mixture,
          "tokens of each bucket: natural, equal, or shares from the shortest on: 3/6/10");
    visit("curriculum", self.curriculum, "uniform, grow-linear, grow-p2, grow-p100 or shrink-p100");
    visit("cycles", self.cycles, "times that the curriculum is run through");
  }
};

std::unique_ptr<data::BatchSource> make_source(const data::TokenData& data,
                                               const data::BatchRequest& request,
                                               const SourceOptions& options);
data::BatchSourceEntry batch_source_entry();  // "dataset-decomposition"

}  // namespace adze::methods::dataset_decomposition
