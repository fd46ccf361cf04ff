#pragma once
// What a model says about itself, without loading it.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf.h"
#include "model/checkpoint.h"

namespace adze::cli {

struct TypeTotal {
  int64_t tensors = 0;
  int64_t parameters = 0;
  int64_t bytes = 0;
};

// Fields that a file lacks are empty: files without a language model are described too.
struct ModelSummary {
  std::string architecture;
  std::string name;
  int64_t parameters = 0;
  int64_t tensors = 0;
  int64_t tensor_bytes = 0;
  int64_t file_bytes = 0;
  std::map<std::string, TypeTotal> types;  // by type name
  std::optional<int64_t> context_length;
  std::optional<int64_t> num_layers;
  std::optional<int64_t> hidden_size;
  std::optional<int64_t> intermediate_size;
  std::optional<int64_t> heads;
  std::optional<int64_t> kv_heads;
  std::optional<int64_t> head_dim;
  std::optional<int64_t> vocab_size;
  std::optional<std::string> tokenizer;
  std::optional<int64_t> cache_bytes_per_token;  // with a cache of f16
  // The same if every layer owned its keys and values: what a step reads for each cached token.
  std::optional<int64_t> unshared_cache_bytes_per_token;
  std::optional<int64_t> kv_owners;               // layers that own keys and values
  std::optional<std::vector<int64_t>> kv_source;  // ModelSpec::kv_source, where layers share
  std::optional<std::string> chat_template;
};

// Throws core::Error: a field of a wrong type or out of range.
ModelSummary summarise(const formats::GgufFile& file);
ModelSummary summarise(const model::Checkpoint& folder);

}  // namespace adze::cli
