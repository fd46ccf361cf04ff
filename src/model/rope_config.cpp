#include "model/rope_config.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace adze::model {
namespace {

using Kind = RopeScalingKind;

constexpr std::array<std::pair<std::string_view, Kind>, 8> kNames = {{
    {"default", Kind::kNone},
    {"linear", Kind::kLinear},
    {"dynamic", Kind::kDynamic},
    {"yarn", Kind::kYarn},
    {"llama3", Kind::kLlama3},
    {"longrope", Kind::kLongRope},
    {"su", Kind::kLongRope},  // longrope's name in the first Phi-3 files
    {"none", Kind::kNone},
}};

Kind read_kind(const ConfigFields& object) {
  const char* key = object.has("rope_type") ? "rope_type" : "type";
  const std::string name = object.text(key).value_or("default");
  for (const auto& [known, kind] : kNames) {
    if (known == name) {
      return kind;
    }
  }
  std::string list;
  for (const auto& entry : kNames) {
    list += (list.empty() ? "" : ", ") + std::string(entry.first);
  }
  object.fail(key, "one of " + list);
}

}  // namespace

RopeScaling read_rope_scaling(const ConfigFields& object, int64_t trained, int64_t stretched) {
  RopeScaling result;
  result.kind = read_kind(object);
  if (result.kind == Kind::kNone) {
    return result;
  }
  result.original_context = object.integer("original_max_position_embeddings").value_or(trained);
  if (result.kind == Kind::kDynamic) {
    result.original_context = stretched;  // the base grows beyond what the file calls its context
  }
  if (result.kind != Kind::kLongRope && result.kind != Kind::kYarn && !object.has("factor")) {
    object.fail("factor", "a number");
  }
  result.factor = object.number("factor").value_or(
      static_cast<double>(stretched) /
      static_cast<double>(std::max<int64_t>(1, result.original_context)));
  result.attention_factor = object.number("attention_factor");
  // 0 and nothing both mean the default.
  const auto positive = [&](const char* key, double otherwise) {
    const double value = object.number(key).value_or(0);
    return value == 0 ? otherwise : value;
  };
  result.beta_fast = positive("beta_fast", result.beta_fast);
  result.beta_slow = positive("beta_slow", result.beta_slow);
  result.truncate = object.boolean("truncate").value_or(true);
  result.mscale = positive("mscale", 0);
  result.mscale_all_dim = positive("mscale_all_dim", 0);
  result.low_frequency_factor =
      object.number("low_freq_factor").value_or(result.low_frequency_factor);
  result.high_frequency_factor =
      object.number("high_freq_factor").value_or(result.high_frequency_factor);
  result.short_divisors = object.numbers("short_factor").value_or(std::vector<double>());
  result.long_divisors = object.numbers("long_factor").value_or(std::vector<double>());
  return result;
}

nlohmann::ordered_json rope_scaling_object(const RopeScaling& scaling) {
  const auto name = std::find_if(kNames.begin(), kNames.end(), [&](const auto& entry) {
    return entry.second == scaling.kind;
  });
  if (name == kNames.end()) {
    throw core::error("model",
                      "rope_freqs: expected the divisors of Llama 3, got others, which a "
                      "rope_scaling cannot say");
  }
  nlohmann::ordered_json object{{"rope_type", name->first}, {"type", name->first}};
  object["factor"] = scaling.factor;
  if (scaling.attention_factor) {
    object["attention_factor"] = *scaling.attention_factor;
  }
  switch (scaling.kind) {
    case Kind::kYarn:
      object["original_max_position_embeddings"] = scaling.original_context;
      object["beta_fast"] = scaling.beta_fast;
      object["beta_slow"] = scaling.beta_slow;
      object["truncate"] = scaling.truncate;
      if (scaling.mscale > 0) {
        object["mscale"] = scaling.mscale;
      }
      if (scaling.mscale_all_dim > 0) {
        object["mscale_all_dim"] = scaling.mscale_all_dim;
      }
      break;
    case Kind::kLlama3:
      object["original_max_position_embeddings"] = scaling.original_context;
      object["low_freq_factor"] = scaling.low_frequency_factor;
      object["high_freq_factor"] = scaling.high_frequency_factor;
      break;
    case Kind::kLongRope:
      // Readers derive it from the two contexts; a copy would win over them.
      object.erase("factor");
      object["short_factor"] = scaling.short_divisors;
      object["long_factor"] = scaling.long_divisors;
      break;
    default:
      break;
  }
  return object;
}

}  // namespace adze::model
