#include "model/checkpoint.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "data/tokenizer_files.h"
#include "formats/quote_untrusted.h"
#include "model/architectures.h"
#include "model/config_fields.h"
#include "model/gguf_metadata.h"
#include "model/hf_config.h"
#include "model/tensor_names.h"

namespace adze::model {
namespace {

using formats::quote_untrusted;
using formats::StoredTensor;

// Queries are the first rows of a fused matrix, in a layer that reads another's keys and values.
void take_queries(const ModelSpec& spec,
                  const std::string& prefix,
                  const char* suffix,
                  std::map<std::string, StoredTensor>& found) {
  const auto fused = found.find(prefix + "attn_qkv" + suffix);
  const int64_t rows = spec.heads * spec.head_dim;
  if (fused == found.end() || fused->second.shape.empty() ||
      fused->second.shape[0] != rows + 2 * spec.kv_width()) {
    return;
  }
  StoredTensor query = fused->second;
  const auto all_rows = static_cast<size_t>(query.shape[0]);
  query.name = prefix + "attn_q" + suffix;
  query.shape[0] = rows;
  query.data = query.data.first(query.data.size() / all_rows * static_cast<size_t>(rows));
  found.erase(fused);
  found.emplace(query.name, std::move(query));
}

// Files may hold keys and values of layers that read another's, as those of Gemma 3n do: [05 §2.7].
void leave_out_unread(Checkpoint& checkpoint, std::map<std::string, StoredTensor>& found) {
  const ModelSpec& spec = checkpoint.spec;
  const Architecture& entry = architecture(spec.architecture);
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    if (spec.owns_kv(layer)) {
      continue;
    }
    const std::string prefix = fmt::format("blk.{}.", layer);
    for (const char* suffix : {".weight", ".bias"}) {
      for (const char* stem : {"attn_k", "attn_v", "attn_k_norm", "attn_kv_norm"}) {
        const std::string name = prefix + stem + suffix;
        if (found.erase(name) > 0) {
          checkpoint.ignored.push_back(checkpoint.gguf ? name
                                                       : hf_name(entry, name).value_or(name));
        }
      }
      if (entry.fused_projections) {
        take_queries(spec, prefix, suffix, found);
      }
    }
  }
}

// Puts the tensors in the order of the forward pass, each checked against the spec.
void arrange(Checkpoint& checkpoint, std::map<std::string, StoredTensor> found) {
  leave_out_unread(checkpoint, found);
  for (const ExpectedTensor& expected : expected_tensors(checkpoint.spec)) {
    const auto entry = found.find(expected.name);
    if (entry == found.end()) {
      throw core::error("model",
                        "{}: expected tensor {} of shape [{}], got none",
                        checkpoint.path.string(),
                        expected.name,
                        fmt::join(expected.shape, ", "));
    }
    if (entry->second.shape != expected.shape) {
      throw core::error("model",
                        "{}: tensor {}: expected shape [{}], got [{}]",
                        checkpoint.path.string(),
                        expected.name,
                        fmt::join(expected.shape, ", "),
                        fmt::join(entry->second.shape, ", "));
    }
    checkpoint.tensors.push_back(std::move(entry->second));
    found.erase(entry);
  }
  for (auto& [name, tensor] : found) {
    if (is_pooler(name)) {
      checkpoint.tensors.push_back(std::move(tensor));
      continue;
    }
    // Something of this model would be left out of its arithmetic.
    throw core::error("model",
                      "{}: tensor {}: expected none of this name in a {} model",
                      checkpoint.path.string(),
                      quote_untrusted(name),
                      checkpoint.spec.architecture);
  }
}

void open_gguf(Checkpoint& checkpoint) {
  checkpoint.gguf = std::make_shared<const formats::GgufFile>(checkpoint.path);
  checkpoint.spec = spec_from_gguf(*checkpoint.gguf);
  checkpoint.alternating_rotary_rows =
      architecture(checkpoint.spec.architecture).alternating_rotary_rows;
  std::map<std::string, StoredTensor> found;
  for (const StoredTensor& tensor : checkpoint.gguf->tensors()) {
    if (!is_rope_tensor(tensor.name)) {
      found.emplace(tensor.name, tensor);
    }
  }
  arrange(checkpoint, std::move(found));
}

// The longest text that sentence-transformers would not cut, where the folder says it.
void read_embedded_tokens(Checkpoint& checkpoint) {
  const auto file = checkpoint.path / "sentence_bert_config.json";
  if (!std::filesystem::exists(file)) {
    return;
  }
  const auto settings = read_config(file);
  const auto tokens = ConfigFields(settings, file.string()).integer("max_seq_length");
  checkpoint.spec.embedded_tokens =
      std::clamp<int64_t>(tokens.value_or(0), 0, checkpoint.spec.context_length);
}

// How sentence-transformers turns rows into an embedding, where the folder says it.
void read_pooling(Checkpoint& checkpoint) {
  const auto file = checkpoint.path / "1_Pooling" / "config.json";
  if (checkpoint.spec.causal) {
    return;
  }
  read_embedded_tokens(checkpoint);
  if (!std::filesystem::exists(file)) {
    return;
  }
  const auto settings = read_config(file);
  const auto is_set = [&](const char* key) {
    const auto value = settings.find(key);
    return value != settings.end() && value->is_boolean() && value->get<bool>();
  };
  if (is_set("pooling_mode_mean_tokens")) {
    checkpoint.spec.pooling = Pooling::kMean;
  } else if (is_set("pooling_mode_cls_token")) {
    checkpoint.spec.pooling = Pooling::kFirst;
  } else {
    throw core::error(
        "model",
        "{}: expected pooling_mode_mean_tokens or pooling_mode_cls_token, got neither",
        file.string());
  }
}

void open_folder(Checkpoint& checkpoint) {
  const auto config = checkpoint.path / "config.json";
  if (!std::filesystem::exists(config)) {
    throw core::error(
        "model", "{}: expected a GGUF file or a folder with config.json", checkpoint.path.string());
  }
  checkpoint.spec = spec_from_config(read_config(config), config.string());
  if (checkpoint.spec.name.empty()) {
    checkpoint.spec.name = std::filesystem::absolute(checkpoint.path).lexically_normal().filename();
  }
  const Architecture& entry = architecture(checkpoint.spec.architecture);
  checkpoint.norms_lack_one = entry.norms_add_one;
  checkpoint.safetensors = std::make_shared<const formats::SafetensorsFolder>(checkpoint.path);
  read_pooling(checkpoint);
  std::map<std::string, StoredTensor> found;
  for (const StoredTensor& tensor : checkpoint.safetensors->tensors()) {
    auto name = gguf_name(entry, tensor.name);
    const bool second_output = name == "output.weight" && checkpoint.spec.tied_output;
    if (is_ignorable(entry, tensor.name) || second_output) {
      checkpoint.ignored.push_back(tensor.name);
      continue;
    }
    if (!name) {
      throw core::error("model",
                        "{}: tensor {}: expected none of this name in a {} model",
                        checkpoint.path.string(),
                        quote_untrusted(tensor.name),
                        checkpoint.spec.architecture);
    }
    StoredTensor renamed = tensor;
    renamed.name = *name;
    if (!found.emplace(*name, std::move(renamed)).second) {
      throw core::error("model",
                        "{}: tensor {}: expected one tensor for {}, got two",
                        checkpoint.path.string(),
                        quote_untrusted(tensor.name),
                        *name);
    }
  }
  arrange(checkpoint, std::move(found));
}

}  // namespace

const StoredTensor* Checkpoint::find_tensor(std::string_view name) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const StoredTensor& tensor) {
    return tensor.name == name;
  });
  return found == tensors.end() ? nullptr : &*found;
}

const StoredTensor& Checkpoint::tensor(std::string_view name) const {
  const StoredTensor* found = find_tensor(name);
  core::check(found != nullptr, "an expected tensor, got ", name);
  return *found;
}

Checkpoint open_checkpoint(const std::filesystem::path& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  if (std::filesystem::is_directory(checkpoint.path)) {
    open_folder(checkpoint);
  } else {
    open_gguf(checkpoint);
  }
  return checkpoint;
}

text::TokenizerSpec read_tokenizer(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? data::tokenizer_spec(path)
                                             : data::tokenizer_spec(formats::GgufFile(path));
}

std::optional<std::string> read_chat_template(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? data::chat_template_source(path)
                                             : data::chat_template_source(formats::GgufFile(path));
}

text::TokenizerSpec read_tokenizer(const Checkpoint& checkpoint) {
  return checkpoint.gguf ? data::tokenizer_spec(*checkpoint.gguf)
                         : data::tokenizer_spec(checkpoint.path);
}

std::optional<std::string> read_chat_template(const Checkpoint& checkpoint) {
  if (checkpoint.chat_template) {
    return checkpoint.chat_template;
  }
  return checkpoint.gguf ? data::chat_template_source(*checkpoint.gguf)
                         : data::chat_template_source(checkpoint.path);
}

}  // namespace adze::model
