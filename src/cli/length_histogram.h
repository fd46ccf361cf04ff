#pragma once
// Lengths of documents as a drawing.

#include <cstdint>
#include <string>
#include <vector>

namespace adze::cli {

struct LengthBin {
  int64_t from;  // tokens, both ends included
  int64_t to;
  int64_t documents = 0;
  int64_t tokens = 0;
};

// An SVG: two bars a bin, its share of the documents and its share of the tokens.
std::string draw_length_histogram(const std::vector<LengthBin>& bins);

}  // namespace adze::cli
