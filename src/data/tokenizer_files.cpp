#include "data/tokenizer_files.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "data/json_place.h"
#include "data/sentencepiece_model.h"
#include "data/tokenizer_json.h"

namespace adze::data {

namespace {

using nlohmann::json;
using text::TokenizerSpec;
using text::TokenKind;

constexpr size_t kMaxTemplateBytes = size_t{1} << 20;
constexpr size_t kMaxEntries = size_t{1} << 20;

std::string_view text_of(const core::MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// An object; a missing file is an empty one.
json read_object(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) {
    return json::object();
  }
  const core::MappedFile file(path);
  json parsed = core::parse_json(text_of(file), path.string());
  if (!parsed.is_object()) {
    throw core::error("tokenizer", "{}: expected an object", path.string());
  }
  return parsed;
}

// tokenizer_config.json, with what older folders keep in special_tokens_map.json.
struct Configuration {
  explicit Configuration(const std::filesystem::path& folder)
      : file((folder / "tokenizer_config.json").string()),
        json(read_object(folder / "tokenizer_config.json")) {
    const nlohmann::json map = read_object(folder / "special_tokens_map.json");
    for (const auto& [name, value] : map.items()) {
      if (!json.contains(name) || json[name].is_null()) {
        json[name] = value;
      }
    }
  }

  JsonPlace at(const char* name) const { return JsonPlace(json, file).at(name); }

  // "<s>" or {"content": "<s>", ...}
  std::optional<std::string> token(const char* name) const {
    JsonPlace place = at(name);
    if (place.json().is_object()) {
      place = place.at("content");
    }
    return place.is_null() ? std::nullopt : std::optional(place.text());
  }

  std::string file;
  nlohmann::json json;
};

std::optional<int32_t> find(const TokenizerSpec& spec, const std::optional<std::string>& text) {
  const auto found =
      text ? std::find(spec.tokens.begin(), spec.tokens.end(), *text) : spec.tokens.end();
  return found == spec.tokens.end()
             ? std::nullopt
             : std::optional(static_cast<int32_t>(found - spec.tokens.begin()));
}

// `transformers` makes every token that the configuration names one that is matched as a whole.
void add_special(TokenizerSpec& spec, std::optional<int32_t> id) {
  if (!id || !spec.added_tokens) {
    return;
  }
  auto& added = *spec.added_tokens;
  if (std::none_of(
          added.begin(), added.end(), [&](const auto& token) { return token.id == *id; })) {
    added.push_back({.id = *id});
    TokenKind& kind = spec.kinds[static_cast<size_t>(*id)];
    kind = kind == TokenKind::kUnknown ? kind : TokenKind::kControl;
  }
}

void apply_names(const Configuration& configuration, TokenizerSpec& spec) {
  const auto id = [&](const char* name) {
    const auto found = find(spec, configuration.token(name));
    add_special(spec, found);
    return found;
  };
  const auto begin = id("bos_token");
  const auto end = id("eos_token");
  const auto separator = id("sep_token");
  const auto first = id("cls_token");
  const auto unknown = id("unk_token");
  const auto padding = id("pad_token");
  id("mask_token");
  if (spec.add_end_of_text && end && end != spec.end_of_text) {
    spec.separator = spec.end_of_text;  // what the post-processor adds
  } else if (separator && !end) {
    spec.separator = separator;
  }
  if (!spec.add_begin_of_text) {
    spec.begin_of_text = begin ? begin : first ? first : spec.begin_of_text;
  }
  const bool keeps_end = spec.add_end_of_text && !end;
  spec.end_of_text = end ? end : keeps_end || !separator ? spec.end_of_text : separator;
  spec.unknown = spec.unknown ? spec.unknown : unknown;
  spec.padding = padding ? padding : spec.padding;
  const JsonPlace add_begin = configuration.at("add_bos_token");
  if (!add_begin.is_null() && begin) {
    spec.add_begin_of_text = add_begin.flag_or(false);
    spec.begin_of_text = begin;
  }
  const JsonPlace add_end = configuration.at("add_eos_token");
  if (!add_end.is_null() && end) {
    spec.add_end_of_text = add_end.flag_or(false);
    spec.separator = spec.add_end_of_text ? std::nullopt : spec.separator;
  }
}

// Tokens beside those of tokenizer.model: {"32000": {"content": "<|user|>", "special": true}}.
void add_configured_tokens(const Configuration& configuration, TokenizerSpec& spec) {
  const JsonPlace place = configuration.at("added_tokens_decoder");
  if (place.is_null()) {
    return;
  }
  if (!place.json().is_object()) {
    place.fail("an object");
  }
  std::vector<text::AddedToken> added;
  std::vector<bool> is_added;
  for (const auto& [name, value] : place.json().items()) {
    const JsonPlace token(value, configuration.file, "added_tokens_decoder");
    const bool digits = !name.empty() && name.size() < 8 &&
                        name.find_first_not_of("0123456789") == std::string::npos;
    const size_t id = digits ? static_cast<size_t>(std::stoul(name)) : kMaxEntries;
    if (id >= kMaxEntries) {
      place.fail(fmt::format("ids of 0 to {}", kMaxEntries - 1));
    }
    if (id >= spec.tokens.size()) {
      spec.tokens.resize(id + 1);
      spec.kinds.resize(id + 1, TokenKind::kUnused);
      spec.scores.resize(id + 1, 0);
    }
    is_added.resize(spec.tokens.size());
    is_added[id] = true;
    const bool special = token.at("special").flag_or(false);
    const bool unknown = spec.kinds[id] == TokenKind::kUnknown;
    spec.tokens[id] = token.at("content").text();
    spec.kinds[id] = unknown   ? TokenKind::kUnknown
                     : special ? TokenKind::kControl
                               : TokenKind::kUserDefined;
    added.push_back({.id = static_cast<int32_t>(id),
                     .normalized = token.at("normalized").flag_or(!special),
                     .left_strip = token.at("lstrip").flag_or(false),
                     .right_strip = token.at("rstrip").flag_or(false),
                     .single_word = token.at("single_word").flag_or(false)});
  }
  // SentencePiece's own control tokens stay what they are.
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const bool control =
        spec.kinds[id] == TokenKind::kControl || spec.kinds[id] == TokenKind::kUnknown;
    if (control && !(id < is_added.size() && is_added[id])) {
      added.push_back({.id = static_cast<int32_t>(id)});
    }
  }
  spec.added_tokens = std::move(added);
}

TokenizerSpec read_sentencepiece(const std::filesystem::path& path,
                                 const Configuration& configuration) {
  const core::MappedFile file(path);
  TokenizerSpec spec = sentencepiece_spec(text_of(file), path.string());
  // Classes of `transformers` that add a token where the configuration does not say.
  const std::string kind = configuration.at("tokenizer_class").text_or("");
  const auto has = [&](std::string_view name) { return kind.find(name) != std::string::npos; };
  spec.add_begin_of_text = spec.begin_of_text && (has("Llama") || has("Gemma"));
  spec.add_end_of_text = spec.end_of_text && has("T5");
  add_configured_tokens(configuration, spec);
  return spec;
}

}  // namespace

TokenizerSpec tokenizer_spec(const std::filesystem::path& folder) {
  const Configuration configuration(folder);
  const std::filesystem::path json_path = folder / "tokenizer.json";
  const std::filesystem::path model_path = folder / "tokenizer.model";
  TokenizerSpec spec;
  if (std::filesystem::exists(json_path)) {
    const core::MappedFile file(json_path);
    const json root = core::parse_json(text_of(file), json_path.string());
    spec = tokenizer_from_json(root, json_path.string());
  } else if (std::filesystem::exists(model_path)) {
    spec = read_sentencepiece(model_path, configuration);
  } else {
    throw core::error("tokenizer",
                      "{}: expected tokenizer.json or tokenizer.model, found neither",
                      folder.string());
  }
  apply_names(configuration, spec);
  return spec;
}

std::optional<std::string> chat_template_source(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "chat_template.jinja";
  if (std::filesystem::exists(path)) {
    const core::MappedFile file(path);
    if (file.bytes().size() > kMaxTemplateBytes) {
      throw core::error("tokenizer",
                        "{}: expected at most {} bytes, got {}",
                        path.string(),
                        kMaxTemplateBytes,
                        file.bytes().size());
    }
    return std::string(text_of(file));
  }
  const Configuration configuration(folder);
  const JsonPlace place = configuration.at("chat_template");
  if (place.is_null()) {
    return std::nullopt;
  }
  if (!place.json().is_array()) {
    return place.text();
  }
  for (const JsonPlace& element : place.elements()) {
    if (element.at("name").text() == "default") {
      return element.at("template").text();
    }
  }
  return std::nullopt;
}

}  // namespace adze::data
