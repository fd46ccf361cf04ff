#pragma once
// Tokens -> syntax tree.

#include <cstdint>
#include <string_view>

#include "text/chat_template/syntax.h"

namespace adze::text::chat_template {

// Throws core::Error with line number: syntax, a statement that is not supported, nesting above
// `max_depth`.
Block parse(std::string_view source, int64_t max_depth);

}  // namespace adze::text::chat_template
