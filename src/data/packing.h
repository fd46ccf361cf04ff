#pragma once
// The two usual ways to fill steps of equal length with documents of unequal length.

#include <cstdint>
#include <memory>

#include "data/batch_source.h"

namespace adze::data {

struct ConcatOptions {
  int64_t length = 512;
  bool mask = false;

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("length", self.length, "rows of a sequence, 1 to 1048576");
    visit("mask", self.mask, "documents do not see each other; each part is a sequence");
  }
};

// Documents in random order make one stream, which is cut every `length` tokens; the pieces are
// read in random order. Each row predicts the next token of the stream, be it another document's;
// under `mask` parts of documents are sequences of their own and predict within themselves.
std::unique_ptr<BatchSource> make_concat(const TokenData& data,
                                         const BatchRequest& request,
                                         const ConcatOptions& options);

struct PackOptions {
  int64_t length = 512;

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("length", self.length, "tokens that documents are packed into, 2 to 1048576");
  }
};

// Best-fit packing (Ding et al., arXiv:2404.10830): documents are cut at `length` tokens, then go,
// longest first, into the fullest bin that has room. Each part of a document is a sequence, so no
// document sees another; a bin's room that stays empty costs nothing here.
std::unique_ptr<BatchSource> make_best_fit(const TokenData& data,
                                           const BatchRequest& request,
                                           const PackOptions& options);

}  // namespace adze::data
