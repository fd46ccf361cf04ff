#include "model/kv_sharing.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <string_view>

#include "core/error.h"

namespace adze::model {
namespace {

ShortGroup read_remainder(const ConfigFields& sharing) {
  const std::string text = sharing.text("remainder").value_or("first");
  if (text != "first" && text != "last") {
    sharing.fail("remainder", "first or last");
  }
  return text == "first" ? ShortGroup::kFirst : ShortGroup::kLast;
}

int64_t read_factor(const ConfigFields& object, const char* key, const ModelSpec& spec) {
  const int64_t factor = object.required_integer(key);
  if (factor < 1 || factor > spec.num_layers) {
    object.fail(key, fmt::format("1 to {} (layers)", spec.num_layers));
  }
  return factor;
}

void read_own_form(const ConfigFields& config, ModelSpec& spec) {
  const ConfigFields sharing = *config.object("kv_sharing");
  spec.key_value_norm = sharing.boolean("separate_norms").value_or(false);
  if (sharing.has("factor") == sharing.has("source")) {
    config.fail("kv_sharing", "either factor or source");
  }
  if (sharing.has("factor")) {
    spec.kv_source = grouped_kv_sources(
        spec.num_layers, read_factor(sharing, "factor", spec), read_remainder(sharing));
  } else {
    spec.kv_source = *sharing.integers("source");
  }
}

void read_hunyuan_form(const ConfigFields& config, ModelSpec& spec) {
  // Readers in such files norm the shared keys with gains of their own, after the rotation.
  if (spec.query_key_norm) {
    config.fail("use_cla", "false where each layer norms its keys");
  }
  spec.kv_source = grouped_kv_sources(
      spec.num_layers, read_factor(config, "cla_share_factor", spec), ShortGroup::kLast);
}

void read_trailing_form(const ConfigFields& config, ModelSpec& spec) {
  const int64_t shared = *config.integer("num_kv_shared_layers");
  if (shared < 0 || shared >= spec.num_layers) {
    config.fail("num_kv_shared_layers", fmt::format("0 to {}", spec.num_layers - 1));
  }
  auto sources = trailing_kv_sources(spec, shared);
  if (!sources) {
    config.fail("num_kv_shared_layers", "an earlier layer with the window of each that shares");
  }
  spec.kv_source = std::move(*sources);
}

// "0_0_2s_2s": for each layer the one whose keys and values it reads, "s" where it sees a window.
void read_listed_form(const ConfigFields& config, ModelSpec& spec) {
  constexpr int64_t kUsualWindow = 4096;
  const int64_t window = config.integer("sliding_window").value_or(kUsualWindow);
  const std::string text = *config.text("layer_types");
  std::vector<int64_t> windows;
  spec.kv_source.clear();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('_', begin), text.size());
    const char* last = text.data() + end;
    int64_t source = -1;
    const auto [stop, code] = std::from_chars(text.data() + begin, last, source);
    const std::string_view suffix(stop, static_cast<size_t>(last - stop));
    if (code != std::errc() || source < 0 || !(suffix.empty() || suffix == "s")) {
      config.fail("layer_types", "numbers of layers, such as 0_0_2_2");
    }
    spec.kv_source.push_back(source);
    windows.push_back(suffix.empty() ? 0 : window);
    begin = end + 1;
  }
  if (std::any_of(windows.begin(), windows.end(), [](int64_t tokens) { return tokens > 0; })) {
    spec.windows = std::move(windows);
  }
}

// The factor that describes the groups, if one does.
std::optional<int64_t> factor_of(const ModelSpec& spec, ShortGroup short_group) {
  for (int64_t factor = 1; factor <= spec.num_layers; ++factor) {
    if (grouped_kv_sources(spec.num_layers, factor, short_group) == spec.kv_source) {
      return factor;
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<int64_t> own_kv_sources(int64_t num_layers) {
  std::vector<int64_t> sources(static_cast<size_t>(num_layers));
  std::iota(sources.begin(), sources.end(), int64_t{0});
  return sources;
}

// [05 §2.3]
std::vector<int64_t> grouped_kv_sources(int64_t num_layers,
                                        int64_t factor,
                                        ShortGroup short_group) {
  const int64_t first = short_group == ShortGroup::kFirst ? num_layers % factor : 0;
  std::vector<int64_t> sources;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    sources.push_back(layer < first ? 0 : layer - (layer - first) % factor);
  }
  return sources;
}

// [05 §2.5], the trailing form
std::optional<std::vector<int64_t>> trailing_kv_sources(const ModelSpec& spec, int64_t shared) {
  std::vector<int64_t> sources = own_kv_sources(spec.num_layers);
  const int64_t first = spec.num_layers - shared;
  for (int64_t layer = first; layer < spec.num_layers; ++layer) {
    int64_t source = first - 1;
    while (source >= 0 && spec.window(source) != spec.window(layer)) {
      --source;
    }
    if (source < 0) {
      return std::nullopt;
    }
    sources[static_cast<size_t>(layer)] = source;
  }
  return sources;
}

// [05 §2.7]
void read_kv_sharing(const ConfigFields& config, ModelSpec& spec) {
  struct Form {
    bool found;
    const char* key;
    void (*read)(const ConfigFields&, ModelSpec&);
  };
  const Form forms[] = {
      {config.has("kv_sharing"), "kv_sharing", read_own_form},
      {config.boolean("use_cla").value_or(false), "use_cla", read_hunyuan_form},
      {config.integer("num_kv_shared_layers").value_or(0) != 0,
       "num_kv_shared_layers",
       read_trailing_form},
      {config.is_text("layer_types"), "layer_types", read_listed_form},
  };
  spec.kv_source = own_kv_sources(spec.num_layers);
  const Form* chosen = nullptr;
  for (const Form& form : forms) {
    if (form.found && chosen != nullptr) {
      config.fail(form.key, fmt::format("none beside {}", chosen->key));
    }
    if (form.found) {
      chosen = &form;
    }
  }
  if (chosen != nullptr) {
    chosen->read(config, spec);
  }
}

nlohmann::ordered_json kv_sharing_object(const ModelSpec& spec) {
  const bool shared = spec.kv_source != own_kv_sources(spec.num_layers);
  if (!shared && !spec.key_value_norm) {
    return nullptr;
  }
  nlohmann::ordered_json object;
  if (const auto factor = factor_of(spec, ShortGroup::kFirst)) {
    object = {{"factor", *factor}, {"remainder", "first"}};
  } else if (const auto other = factor_of(spec, ShortGroup::kLast)) {
    object = {{"factor", *other}, {"remainder", "last"}};
  } else {
    object = {{"source", spec.kv_source}};
  }
  if (spec.key_value_norm) {
    object["separate_norms"] = true;
  }
  return object;
}

// [05 §2.6]
KvBytes kv_bytes_per_token(const ModelSpec& spec, int64_t value_bytes) {
  const int64_t layer_bytes = 2 * spec.kv_width() * value_bytes;
  return {.cached = static_cast<int64_t>(spec.owning_layers().size()) * layer_bytes,
          .read = spec.num_layers * layer_bytes};
}

std::string kv_groups_text(const std::vector<int64_t>& kv_source) {
  const auto layers = static_cast<int64_t>(kv_source.size());
  std::string text;
  for (int64_t owner = 0; owner < layers; ++owner) {
    std::string group;
    for (int64_t layer = owner; layer < layers;) {
      int64_t end = layer;
      while (end < layers && kv_source[static_cast<size_t>(end)] == owner) {
        ++end;
      }
      if (end > layer) {
        group += group.empty() ? "" : "+";
        group += end == layer + 1 ? fmt::format("{}", layer) : fmt::format("{}-{}", layer, end - 1);
      }
      layer = std::max(end, layer + 1);
    }
    if (!group.empty()) {
      text += (text.empty() ? "" : ", ") + group;
    }
  }
  return text;
}

}  // namespace adze::model
