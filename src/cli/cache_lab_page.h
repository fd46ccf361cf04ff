#pragma once
// The rows of a cache lab as a page of its own: a chart and a table, no script, nothing fetched.

#include <string>
#include <vector>

#include "eval/cache_lab.h"

namespace adze::cli {

std::string cache_lab_page(const std::string& title, const std::vector<eval::CacheLabRow>& rows);

}  // namespace adze::cli
