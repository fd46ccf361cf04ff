#pragma once
// Text -> the text that is tokenized.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/regular_expression.h"
#include "text/special_token_finder.h"
#include "text/tokenizer_spec.h"

namespace adze::text {

class Normalizer {
 public:
  // Throws core::Error: expressions or tables that are broken.
  explicit Normalizer(const std::vector<NormalizerStep>& steps);
  ~Normalizer();
  Normalizer(Normalizer&&) noexcept;

  bool changes_nothing() const { return steps_.empty(); }
  // `text` must be well-formed UTF-8; so is the result. `kept`: texts that kSentencePiece steps
  // leave as they are, or nullptr.
  std::string normalize(std::string_view text,
                        RegularExpression::Workspace& workspace,
                        const SpecialTokenFinder* kept = nullptr) const;

 private:
  class Step;
  std::vector<Step> steps_;
};

}  // namespace adze::text
