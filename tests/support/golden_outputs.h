#pragma once
// What the forward pass makes of a golden model, beside what it should.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "infer/append_tokens.h"
#include "kv/cache_registry.h"
#include "kv/page_pool.h"
#include "kv/rotation.h"
#include "kv/sequence.h"
#include "model/forward.h"
#include "model/model.h"
#include "tests/support/golden_model.h"

namespace adze::golden {

// Every row's output [tokens, width].
inline std::vector<float> outputs(const model::Model& model,
                                  const std::vector<int32_t>& tokens,
                                  int64_t chunk) {
  const auto length = static_cast<int64_t>(tokens.size());
  kv::PagePool pool(int64_t{1} << 28);
  kv::Rotation rotation(model.spec, length);
  kv::Sequence sequence(pool,
                        kv::make_store("f32", model.spec),
                        kv::make_policy("full"),
                        kv::make_cache_layout(model.spec));
  std::vector<float> result;
  infer::append_tokens(
      model, rotation, sequence, tokens, chunk, [&](int64_t, const at::Tensor& hidden) {
        const at::Tensor rows = model.spec.causal ? model::logits(model, hidden) : hidden;
        const float* values = rows.const_data_ptr<float>();
        result.insert(result.end(), values, values + rows.numel());
      });
  return result;
}

inline double largest_difference(const GoldenModel& golden,
                                 const GoldenSequence& sequence,
                                 const std::vector<float>& found) {
  double largest = 0;
  for (size_t i = 0; i < sequence.rows.size(); ++i) {
    for (int64_t column = 0; column < golden.width; ++column) {
      const double expected =
          sequence.expected[i * static_cast<size_t>(golden.width) + static_cast<size_t>(column)];
      const double value = found[static_cast<size_t>(sequence.rows[i] * golden.width + column)];
      largest = std::isfinite(value) ? std::max(largest, std::abs(value - expected)) : INFINITY;
    }
  }
  return largest;
}

// A conversion takes a tokenizer along; which one does not matter here.
inline void write_tokenizer(const std::filesystem::path& folder) {
  nlohmann::json vocabulary;
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    vocabulary[std::string(1, letter)] = letter - 'a';
  }
  vocabulary["ab"] = 26;
  const nlohmann::json byte_level{{"type", "ByteLevel"},
                                  {"add_prefix_space", false},
                                  {"trim_offsets", true},
                                  {"use_regex", true}};
  const nlohmann::json tokenizer{
      {"version", "1.0"},
      {"added_tokens", nlohmann::json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", {"a b"}}}}};
  write_text(folder / "tokenizer.json", tokenizer.dump());
}

}  // namespace adze::golden
