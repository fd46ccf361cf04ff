#pragma once

#include <cstdint>

namespace adze::infer {

enum class FinishReason : uint8_t {
  kStop,     // an end token, or the caller had enough
  kLength,   // max_tokens
  kContext,  // the context is full
};

}  // namespace adze::infer
