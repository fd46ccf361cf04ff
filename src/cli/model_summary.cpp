#include "cli/model_summary.h"

#include <functional>
#include <numeric>

#include "core/error.h"
#include "data/tokenizer_files.h"

namespace adze::cli {
namespace {

// Larger than any real model's, and small enough that products of three of them fit.
constexpr int64_t kLargestSize = 1 << 20;

// A number that may also be a list with one entry a layer (models whose layers differ).
std::optional<std::vector<int64_t>> find_sizes(const formats::GgufFile& file,
                                               const std::string& key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) {
    return std::nullopt;
  }
  std::optional<std::vector<int64_t>> sizes;
  if (std::holds_alternative<formats::GgufArray>(found->second)) {
    sizes = file.find_integers(key);
  } else {
    sizes = std::vector<int64_t>{*file.find_integer(key)};
  }
  for (const int64_t size : *sizes) {
    if (size < 0 || size > kLargestSize) {
      throw core::error("inspect", "expected {} from 0 to {}, got {}", key, kLargestSize, size);
    }
  }
  return sizes;
}

// Keys and values in f16 of all layers. A file of this format gives each layer its own.
std::optional<int64_t> cache_bytes(const ModelSummary& summary,
                                   const std::optional<std::vector<int64_t>>& kv_heads,
                                   int64_t value_dim) {
  if (!summary.num_layers || !summary.head_dim || !kv_heads) {
    return std::nullopt;
  }
  if (kv_heads->size() != 1 && static_cast<int64_t>(kv_heads->size()) != *summary.num_layers) {
    throw core::error("inspect",
                      "expected attention.head_count_kv for each of {} layers, got {} entries",
                      *summary.num_layers,
                      kv_heads->size());
  }
  constexpr int64_t kBytesPerValue = 2;
  const int64_t heads = kv_heads->size() == 1
                            ? kv_heads->front() * *summary.num_layers
                            : std::accumulate(kv_heads->begin(), kv_heads->end(), int64_t{0});
  return heads * (*summary.head_dim + value_dim) * kBytesPerValue;
}

std::optional<int64_t> only_entry(const std::optional<std::vector<int64_t>>& sizes) {
  return sizes && sizes->size() == 1 ? std::optional(sizes->front()) : std::nullopt;
}

void add_tensors(const std::vector<formats::StoredTensor>& tensors, ModelSummary& summary) {
  for (const formats::StoredTensor& tensor : tensors) {
    const int64_t elements =
        std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t{1}, std::multiplies<>());
    const auto bytes = static_cast<int64_t>(tensor.data.size());
    TypeTotal& total = summary.types[std::string(core::info(tensor.type).name)];
    ++total.tensors;
    total.parameters += elements;
    total.bytes += bytes;
    ++summary.tensors;
    summary.parameters += elements;
    summary.tensor_bytes += bytes;
  }
}

std::string tokenizer_name(text::TokenizerModel model) {
  switch (model) {
    case text::TokenizerModel::kMergedPairs:
      return "byte-pair merges";
    case text::TokenizerModel::kScoredPairs:
      return "scored byte pairs";
    case text::TokenizerModel::kUnigram:
      return "unigram";
    case text::TokenizerModel::kWordPiece:
      return "WordPiece";
  }
  return "";
}

}  // namespace

ModelSummary summarise(const formats::GgufFile& file) {
  ModelSummary summary;
  summary.architecture = file.find_string("general.architecture").value_or("");
  summary.name = file.find_string("general.name").value_or("");
  summary.file_bytes = static_cast<int64_t>(std::filesystem::file_size(file.path()));
  add_tensors(file.tensors(), summary);

  const auto sizes = [&](const char* suffix) {
    return find_sizes(file, summary.architecture + "." + suffix);
  };
  summary.context_length = file.find_integer(summary.architecture + ".context_length");
  summary.num_layers = only_entry(sizes("block_count"));
  summary.hidden_size = only_entry(sizes("embedding_length"));
  summary.intermediate_size = only_entry(sizes("feed_forward_length"));
  summary.heads = only_entry(sizes("attention.head_count"));
  const auto kv_heads = sizes("attention.head_count_kv") ? sizes("attention.head_count_kv")
                                                         : sizes("attention.head_count");
  summary.kv_heads = only_entry(kv_heads);
  summary.head_dim = only_entry(sizes("attention.key_length"));
  if (!summary.head_dim && summary.hidden_size && summary.heads.value_or(0) > 0) {
    summary.head_dim = *summary.hidden_size / *summary.heads;
  }
  const int64_t value_dim =
      only_entry(sizes("attention.value_length")).value_or(summary.head_dim.value_or(0));
  summary.cache_bytes_per_token = cache_bytes(summary, kv_heads, value_dim);
  if (const auto* tokens = file.find_strings("tokenizer.ggml.tokens")) {
    summary.vocab_size = static_cast<int64_t>(tokens->size());
  }
  summary.tokenizer = file.find_string("tokenizer.ggml.model");
  if (const auto before = file.find_string("tokenizer.ggml.pre")) {
    summary.tokenizer = summary.tokenizer.value_or("") + ", " + *before;
  }
  summary.chat_template = data::chat_template_source(file);
  return summary;
}

ModelSummary summarise(const model::Checkpoint& folder) {
  const model::ModelSpec& spec = folder.spec;
  ModelSummary summary;
  summary.architecture = spec.architecture;
  summary.name = spec.name;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path)) {
    if (entry.is_regular_file()) {
      summary.file_bytes += static_cast<int64_t>(entry.file_size());
    }
  }
  add_tensors(folder.tensors, summary);
  summary.context_length = spec.context_length;
  summary.num_layers = spec.num_layers;
  summary.hidden_size = spec.hidden_size;
  summary.intermediate_size = spec.intermediate_size;
  summary.heads = spec.heads;
  summary.kv_heads = spec.kv_heads;
  summary.head_dim = spec.head_dim;
  summary.vocab_size = spec.vocab_size;
  if (spec.causal) {
    constexpr int64_t kBytesPerValue = 2;
    const auto slots = static_cast<int64_t>(spec.owning_layers().size());
    summary.cache_bytes_per_token = 2 * slots * spec.kv_width() * kBytesPerValue;
  }
  summary.tokenizer = tokenizer_name(model::read_tokenizer(folder).model);
  summary.chat_template = model::read_chat_template(folder);
  return summary;
}

}  // namespace adze::cli
