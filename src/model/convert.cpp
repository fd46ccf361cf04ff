#include "model/convert.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "core/atomic_file.h"
#include "core/check.h"
#include "core/error.h"
#include "core/parallel.h"
#include "data/tokenizer_files.h"
#include "formats/dequantize.h"
#include "formats/quantize.h"
#include "model/architectures.h"
#include "model/gguf_metadata.h"
#include "model/hf_config.h"
#include "model/tensor_names.h"
#include "model/tensor_types.h"

namespace adze::model {
namespace {

using core::TensorType;
using formats::StoredTensor;
using formats::TensorOutput;

// Originals of norms that do not come back from 1 + weight in f32.
constexpr const char* kExactNormPrefix = "adze.exact_norm.";

int64_t columns_of(const StoredTensor& stored) {
  return stored.shape.empty() ? 1 : stored.shape.back();
}

int64_t rows_of(const StoredTensor& stored) {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < stored.shape.size(); ++i) {
    rows *= stored.shape[i];
  }
  return rows;
}

// Stored row of each target row, where formats order the rows of queries and keys differently;
// empty: as they are.
std::vector<int64_t> row_order(const ModelSpec& spec,
                               const std::string& name,
                               int64_t rows,
                               bool from_alternating,
                               bool to_alternating) {
  const bool rotated =
      name.find(".attn_q.") != std::string::npos || name.find(".attn_k.") != std::string::npos;
  if (!rotated || from_alternating == to_alternating) {
    return {};
  }
  const int64_t dims = spec.ropes.front().dims;
  const int64_t half = dims / 2;
  std::vector<int64_t> order;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t dim = row % spec.head_dim;
    int64_t source = dim;
    if (dim < dims) {
      source = from_alternating ? 2 * (dim % half) + dim / half : dim / 2 + dim % 2 * half;
    }
    order.push_back(row - dim + source);
  }
  return order;
}

// A tensor of the target, and the stored ones that it is the mean of: one, but for a change.
struct TargetTensor {
  StoredTensor form;  // name, shape, type of its own; no bytes
  std::vector<const StoredTensor*> parts;
};

bool is_plain_float(TensorType type) {
  return type == TensorType::kF32 || type == TensorType::kF16 || type == TensorType::kBF16;
}

TensorType mean_type(const std::vector<const StoredTensor*>& parts) {
  TensorType type = parts.front()->type;
  for (const StoredTensor* part : parts) {
    if (!is_plain_float(part->type)) {
      return TensorType::kF16;
    }
    type = part->type == type ? type : TensorType::kF32;
  }
  return type;
}

TargetTensor mean_of(const Checkpoint& checkpoint,
                     const StoredTensor& stored,
                     const std::vector<std::string>& names) {
  TargetTensor target{stored, {}};
  for (const std::string& name : names) {
    target.parts.push_back(&checkpoint.tensor(name));
    core::check(target.parts.back()->shape == stored.shape, "one shape, got another in ", name);
  }
  target.form.type = mean_type(target.parts);
  return target;
}

std::vector<TargetTensor> target_tensors(const Checkpoint& checkpoint, const ModelChange* change) {
  std::vector<TargetTensor> targets;
  for (const StoredTensor& stored : checkpoint.tensors) {
    if (change != nullptr && change->left_out.contains(stored.name)) {
      continue;
    }
    const bool is_mean = change != nullptr && change->means.contains(stored.name);
    targets.push_back(is_mean ? mean_of(checkpoint, stored, change->means.at(stored.name))
                              : TargetTensor{stored, {&stored}});
    targets.back().form.data = {};
  }
  return targets;
}

// `count` values of the mean, from the element `first` on, which starts a block in every part.
void mean_values(const std::vector<const StoredTensor*>& parts,
                 int64_t first,
                 int64_t count,
                 float* result) {
  const auto read = [&](const StoredTensor& part, float* values) {
    formats::dequantize_row(
        part.type, part.data.data() + core::row_bytes(part.type, first), count, values);
  };
  if (parts.size() == 1) {
    read(*parts.front(), result);
    return;
  }
  std::vector<float> values(static_cast<size_t>(count));
  std::vector<double> sums(values.size());
  for (const StoredTensor* part : parts) {
    read(*part, values.data());
    for (size_t i = 0; i < sums.size(); ++i) {
      sums[i] += static_cast<double>(values[i]);
    }
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    result[i] = static_cast<float>(sums[i] / static_cast<double>(parts.size()));
  }
}

std::vector<float> values_of(const TargetTensor& target) {
  const int64_t count = rows_of(target.form) * columns_of(target.form);
  std::vector<float> values(static_cast<size_t>(count));
  mean_values(target.parts, 0, count, values.data());
  return values;
}

// A vector (norm or bias) with its elements in the target's order and convention.
std::vector<float> vector_values(const TargetTensor& target,
                                 const std::vector<int64_t>& order,
                                 float offset) {
  const std::vector<float> source = values_of(target);
  std::vector<float> values(source.size());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = source[order.empty() ? i : static_cast<size_t>(order[i])] + offset;
  }
  return values;
}

void quantize_values(TensorType type, const std::vector<float>& values, std::byte* target) {
  formats::quantize_row(type, values.data(), static_cast<int64_t>(values.size()), target);
}

// Rows of a matrix in the target's order and type; all cores.
void fill_matrix(const TargetTensor& target,
                 const std::vector<int64_t>& order,
                 TensorType type,
                 std::span<std::byte> bytes) {
  const int64_t columns = columns_of(target.form);
  const int64_t row_bytes = core::row_bytes(type, columns);
  const StoredTensor& only = *target.parts.front();
  const bool is_copy = target.parts.size() == 1 && type == only.type;
  core::parallel_for(rows_of(target.form), 16, [&](int64_t begin, int64_t end) {
    std::vector<float> values(static_cast<size_t>(columns));
    for (int64_t row = begin; row < end; ++row) {
      const int64_t from = order.empty() ? row : order[static_cast<size_t>(row)];
      std::byte* to = bytes.data() + row * row_bytes;
      if (is_copy) {
        std::memcpy(to, only.data.data() + from * row_bytes, static_cast<size_t>(row_bytes));
        continue;
      }
      mean_values(target.parts, from * columns, columns, values.data());
      formats::quantize_row(type, values.data(), columns, to);
    }
  });
}

// A quantiser knows the column; the tensor's name belongs to the error.
template <class Body>
void naming(const std::string& tensor, Body&& body) {
  try {
    body();
  } catch (const core::Error& failure) {
    throw core::error("convert", "tensor {}: {}", tensor, failure.what());
  }
}

class Conversion {
 public:
  Conversion(const Checkpoint& checkpoint, bool to_gguf, const ConversionProgress& on_tensor)
      : checkpoint_(checkpoint), on_tensor_(on_tensor) {
    const Architecture& entry = architecture(checkpoint.spec.architecture);
    to_alternating_ = to_gguf && entry.alternating_rotary_rows;
    to_lacking_one_ = !to_gguf && entry.norms_add_one;
    report_.ignored = checkpoint.ignored;
  }

  // `exact`: values that stand for the stored ones, or none.
  void add(const TargetTensor& target,
           const std::string& name,
           TensorType type,
           std::optional<std::vector<float>> exact = std::nullopt) {
    const auto index = static_cast<int64_t>(outputs_.size());
    TensorOutput output{.name = name, .type = type, .shape = target.form.shape, .fill = {}};
    output.fill =
        [this, target, name, type, index, values = std::move(exact)](std::span<std::byte> bytes) {
          if (on_tensor_) {
            on_tensor_(index, static_cast<int64_t>(outputs_.size()), name);
          }
          naming(name, [&] { fill(target, type, values, bytes); });
        };
    report_.tensor_bytes += static_cast<int64_t>(formats::output_bytes(output));
    ++report_.tensors;
    outputs_.push_back(std::move(output));
  }

  void add_values(const std::string& name, std::vector<float> values) {
    TensorOutput output{.name = name,
                        .type = TensorType::kF32,
                        .shape = {static_cast<int64_t>(values.size())},
                        .fill = {}};
    output.fill = [values = std::move(values)](std::span<std::byte> target) {
      std::memcpy(target.data(), values.data(), target.size());
    };
    outputs_.push_back(std::move(output));
  }

  // What is added to a stored norm weight.
  float norm_offset(const std::string& name) const {
    if (!is_norm_weight(name) || checkpoint_.norms_lack_one == to_lacking_one_) {
      return 0;
    }
    return to_lacking_one_ ? -1.0F : 1.0F;
  }

  const std::vector<TensorOutput>& outputs() const { return outputs_; }
  ConversionReport& report() { return report_; }

 private:
  void fill(const TargetTensor& target,
            TensorType type,
            const std::optional<std::vector<float>>& exact,
            std::span<std::byte> bytes) const {
    if (exact) {
      quantize_values(type, *exact, bytes.data());
      return;
    }
    const StoredTensor& stored = *target.parts.front();
    const std::vector<int64_t> order = row_order(checkpoint_.spec,
                                                 stored.name,
                                                 stored.shape.empty() ? 1 : stored.shape[0],
                                                 checkpoint_.alternating_rotary_rows,
                                                 to_alternating_);
    if (stored.shape.size() < 2) {
      const float offset = norm_offset(stored.name);
      if (offset == 0 && order.empty() && type == stored.type && target.parts.size() == 1) {
        std::memcpy(bytes.data(), stored.data.data(), bytes.size());
      } else {
        quantize_values(type, vector_values(target, order, offset), bytes.data());
      }
      return;
    }
    fill_matrix(target, order, type, bytes);
  }

  const Checkpoint& checkpoint_;
  const ConversionProgress& on_tensor_;
  bool to_alternating_ = false;
  bool to_lacking_one_ = false;
  std::vector<TensorOutput> outputs_;
  ConversionReport report_;
};

// Norm weights that 1 + weight rounds away travel beside the sums.
void add_exact_norms(const std::vector<TargetTensor>& targets,
                     const Conversion& conversion,
                     GgufMetadata& metadata) {
  for (const TargetTensor& target : targets) {
    const float offset = conversion.norm_offset(target.form.name);
    if (offset == 0) {
      continue;
    }
    std::vector<float> values = values_of(target);
    const bool inexact = std::any_of(values.begin(), values.end(), [&](float value) {
      return (value + offset) - offset != value;
    });
    if (inexact) {
      metadata.emplace_back(kExactNormPrefix + target.form.name,
                            formats::GgufArray{std::move(values)});
    }
  }
}

std::optional<std::vector<float>> exact_norm(const Checkpoint& checkpoint,
                                             const TargetTensor& target) {
  const StoredTensor& stored = *target.parts.front();
  if (!checkpoint.gguf || target.parts.size() > 1) {
    return std::nullopt;
  }
  const auto& metadata = checkpoint.gguf->metadata();
  const auto found = metadata.find(kExactNormPrefix + stored.name);
  if (found == metadata.end()) {
    return std::nullopt;
  }
  const auto* array = std::get_if<formats::GgufArray>(&found->second);
  const auto* values = array ? std::get_if<std::vector<float>>(&array->values) : nullptr;
  if (values == nullptr || std::cmp_not_equal(values->size(), columns_of(stored))) {
    throw core::error("gguf",
                      "{}: {}: expected {} f32 values, got others",
                      checkpoint.path.string(),
                      found->first,
                      columns_of(stored));
  }
  return *values;
}

void write_text_file(const std::filesystem::path& path, const std::string& text) {
  core::AtomicFile file(path);
  file.write(text);
  file.commit();
}

nlohmann::ordered_json token_or_null(const std::optional<int32_t>& token) {
  return token ? nlohmann::ordered_json(*token) : nlohmann::ordered_json();
}

// The tokens that config.json repeats; transformers and evaluation tools read them from there.
void add_tokens(const text::TokenizerSpec& tokenizer, nlohmann::ordered_json& config) {
  config["bos_token_id"] = token_or_null(tokenizer.begin_of_text);
  config["eos_token_id"] = token_or_null(tokenizer.end_of_text);
  config["pad_token_id"] = token_or_null(tokenizer.padding);
}

void write_pooling(const ModelSpec& spec, const std::filesystem::path& folder) {
  if (spec.pooling == Pooling::kNone) {
    return;
  }
  std::filesystem::create_directories(folder / "1_Pooling");
  const nlohmann::ordered_json settings{
      {"word_embedding_dimension", spec.hidden_size},
      {"pooling_mode_cls_token", spec.pooling == Pooling::kFirst},
      {"pooling_mode_mean_tokens", spec.pooling == Pooling::kMean}};
  write_text_file(folder / "1_Pooling" / "config.json", settings.dump(2) + "\n");
  if (spec.embedded_tokens > 0) {
    const nlohmann::ordered_json limits{{"max_seq_length", spec.embedded_tokens}};
    write_text_file(folder / "sentence_bert_config.json", limits.dump(2) + "\n");
  }
}

// GGUF wants a token for every row of the embedding, and models often have more rows than tokens.
text::TokenizerSpec padded(text::TokenizerSpec tokenizer, int64_t rows) {
  while (std::cmp_less(tokenizer.tokens.size(), rows)) {
    tokenizer.tokens.push_back(fmt::format("[PAD{}]", tokenizer.tokens.size()));
    tokenizer.kinds.push_back(text::TokenKind::kUnused);
    if (!tokenizer.scores.empty()) {
      tokenizer.scores.push_back(0);
    }
  }
  return tokenizer;
}

text::TokenizerSpec without_padding(text::TokenizerSpec tokenizer) {
  const auto is_padding = [&] {
    return !tokenizer.tokens.empty() && tokenizer.kinds.back() == text::TokenKind::kUnused &&
           tokenizer.tokens.back() == fmt::format("[PAD{}]", tokenizer.tokens.size() - 1);
  };
  while (is_padding()) {
    tokenizer.tokens.pop_back();
    tokenizer.kinds.pop_back();
    if (!tokenizer.scores.empty()) {
      tokenizer.scores.pop_back();
    }
  }
  return tokenizer;
}

}  // namespace

TensorType natural_float_type(const Checkpoint& checkpoint) {
  std::map<TensorType, size_t> bytes;
  for (const StoredTensor& stored : checkpoint.tensors) {
    if (stored.shape.size() > 1) {
      bytes[stored.type] += stored.data.size();
    }
  }
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const bool plain =
      most != bytes.end() && (most->first == TensorType::kF32 || most->first == TensorType::kBF16);
  return plain ? most->first : TensorType::kF16;
}

ConversionReport write_gguf_model(const Checkpoint& checkpoint,
                                  const std::string& mix,
                                  const std::filesystem::path& file,
                                  const ConversionProgress& on_tensor,
                                  const ModelChange* change) {
  Conversion conversion(checkpoint, true, on_tensor);
  const TensorTypes types(checkpoint, mix);
  const ModelSpec& spec = change != nullptr ? change->spec : checkpoint.spec;
  const std::vector<TargetTensor> targets = target_tensors(checkpoint, change);
  GgufMetadata metadata = gguf_metadata(spec, types.file_type());
  for (auto& entry :
       data::gguf_tokenizer_metadata(padded(read_tokenizer(checkpoint), checkpoint.spec.vocab_size),
                                     read_chat_template(checkpoint))) {
    metadata.push_back(std::move(entry));
  }
  add_exact_norms(targets, conversion, metadata);
  for (const TargetTensor& target : targets) {
    const TensorType wanted = types.wanted(target.form);
    const TensorType used = types.possible(target.form);
    if (used != wanted) {
      conversion.report().fallbacks.push_back({target.form.name, wanted, used});
    }
    conversion.add(target, target.form.name, used);
  }
  for (auto& [name, values] : rope_tensors(spec)) {
    conversion.add_values(name, std::move(values));
  }
  formats::write_gguf(file, metadata, conversion.outputs());
  return std::move(conversion.report());
}

ConversionReport write_hugging_face_model(const Checkpoint& checkpoint,
                                          TensorType type,
                                          const std::filesystem::path& folder,
                                          const ConversionProgress& on_tensor,
                                          const ModelChange* change) {
  const ModelSpec& spec = change != nullptr ? change->spec : checkpoint.spec;
  const Architecture& entry = architecture(spec.architecture);
  nlohmann::ordered_json config = config_from_spec(spec, type);
  const text::TokenizerSpec tokenizer = without_padding(read_tokenizer(checkpoint));
  add_tokens(tokenizer, config);
  Conversion conversion(checkpoint, false, on_tensor);
  for (const TargetTensor& target : target_tensors(checkpoint, change)) {
    const auto name = hf_name(entry, target.form.name);
    core::check(name.has_value(), "a name for ", target.form.name);
    conversion.add(target, *name, type, exact_norm(checkpoint, target));
  }
  std::filesystem::create_directories(folder);
  formats::write_safetensors(folder, conversion.outputs());
  data::write_tokenizer_files(folder, tokenizer, read_chat_template(checkpoint));
  write_pooling(spec, folder);
  // Last: a folder with config.json is complete.
  write_text_file(folder / "config.json", config.dump(2) + "\n");
  return std::move(conversion.report());
}

}  // namespace adze::model
