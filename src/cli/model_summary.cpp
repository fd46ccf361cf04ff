#include "cli/model_summary.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "data/tokenizer_files.h"
#include "model/architectures.h"
#include "model/gguf_metadata.h"
#include "model/kv_sharing.h"

namespace adze::cli {
namespace {

int64_t count_owners(const std::vector<int64_t>& kv_source) {
  int64_t owners = 0;
  for (size_t layer = 0; layer < kv_source.size(); ++layer) {
    owners += std::cmp_equal(kv_source[layer], layer) ? 1 : 0;
  }
  return owners;
}

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

constexpr int64_t kBytesPerValue = 2;  // of f16

// Keys and values in f16 of the layers that `owns` says.
template <class Owns>
std::optional<int64_t> cache_bytes(const ModelSummary& summary,
                                   const std::optional<std::vector<int64_t>>& kv_heads,
                                   int64_t value_dim,
                                   Owns&& owns) {
  if (!summary.num_layers || !summary.head_dim || !kv_heads) {
    return std::nullopt;
  }
  if (kv_heads->size() != 1 && static_cast<int64_t>(kv_heads->size()) != *summary.num_layers) {
    throw core::error("inspect",
                      "expected attention.head_count_kv for each of {} layers, got {} entries",
                      *summary.num_layers,
                      kv_heads->size());
  }
  int64_t heads = 0;
  for (int64_t layer = 0; layer < *summary.num_layers; ++layer) {
    const size_t entry = kv_heads->size() == 1 ? 0 : static_cast<size_t>(layer);
    heads += owns(layer) ? (*kv_heads)[entry] : 0;
  }
  return heads * (*summary.head_dim + value_dim) * kBytesPerValue;
}

// Which layers share, where the file says so. Of an architecture that does not load only the number
// of owners is known: the last layers share with earlier ones.
void add_sharing(const formats::GgufFile& file, ModelSummary& summary) {
  const std::string prefix = summary.architecture + ".attention.";
  const bool listed = file.metadata().contains(prefix + "kv_source_layer");
  const int64_t shared = file.find_integer(prefix + "shared_kv_layers").value_or(0);
  if (!summary.num_layers) {
    return;
  }
  const auto known = model::architectures();
  const bool loads = std::any_of(known.begin(), known.end(), [&](const auto& entry) {
    return entry.gguf == summary.architecture;
  });
  if (loads && (listed || shared != 0)) {
    summary.kv_source = model::spec_from_gguf(file).kv_source;
    summary.kv_owners = count_owners(*summary.kv_source);
  } else {
    summary.kv_owners = *summary.num_layers - std::clamp<int64_t>(shared, 0, *summary.num_layers);
  }
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
  add_sharing(file, summary);
  const auto owns = [&](int64_t layer) {
    return summary.kv_source ? (*summary.kv_source)[static_cast<size_t>(layer)] == layer
                             : layer < *summary.kv_owners;
  };
  summary.cache_bytes_per_token = cache_bytes(summary, kv_heads, value_dim, owns);
  summary.unshared_cache_bytes_per_token =
      cache_bytes(summary, kv_heads, value_dim, [](int64_t) { return true; });
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
    const auto bytes = model::kv_bytes_per_token(spec, kBytesPerValue);
    summary.cache_bytes_per_token = bytes.cached;
    summary.unshared_cache_bytes_per_token = bytes.read;
    summary.kv_owners = count_owners(spec.kv_source);
    if (*summary.kv_owners < spec.num_layers) {
      summary.kv_source = spec.kv_source;
    }
  }
  summary.tokenizer = tokenizer_name(model::read_tokenizer(folder).model);
  summary.chat_template = model::read_chat_template(folder);
  return summary;
}

}  // namespace adze::cli
