#include "model/gguf_metadata.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/json.h"
#include "formats/dequantize.h"
#include "model/architectures.h"
#include "model/kv_sharing.h"
#include "model/rope_config.h"

namespace adze::model {
namespace {

using formats::GgufFile;
using formats::GgufValue;

constexpr const char* kArchitectureKey = "adze.architecture";       // where two share a GGUF name
constexpr const char* kScalingKey = "adze.rope_scaling";            // as in config.json
constexpr const char* kWindowsKey = "adze.layer_windows";           // one a layer
constexpr const char* kSourceSuffix = "attention.kv_source_layer";  // one a layer, where some share
constexpr const char* kEmbeddedTokensKey = "adze.embedded_tokens";
constexpr std::array kRopeTensors = {
    "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"};

class Keys {
 public:
  Keys(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  std::string name(const char* suffix) const { return prefix_ + "." + suffix; }
  std::optional<int64_t> integer(const char* suffix) const {
    return file_.find_integer(name(suffix));
  }
  // The shortest decimal of an f32: 1e-5 comes back as 1e-5.
  std::optional<double> number(const char* suffix) const {
    const auto value = file_.find_number(name(suffix));
    if (!value || static_cast<double>(static_cast<float>(*value)) != *value) {
      return value;
    }
    return std::stod(fmt::format("{}", static_cast<float>(*value)));
  }
  std::optional<std::string> text(const char* suffix) const {
    return file_.find_string(name(suffix));
  }
  int64_t required_integer(const char* suffix) const {
    const auto value = integer(suffix);
    if (!value) {
      throw core::error(
          "gguf", "{}: expected key {}, got none", file_.path().string(), name(suffix));
    }
    return *value;
  }
  [[noreturn]] void fail(const char* suffix,
                         std::string_view expected,
                         std::string_view got) const {
    throw core::error(
        "gguf", "{}: {}: expected {}, got {}", file_.path().string(), name(suffix), expected, got);
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

// Features that this forward pass lacks must be refused, never ignored.
void refuse_unsupported(const Keys& keys) {
  for (const char* suffix : {"expert_count", "expert_used_count"}) {
    const auto value = keys.integer(suffix);
    if (value && *value != 0) {
      keys.fail(suffix, "0", std::to_string(*value));
    }
  }
  for (const char* suffix : {"attention.max_alibi_bias",
                             "attention.clamp_kqv",
                             "logit_scale",
                             "residual_scale",
                             "embedding_scale",
                             "rope.scaling.alpha"}) {
    const auto value = keys.number(suffix);
    if (value && *value != 0) {
      keys.fail(suffix, "0", fmt::format("{}", *value));
    }
  }
}

std::string architecture_of(const GgufFile& file) {
  const std::string name = file.find_string("general.architecture").value_or("none");
  const std::string own = file.find_string(kArchitectureKey).value_or(name);
  for (const Architecture& entry : architectures()) {
    if (entry.gguf == name && (entry.name == own || own == name)) {
      return std::string(entry.name);
    }
  }
  throw core::error("gguf",
                    "{}: general.architecture: expected one of {}, got {}",
                    file.path().string(),
                    architecture_names(),
                    own);
}

std::vector<double> divisors(const GgufFile& file, const char* name, int64_t dims) {
  const formats::StoredTensor* stored = file.find_tensor(name);
  if (stored == nullptr) {
    throw core::error("gguf", "{}: expected tensor {}, got none", file.path().string(), name);
  }
  if (stored->shape != std::vector<int64_t>{dims / 2} || stored->type != core::TensorType::kF32) {
    throw core::error("gguf",
                      "{}: tensor {}: expected {} f32 values, got {} of shape [{}]",
                      file.path().string(),
                      name,
                      dims / 2,
                      core::info(stored->type).name,
                      fmt::join(stored->shape, ", "));
  }
  std::vector<float> values(static_cast<size_t>(dims / 2));
  std::memcpy(values.data(), stored->data.data(), stored->data.size());
  return {values.begin(), values.end()};
}

// The parameters behind a file's divisors, where they are those of a published Llama 3: only these
// have another form than the numbers themselves.
std::optional<RopeScaling> recognise_llama3(const Rope& rope, const std::vector<double>& divisors) {
  constexpr double kTolerance = 1e-5;
  Rope candidate = rope;
  candidate.scaling.kind = RopeScalingKind::kLlama3;
  candidate.scaling.original_context = 8192;
  const auto before = rope_frequencies(rope, rope.dims, 1).radians;
  for (const double factor : {8.0, 32.0}) {
    candidate.scaling.factor = factor;
    const auto after = rope_frequencies(candidate, rope.dims, 1).radians;
    bool equal = true;
    for (size_t i = 0; i < divisors.size(); ++i) {
      equal = equal && std::abs(before[i] / after[i] - divisors[i]) <= kTolerance * divisors[i];
    }
    if (equal) {
      return candidate.scaling;
    }
  }
  return std::nullopt;
}

RopeScaling read_scaling(const GgufFile& file,
                         const Keys& keys,
                         const ModelSpec& spec,
                         const Rope& rope) {
  const int64_t dims = rope.dims;
  const int64_t original =
      keys.integer("rope.scaling.original_context_length").value_or(spec.context_length);
  if (const auto text = file.find_string(kScalingKey)) {
    const std::string where = file.path().string() + ": " + kScalingKey;
    const auto tree = core::parse_json(*text, where);
    return read_rope_scaling(ConfigFields(tree, where), original, spec.context_length);
  }
  RopeScaling scaling;
  scaling.original_context = original;
  if (file.find_tensor(kRopeTensors[0]) != nullptr) {
    scaling.kind = RopeScalingKind::kDivisors;
    scaling.short_divisors = divisors(file, kRopeTensors[0], dims);
    return recognise_llama3(rope, scaling.short_divisors).value_or(scaling);
  }
  const std::string type = keys.text("rope.scaling.type").value_or("none");
  if (file.find_tensor(kRopeTensors[1]) != nullptr || type == "longrope") {
    scaling.kind = RopeScalingKind::kLongRope;
    scaling.short_divisors = divisors(file, kRopeTensors[1], dims);
    scaling.long_divisors = divisors(file, kRopeTensors[2], dims);
    scaling.factor = static_cast<double>(spec.context_length) /
                     static_cast<double>(std::max<int64_t>(1, original));
    scaling.attention_factor = keys.number("rope.scaling.attn_factor");
    return scaling;
  }
  if (type == "none") {
    return scaling;
  }
  scaling.factor = keys.number("rope.scaling.factor").value_or(1);
  if (type == "linear") {
    scaling.kind = RopeScalingKind::kLinear;
  } else if (type == "yarn") {
    scaling.kind = RopeScalingKind::kYarn;
    scaling.beta_fast = keys.number("rope.scaling.yarn_beta_fast").value_or(scaling.beta_fast);
    scaling.beta_slow = keys.number("rope.scaling.yarn_beta_slow").value_or(scaling.beta_slow);
    if (const auto factor = keys.number("rope.scaling.yarn_attn_factor")) {
      scaling.attention_factor = *factor;
    }
  } else {
    keys.fail("rope.scaling.type", "none, linear, yarn or longrope", type);
  }
  return scaling;
}

void read_ropes(const GgufFile& file, const Keys& keys, ModelSpec& spec) {
  const bool two = spec.architecture == "gemma3";
  Rope rope;
  rope.base = keys.number("rope.freq_base").value_or(two ? 1e6 : 1e4);
  rope.dims = keys.integer("rope.dimension_count").value_or(spec.head_dim);
  if (rope.dims < 2 || rope.dims > spec.head_dim || rope.dims % 2 != 0) {
    keys.fail("rope.dimension_count",
              fmt::format("an even number from 2 to {}", spec.head_dim),
              std::to_string(rope.dims));
  }
  rope.scaling = read_scaling(file, keys, spec, rope);
  spec.ropes = {rope};
  if (!two) {
    return;
  }
  rope.base = keys.number("rope.freq_base_swa").value_or(1e4);
  rope.scaling = {};
  spec.ropes.push_back(rope);
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    spec.rope_of_layer.push_back(spec.window(layer) > 0 ? 1 : 0);
  }
}

void read_windows(const GgufFile& file, const Keys& keys, ModelSpec& spec) {
  if (auto windows = file.find_integers(kWindowsKey)) {
    spec.windows = std::move(*windows);
    return;
  }
  const int64_t window = keys.integer("attention.sliding_window").value_or(0);
  if (window == 0) {
    return;
  }
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    spec.windows.push_back(is_local_layer(spec.architecture, layer) ? window : 0);
  }
}

void read_decoder(const GgufFile& file, const Keys& keys, ModelSpec& spec) {
  const bool gemma = spec.architecture == "gemma2" || spec.architecture == "gemma3";
  spec.norm_epsilon = keys.number("attention.layer_norm_rms_epsilon").value_or(1e-5);
  spec.attention_scale = keys.number("attention.scale").value_or(0);
  // The largest gemmas divide by the width of a head of the hidden size, and old files do not say.
  constexpr int64_t kGemma2Layers27b = 46;
  constexpr int64_t kGemma3Layers27b = 62;
  const int64_t largest = spec.architecture == "gemma2" ? kGemma2Layers27b : kGemma3Layers27b;
  if (gemma && spec.attention_scale == 0 && spec.num_layers == largest && spec.heads > 0) {
    spec.attention_scale = std::sqrt(static_cast<double>(spec.heads) /
                                     static_cast<double>(std::max<int64_t>(1, spec.hidden_size)));
  }
  const bool capped = spec.architecture == "gemma2";
  spec.attention_softcap = keys.number("attn_logit_softcapping").value_or(capped ? 50 : 0);
  spec.output_softcap = keys.number("final_logit_softcapping").value_or(capped ? 30 : 0);
  spec.tied_output = file.find_tensor("output.weight") == nullptr;
  const auto has = [&](const char* name) { return file.find_tensor(name) != nullptr; };
  spec.query_key_value_bias = has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias");
  spec.attention_output_bias = has("blk.0.attn_output.bias");
  spec.feed_forward_bias = has("blk.0.ffn_down.bias");
  read_windows(file, keys, spec);
  read_ropes(file, keys, spec);
}

// [05 §2.7]
void read_kv_sharing(const GgufFile& file, const Keys& keys, ModelSpec& spec) {
  spec.kv_source = own_kv_sources(spec.num_layers);
  spec.key_value_norm = file.find_tensor("blk.0.attn_kv_norm.weight") != nullptr;
  if (auto sources = file.find_integers(keys.name(kSourceSuffix))) {
    spec.kv_source = std::move(*sources);
    return;
  }
  const int64_t shared = keys.integer("attention.shared_kv_layers").value_or(0);
  if (shared < 0 || shared >= spec.num_layers) {
    keys.fail("attention.shared_kv_layers",
              fmt::format("0 to {}", spec.num_layers - 1),
              std::to_string(shared));
  }
  auto sources = trailing_kv_sources(spec, shared);
  if (!sources) {
    keys.fail("attention.shared_kv_layers",
              "an earlier layer with the window of each that shares",
              std::to_string(shared));
  }
  spec.kv_source = std::move(*sources);
}

int64_t rows_of(const GgufFile& file, const char* name) {
  const formats::StoredTensor* stored = file.find_tensor(name);
  if (stored == nullptr || stored->shape.size() != 2) {
    throw core::error(
        "gguf", "{}: expected a tensor {} of two dimensions", file.path().string(), name);
  }
  return stored->shape[0];
}

void read_encoder(const GgufFile& file, const Keys& keys, ModelSpec& spec) {
  spec.norm_epsilon = keys.number("attention.layer_norm_epsilon").value_or(1e-12);
  spec.learned_positions = rows_of(file, "position_embd.weight");
  spec.token_types = rows_of(file, "token_types.weight");
  spec.embedded_tokens = file.find_integer(kEmbeddedTokensKey).value_or(0);
  // llama.cpp's numbers: none, mean, first row, last row, rank.
  switch (keys.integer("pooling_type").value_or(1)) {
    case 0:
      spec.pooling = Pooling::kNone;
      break;
    case 1:
      spec.pooling = Pooling::kMean;
      break;
    case 2:
      spec.pooling = Pooling::kFirst;
      break;
    default:
      keys.fail("pooling_type", "0 (none), 1 (mean) or 2 (first)", "another");
  }
}

}  // namespace

ModelSpec spec_from_gguf(const GgufFile& file) {
  ModelSpec spec;
  spec.architecture = architecture_of(file);
  const Keys keys(file, std::string(architecture(spec.architecture).gguf));
  refuse_unsupported(keys);
  spec.name = file.find_string("general.name").value_or(file.path().stem().string());
  spec.num_layers = keys.required_integer("block_count");
  if (spec.num_layers < 1 || spec.num_layers > 4096) {  // before anything is made for each layer
    keys.fail("block_count", "1 to 4096", std::to_string(spec.num_layers));
  }
  spec.context_length = keys.required_integer("context_length");
  spec.hidden_size = keys.required_integer("embedding_length");
  spec.intermediate_size = keys.required_integer("feed_forward_length");
  spec.heads = keys.required_integer("attention.head_count");
  if (spec.heads < 1) {
    keys.fail("attention.head_count", "1 to 4096", std::to_string(spec.heads));
  }
  spec.kv_heads = keys.integer("attention.head_count_kv").value_or(spec.heads);
  spec.head_dim = keys.integer("attention.key_length").value_or(spec.hidden_size / spec.heads);
  const int64_t value_dim = keys.integer("attention.value_length").value_or(spec.head_dim);
  if (value_dim != spec.head_dim) {
    keys.fail("attention.value_length", std::to_string(spec.head_dim), std::to_string(value_dim));
  }
  spec.vocab_size = rows_of(file, "token_embd.weight");
  set_architecture_constants(spec);
  if (spec.causal) {
    read_decoder(file, keys, spec);
  } else {
    read_encoder(file, keys, spec);
  }
  read_kv_sharing(file, keys, spec);
  try {
    spec.validate();
  } catch (const core::Error& failure) {
    throw core::error("gguf", "{}: {}", file.path().string(), failure.what());
  }
  return spec;
}

namespace {

class Writer {
 public:
  Writer(std::string prefix, GgufMetadata& target) : prefix_(std::move(prefix)), target_(target) {}

  void general(const std::string& key, GgufValue value) {
    target_.emplace_back(key, std::move(value));
  }
  void integer(const char* suffix, int64_t value) {
    general(prefix_ + "." + suffix, static_cast<uint32_t>(value));
  }
  void number(const char* suffix, double value) {
    general(prefix_ + "." + suffix, static_cast<float>(value));
  }
  void text(const char* suffix, std::string value) {
    general(prefix_ + "." + suffix, std::move(value));
  }
  void integers(const char* suffix, const std::vector<int64_t>& values) {
    general(prefix_ + "." + suffix,
            formats::GgufArray{std::vector<int32_t>(values.begin(), values.end())});
  }
  void boolean(const char* suffix, bool value) { general(prefix_ + "." + suffix, value); }

 private:
  std::string prefix_;
  GgufMetadata& target_;
};

void write_ropes(const ModelSpec& spec, Writer& writer) {
  const Rope& rope = spec.ropes.front();
  const RopeScaling& scaling = rope.scaling;
  writer.number("rope.freq_base", rope.base);
  writer.integer("rope.dimension_count", rope.dims);
  if (spec.ropes.size() > 1) {
    writer.number("rope.freq_base_swa", spec.ropes[1].base);
  }
  switch (scaling.kind) {
    case RopeScalingKind::kLinear:
      writer.text("rope.scaling.type", "linear");
      writer.number("rope.scaling.factor", scaling.factor);
      break;
    case RopeScalingKind::kYarn:
      writer.text("rope.scaling.type", "yarn");
      writer.number("rope.scaling.factor", scaling.factor);
      break;
    case RopeScalingKind::kLongRope:
      writer.number("rope.scaling.attn_factor", rope_frequencies(rope, spec.head_dim, 1).magnitude);
      break;
    default:  // llama3 and divisors are tensors; llama.cpp has no dynamic one
      break;
  }
  if (scaling.kind != RopeScalingKind::kNone && scaling.original_context > 0) {
    writer.integer("rope.scaling.original_context_length", scaling.original_context);
  }
  if (scaling.kind != RopeScalingKind::kNone && scaling.kind != RopeScalingKind::kDivisors) {
    writer.general(kScalingKey, rope_scaling_object(scaling).dump());
  }
}

void write_windows(const ModelSpec& spec, Writer& writer) {
  const auto widest = std::max_element(spec.windows.begin(), spec.windows.end());
  if (widest == spec.windows.end() || *widest == 0) {
    return;
  }
  writer.integer("attention.sliding_window", *widest);
  std::vector<int32_t> windows;
  bool usual = true;
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    const int64_t window = spec.window(layer);
    usual = usual && window == (is_local_layer(spec.architecture, layer) ? *widest : 0);
    windows.push_back(static_cast<int32_t>(window));
  }
  if (!usual) {
    writer.general(kWindowsKey, formats::GgufArray{std::move(windows)});
  }
}

}  // namespace

GgufMetadata gguf_metadata(const ModelSpec& spec, int64_t file_type) {
  const Architecture& entry = architecture(spec.architecture);
  GgufMetadata metadata;
  Writer writer(std::string(entry.gguf), metadata);
  writer.general("general.architecture", std::string(entry.gguf));
  writer.general("general.type", std::string("model"));
  if (!spec.name.empty()) {
    writer.general("general.name", spec.name);
  }
  writer.general("general.file_type", static_cast<uint32_t>(file_type));
  writer.general("general.quantization_version", uint32_t{2});
  if (entry.name != entry.gguf) {
    writer.general(kArchitectureKey, spec.architecture);
  }
  writer.integer("vocab_size", spec.vocab_size);
  writer.integer("block_count", spec.num_layers);
  writer.integer("context_length", spec.context_length);
  writer.integer("embedding_length", spec.hidden_size);
  writer.integer("feed_forward_length", spec.intermediate_size);
  writer.integer("attention.head_count", spec.heads);
  if (!spec.causal) {
    writer.number("attention.layer_norm_epsilon", spec.norm_epsilon);
    writer.boolean("attention.causal", false);
    writer.integer("pooling_type", static_cast<int64_t>(spec.pooling));
    if (spec.embedded_tokens > 0) {
      writer.general(kEmbeddedTokensKey, static_cast<uint32_t>(spec.embedded_tokens));
    }
    return metadata;
  }
  writer.integer("attention.head_count_kv", spec.kv_heads);
  writer.integer("attention.key_length", spec.head_dim);
  writer.integer("attention.value_length", spec.head_dim);
  writer.number("attention.layer_norm_rms_epsilon", spec.norm_epsilon);
  if (spec.attention_scale > 0) {
    writer.number("attention.scale", spec.attention_scale);
  }
  if (spec.architecture == "gemma2" || spec.attention_softcap > 0) {
    writer.number("attn_logit_softcapping", spec.attention_softcap);
  }
  if (spec.architecture == "gemma2" || spec.output_softcap > 0) {
    writer.number("final_logit_softcapping", spec.output_softcap);
  }
  write_windows(spec, writer);
  write_ropes(spec, writer);
  if (spec.kv_source != own_kv_sources(spec.num_layers)) {
    writer.integers(kSourceSuffix, spec.kv_source);
  }
  return metadata;
}

std::vector<std::pair<std::string, std::vector<float>>> rope_tensors(const ModelSpec& spec) {
  if (spec.ropes.empty()) {
    return {};
  }
  const auto floats = [](const std::vector<double>& values) {
    return std::vector<float>(values.begin(), values.end());
  };
  const Rope& rope = spec.ropes.front();
  switch (rope.scaling.kind) {
    case RopeScalingKind::kDivisors:
      return {{kRopeTensors[0], floats(rope.scaling.short_divisors)}};
    case RopeScalingKind::kLlama3: {
      Rope plain = rope;
      plain.scaling = {};
      const auto before = rope_frequencies(plain, spec.head_dim, 1).radians;
      const auto after = rope_frequencies(rope, spec.head_dim, 1).radians;
      std::vector<double> ratios;
      for (int64_t i = 0; i < rope.dims / 2; ++i) {
        ratios.push_back(before[static_cast<size_t>(i)] / after[static_cast<size_t>(i)]);
      }
      return {{kRopeTensors[0], floats(ratios)}};
    }
    case RopeScalingKind::kLongRope:
      return {{kRopeTensors[1], floats(rope.scaling.short_divisors)},
              {kRopeTensors[2], floats(rope.scaling.long_divisors)}};
    default:
      return {};
  }
}

bool is_rope_tensor(std::string_view name) {
  return std::find(kRopeTensors.begin(), kRopeTensors.end(), name) != kRopeTensors.end();
}

}  // namespace adze::model
