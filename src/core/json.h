#pragma once
// JSON from strangers: model configurations, tokenizers, headers of weight files.

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace adze::core {

// Throws Error, naming `file` and the place: not JSON, nested deeper than 64, a text or a run of
// brackets and white space longer than 1 MiB, or so many small values that the tree would take more
// than 4 x text + 32 MiB. Of equal keys the last one stays.
nlohmann::json parse_json(std::string_view text, std::string_view file);

// The part of that which any other use of nlohmann's parser needs too: its lexer keeps what lies
// between the starts of two scalars, several times over in an error message. Throws Error where
// that is more than 1 MiB.
void check_json_runs(std::string_view text, std::string_view file);

}  // namespace adze::core
