#pragma once
// What a cache lab has found, as JSON and as a page of its own: a chart and a table, no script,
// nothing fetched.

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "eval/cache_lab.h"

namespace adze::eval {

struct CacheLabResult {
  std::string model;
  int64_t context = 0;
  int64_t chunks = 0;
  std::vector<CacheLabRow> rows;
};

// {model, context, chunks, rows}; of a row only what was measured.
nlohmann::ordered_json cache_lab_json(const CacheLabResult& result);
// Throws core::Error that names `file`: not what cache_lab_json() writes.
CacheLabResult read_cache_lab(const nlohmann::json& json, const std::string& file);

std::string cache_lab_page(const CacheLabResult& result);

}  // namespace adze::eval
