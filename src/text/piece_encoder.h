#pragma once
// The model of a tokenizer: one piece of text -> tokens.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_spec.h"

namespace adze::text {

class PieceEncoder {
 public:
  virtual ~PieceEncoder() = default;

  // Appends the piece's tokens. Pieces are well-formed UTF-8, of byte-level models any bytes.
  virtual void encode(std::string_view piece, std::vector<int32_t>& ids) const = 0;
  // Byte values that encode() leaves out; only byte-level models have such.
  virtual const std::string& missing_bytes() const {
    static const std::string none;
    return none;
  }
};

// Text must never become a token that steers the model, or a stranger could end a turn.
inline bool may_come_from_text(TokenKind kind) {
  return kind != TokenKind::kControl && kind != TokenKind::kUnknown;
}

inline constexpr int32_t kNoToken = -1;

}  // namespace adze::text
