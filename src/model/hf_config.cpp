#include "model/hf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"
#include "model/architectures.h"
#include "model/config_fields.h"
#include "model/kv_sharing.h"
#include "model/rope_config.h"

namespace adze::model {
namespace {

using Json = nlohmann::ordered_json;
using kernels::Activation;

constexpr std::array<std::pair<std::string_view, Activation>, 6> kActivationNames = {{
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"gelu", Activation::kGelu},
    {"gelu_pytorch_tanh", Activation::kGeluTanh},
    {"gelu_new", Activation::kGeluTanh},
    {"gelu_fast", Activation::kGeluTanh},
}};

template <class Names>
auto named(const Names& names, std::string_view name) {
  return std::find_if(
      names.begin(), names.end(), [&](const auto& entry) { return entry.first == name; });
}

template <class Names>
std::string name_list(const Names& names) {
  std::string list;
  for (const auto& entry : names) {
    list += (list.empty() ? "" : ", ") + std::string(entry.first);
  }
  return list;
}

template <class Names, class Value>
std::string name_of(const Names& names, Value value) {
  return std::string(std::find_if(names.begin(), names.end(), [&](const auto& e) {
                       return e.second == value;
                     })->first);
}

// A rope from the object that describes it (rope_scaling, or one entry of rope_parameters).
Rope read_rope(const ConfigFields& config,
               const std::optional<ConfigFields>& scaling,
               double base,
               const ModelSpec& spec) {
  Rope rope;
  rope.base = scaling ? scaling->number("rope_theta").value_or(base) : base;
  double turning = config.number("partial_rotary_factor").value_or(1);
  if (scaling) {
    turning = scaling->number("partial_rotary_factor").value_or(turning);
  }
  if (!(turning > 0 && turning <= 1)) {
    config.fail("partial_rotary_factor", "a number above 0, up to 1");
  }
  rope.dims = static_cast<int64_t>(static_cast<double>(spec.head_dim) * turning);
  if (!scaling) {
    return rope;
  }
  const auto original = config.integer("original_max_position_embeddings");
  rope.scaling =
      read_rope_scaling(*scaling, original.value_or(spec.context_length), spec.context_length);
  return rope;
}

void read_ropes(const ConfigFields& config, ModelSpec& spec) {
  const bool two = spec.architecture == "gemma3";  // local layers turn at a speed of their own
  const auto parameters = config.object("rope_parameters");
  const double base = config.number("rope_theta").value_or(two ? 1e6 : 1e4);
  const double local_base = config.number("rope_local_base_freq").value_or(1e4);
  if (!two) {
    spec.ropes = {
        read_rope(config, parameters ? parameters : config.object("rope_scaling"), base, spec)};
    return;
  }
  if (parameters && parameters->has("full_attention")) {
    spec.ropes = {read_rope(config, parameters->object("full_attention"), base, spec),
                  read_rope(config, parameters->object("sliding_attention"), local_base, spec)};
  } else {
    spec.ropes = {
        read_rope(config, parameters ? parameters : config.object("rope_scaling"), base, spec),
        read_rope(config, std::nullopt, local_base, spec)};
  }
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    spec.rope_of_layer.push_back(spec.window(layer) > 0 ? 1 : 0);
  }
}

// Which layers see a window, for all the ways in which files say so.
std::vector<bool> local_layers(const ConfigFields& config, const ModelSpec& spec) {
  std::vector<bool> local;
  if (const auto types = config.texts("layer_types")) {
    for (const std::string& type : *types) {
      if (type != "sliding_attention" && type != "full_attention") {
        config.fail("layer_types", "sliding_attention or full_attention");
      }
      local.push_back(type == "sliding_attention");
    }
    if (std::cmp_not_equal(local.size(), spec.num_layers)) {
      config.fail("layer_types", fmt::format("{} entries, one a layer", spec.num_layers));
    }
    return local;
  }
  const bool qwen = spec.architecture == "qwen2" || spec.architecture == "qwen3";
  const int64_t first = qwen ? config.integer("max_window_layers").value_or(28) : 0;
  const auto pattern = config.integer("sliding_window_pattern");
  if (pattern && (*pattern < 1 || *pattern > 4096)) {
    config.fail("sliding_window_pattern", "1 to 4096");
  }
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    local.push_back(layer >= first && (pattern ? layer % *pattern != *pattern - 1
                                               : is_local_layer(spec.architecture, layer)));
  }
  return local;
}

void read_windows(const ConfigFields& config, ModelSpec& spec) {
  const bool qwen = spec.architecture == "qwen2" || spec.architecture == "qwen3";
  const bool gemma = spec.architecture == "gemma2" || spec.architecture == "gemma3";
  if (spec.architecture == "llama" ||
      (qwen && !config.boolean("use_sliding_window").value_or(false))) {
    return;
  }
  const auto window = config.integer("sliding_window");
  if (!window && !gemma) {
    return;
  }
  constexpr int64_t kGemmaWindow = 4096;
  const int64_t tokens = window.value_or(kGemmaWindow);
  if (tokens < 1) {
    config.fail("sliding_window", "1 or more");
  }
  for (const bool local : local_layers(config, spec)) {
    spec.windows.push_back(local ? tokens : 0);
  }
}

void read_activation(const ConfigFields& config, ModelSpec& spec) {
  const bool gemma = spec.architecture == "gemma2" || spec.architecture == "gemma3";
  const char* key = gemma ? "hidden_activation" : "hidden_act";
  if (const auto name = config.text(key)) {
    const auto found = named(kActivationNames, *name);
    if (found == kActivationNames.end()) {
      config.fail(key, "one of " + name_list(kActivationNames));
    }
    spec.activation = found->second;
  }
}

void read_decoder(const ConfigFields& config, ModelSpec& spec) {
  const bool gemma = spec.architecture == "gemma2" || spec.architecture == "gemma3";
  constexpr int64_t kGemmaHeadDim = 256;
  spec.head_dim =
      config.integer("head_dim").value_or(gemma ? kGemmaHeadDim : spec.hidden_size / spec.heads);
  spec.norm_epsilon = config.number("rms_norm_eps").value_or(1e-6);
  spec.tied_output = config.boolean("tie_word_embeddings").value_or(gemma);
  if (gemma) {
    const double scalar = config.number("query_pre_attn_scalar").value_or(kGemmaHeadDim);
    if (!(scalar > 0)) {
      config.fail("query_pre_attn_scalar", "a number above 0");
    }
    spec.attention_scale = 1 / std::sqrt(scalar);
    const bool capped = spec.architecture == "gemma2";
    // No key means the default; null means none.
    const auto cap = [&](const char* key, double otherwise) {
      return config.number(key).value_or(capped && config.absent(key) ? otherwise : 0);
    };
    spec.attention_softcap = cap("attn_logit_softcapping", 50);
    spec.output_softcap = cap("final_logit_softcapping", 30);
    if (config.boolean("use_bidirectional_attention").value_or(false)) {
      config.fail("use_bidirectional_attention", "false");
    }
  }
  const bool bias = config.boolean("attention_bias").value_or(spec.query_key_value_bias);
  if (spec.architecture == "qwen2") {
    spec.query_key_value_bias = true;  // whatever the file says, as in transformers
  } else {
    spec.query_key_value_bias = bias && spec.architecture != "mistral" && !gemma;
    spec.attention_output_bias = spec.query_key_value_bias;
    if (bias && !spec.query_key_value_bias) {
      config.fail("attention_bias", "false");
    }
  }
  spec.feed_forward_bias = config.boolean("mlp_bias").value_or(false);
  read_windows(config, spec);
  read_ropes(config, spec);
}

void read_encoder(const ConfigFields& config, ModelSpec& spec) {
  spec.head_dim = spec.hidden_size / spec.heads;
  const auto positions = config.text("position_embedding_type");
  if (positions && *positions != "absolute") {
    config.fail("position_embedding_type", "absolute");
  }
  spec.norm_epsilon = config.number("layer_norm_eps").value_or(1e-12);
  spec.learned_positions = spec.context_length;
  spec.token_types = config.integer("type_vocab_size").value_or(2);
  spec.pooling = Pooling::kMean;
}

}  // namespace

ModelSpec spec_from_config(const nlohmann::json& root, std::string_view file) {
  const ConfigFields whole(root, file);
  const std::string type = whole.text("model_type").value_or("");
  // A model of pictures and text keeps its language model's settings apart.
  const auto inner = type == "gemma3" ? whole.object("text_config") : std::nullopt;
  const ConfigFields config = inner ? *inner : whole;
  const std::string language_type = inner                  ? "gemma3_text"
                                    : type == "lckv-llama" ? "llama"  // which layers share, apart
                                                           : type;
  const auto known = architectures();
  const auto entry = std::find_if(known.begin(), known.end(), [&](const Architecture& candidate) {
    return candidate.model_type == language_type;
  });
  if (entry == known.end()) {
    whole.fail("model_type", "one of " + architecture_names());
  }
  ModelSpec spec;
  spec.architecture = entry->name;
  spec.name = whole.text("_name_or_path").value_or("");
  const bool gemma3 = spec.architecture == "gemma3";  // whose files leave out what is the default
  const auto size = [&](const char* key, int64_t gemma3_default) {
    return gemma3 ? config.integer(key).value_or(gemma3_default) : config.required_integer(key);
  };
  spec.vocab_size = size("vocab_size", 262208);
  spec.hidden_size = size("hidden_size", 2304);
  spec.intermediate_size = size("intermediate_size", 9216);
  spec.num_layers = size("num_hidden_layers", 26);
  spec.heads = size("num_attention_heads", 8);
  spec.kv_heads = config.integer("num_key_value_heads").value_or(gemma3 ? 4 : spec.heads);
  spec.context_length = size("max_position_embeddings", 131072);
  if (spec.num_layers < 1 || spec.num_layers > 4096) {  // before anything is made for each layer
    config.fail("num_hidden_layers", "1 to 4096");
  }
  if (spec.heads < 1) {
    config.fail("num_attention_heads", "1 to 4096");
  }
  set_architecture_constants(spec);
  read_activation(config, spec);
  if (spec.causal) {
    read_decoder(config, spec);
  } else {
    read_encoder(config, spec);
  }
  read_kv_sharing(config, spec);
  try {
    spec.validate();
  } catch (const core::Error& failure) {
    throw core::error("model", "{}: {}", file, failure.what());
  }
  return spec;
}

namespace {

void write_ropes(const ModelSpec& spec, Json& config) {
  const Rope& rope = spec.ropes.front();
  config["rope_theta"] = rope.base;
  if (rope.dims != spec.head_dim) {
    // Readers round the product down.
    const auto head_dim = static_cast<double>(spec.head_dim);
    const double factor = static_cast<double>(rope.dims) / head_dim;
    config["partial_rotary_factor"] =
        static_cast<int64_t>(factor * head_dim) == rope.dims ? factor : std::nextafter(factor, 1.0);
  }
  config["rope_scaling"] =
      rope.scaling.kind == RopeScalingKind::kNone ? Json() : rope_scaling_object(rope.scaling);
  if (rope.scaling.kind == RopeScalingKind::kLongRope) {
    config["original_max_position_embeddings"] = rope.scaling.original_context;
  }
  if (spec.ropes.size() > 1) {
    config["rope_local_base_freq"] = spec.ropes[1].base;
  }
}

void write_windows(const ModelSpec& spec, Json& config) {
  const bool qwen = spec.architecture == "qwen2" || spec.architecture == "qwen3";
  const auto widest = std::max_element(spec.windows.begin(), spec.windows.end());
  const bool any = widest != spec.windows.end() && *widest > 0;
  if (qwen) {
    config["use_sliding_window"] = any;
  }
  if (spec.architecture != "llama") {
    config["sliding_window"] = any ? Json(*widest) : Json();
  }
  if (!any) {
    return;
  }
  if (spec.architecture == "llama") {
    throw core::error("model", "sliding_window: expected none for llama, got {}", *widest);
  }
  auto types = Json::array();
  bool alike = true;
  for (const int64_t window : spec.windows) {
    if (window != 0 && window != *widest) {
      throw core::error("model",
                        "sliding_window: expected one width for all layers, got {} and {}",
                        window,
                        *widest);
    }
    alike = alike && window == *widest;
    types.push_back(window > 0 ? "sliding_attention" : "full_attention");
  }
  const bool by_layer = qwen || spec.architecture == "gemma2" || spec.architecture == "gemma3";
  if (by_layer) {
    config["layer_types"] = types;
  } else if (!alike) {
    throw core::error(
        "model", "sliding_window: expected all layers alike for {}", spec.architecture);
  }
  if (qwen) {
    const auto first = std::find_if(
        spec.windows.begin(), spec.windows.end(), [](int64_t window) { return window > 0; });
    config["max_window_layers"] = first - spec.windows.begin();
  }
}

std::string type_name(core::TensorType type) {
  switch (type) {
    case core::TensorType::kF32:
      return "float32";
    case core::TensorType::kF16:
      return "float16";
    case core::TensorType::kBF16:
      return "bfloat16";
    default:
      throw core::error("model", "type: expected f32, f16 or bf16, got {}", core::info(type).name);
  }
}

Json cap(double value) {
  return value > 0 ? Json(value) : Json();
}

}  // namespace

nlohmann::ordered_json config_from_spec(const ModelSpec& spec, core::TensorType type) {
  const Architecture& entry = architecture(spec.architecture);
  const bool gemma = spec.architecture == "gemma2" || spec.architecture == "gemma3";
  Json config{{"architectures", {entry.model_class}},
              {"model_type", entry.model_type},
              {"vocab_size", spec.vocab_size},
              {"hidden_size", spec.hidden_size},
              {"intermediate_size", spec.intermediate_size},
              {"num_hidden_layers", spec.num_layers},
              {"num_attention_heads", spec.heads},
              {"max_position_embeddings", spec.context_length}};
  const std::string activation = name_of(kActivationNames, spec.activation);
  config[gemma ? "hidden_activation" : "hidden_act"] = activation;
  config["torch_dtype"] = type_name(type);
  if (!spec.causal) {
    config["layer_norm_eps"] = spec.norm_epsilon;
    config["type_vocab_size"] = spec.token_types;
    config["position_embedding_type"] = "absolute";
    return config;
  }
  config["num_key_value_heads"] = spec.kv_heads;
  config["head_dim"] = spec.head_dim;
  config["rms_norm_eps"] = spec.norm_epsilon;
  config["tie_word_embeddings"] = spec.tied_output;
  if (gemma) {
    // A whole number, but for rounding.
    const double scalar = 1 / (spec.score_scale() * spec.score_scale());
    const double whole = std::round(scalar);
    config["query_pre_attn_scalar"] =
        std::abs(scalar - whole) < 1e-6 * whole ? Json(static_cast<int64_t>(whole)) : Json(scalar);
    config["attn_logit_softcapping"] = cap(spec.attention_softcap);
    config["final_logit_softcapping"] = cap(spec.output_softcap);
  }
  if (spec.architecture == "llama" || spec.architecture == "qwen3") {
    config["attention_bias"] = spec.query_key_value_bias;
  }
  if (spec.architecture == "llama") {
    config["mlp_bias"] = spec.feed_forward_bias;
  }
  write_windows(spec, config);
  write_ropes(spec, config);
  if (auto sharing = kv_sharing_object(spec); !sharing.is_null()) {
    config["kv_sharing"] = std::move(sharing);
  }
  return config;
}

}  // namespace adze::model
