#pragma once
// JSON from strangers: model configurations, tokenizers, headers of weight files.

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace adze::core {

// Throws Error, naming `file` and the place: not JSON, nested deeper than 64, or so many small
// values that the tree would take more than 4 x text + 48 MiB. Of equal keys the last one stays.
nlohmann::json parse_json(std::string_view text, std::string_view file);

}  // namespace adze::core
