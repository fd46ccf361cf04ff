#include <algorithm>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/mapped_file.h"
#include "data/pair_scores.h"
#include "data/tokenizer_files.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_json_steps.h"
#include "text/pre_tokenizer_families.h"
#include "text/utf8.h"
#include "text/vocabulary_merges.h"

namespace adze::data {

namespace {

using nlohmann::ordered_json;
using text::NormalizerStep;
using text::PrependScheme;
using text::PreTokenizerStep;
using text::TokenizerModel;
using text::TokenizerSpec;
using text::TokenKind;

constexpr std::string_view kWordStart = "\u2581";

// SentencePiece's normaliser in steps.
std::vector<NormalizerStep> sentencepiece_steps(const NormalizerStep& step) {
  using Kind = NormalizerStep::Kind;
  std::vector<NormalizerStep> steps;
  if (!step.content.empty()) {
    steps.push_back({.kind = Kind::kCharsmap, .content = step.content});
  }
  if (step.remove_extra_spaces) {
    steps.push_back({.kind = Kind::kReplaceExpression, .pattern = R"(\A +| +\z)", .content = ""});
    steps.push_back({.kind = Kind::kReplaceExpression, .pattern = " {2,}", .content = " "});
  }
  if (step.add_prefix_space) {
    steps.push_back({.kind = Kind::kPrepend, .content = std::string(kWordStart)});
  }
  steps.push_back({.kind = Kind::kReplaceText, .pattern = " ", .content = std::string(kWordStart)});
  return steps;
}

void write_out_sentencepiece(TokenizerSpec& spec) {
  std::vector<NormalizerStep> steps;
  for (const NormalizerStep& step : spec.normalizers) {
    if (step.kind == NormalizerStep::Kind::kSentencePiece) {
      const auto parts = sentencepiece_steps(step);
      steps.insert(steps.end(), parts.begin(), parts.end());
    } else {
      steps.push_back(step);
    }
  }
  spec.normalizers = std::move(steps);
}

// Whether U+2581 only begins tokens, so that words can be told apart before.
bool words_are_apart(const TokenizerSpec& spec) {
  return std::none_of(spec.tokens.begin(), spec.tokens.end(), [](std::string_view token) {
    while (token.starts_with(kWordStart)) {
      token.remove_prefix(kWordStart.size());
    }
    return token.find(kWordStart) != std::string_view::npos;
  });
}

// SentencePiece looks for user-defined tokens in normalised text. Where a space is put in front,
// the library would put one into such a token too, so that it has to look in the text as it is.
std::vector<text::AddedToken> added_by_kind(const TokenizerSpec& spec) {
  const bool sentencepiece = spec.model == TokenizerModel::kScoredPairs || spec.sentencepiece_rules;
  const bool in_normalized =
      sentencepiece &&
      std::none_of(spec.normalizers.begin(), spec.normalizers.end(), [](const auto& step) {
        return step.kind == NormalizerStep::Kind::kSentencePiece && step.add_prefix_space;
      });
  std::vector<text::AddedToken> added;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const TokenKind kind = spec.kinds[id];
    if (kind == TokenKind::kControl || kind == TokenKind::kUnknown ||
        kind == TokenKind::kUserDefined) {
      added.push_back({.id = static_cast<int32_t>(id),
                       .normalized = in_normalized && kind == TokenKind::kUserDefined});
    }
  }
  return added;
}

// A string as JSON; the file must be UTF-8.
std::string quoted(const std::string& text, const char* field, size_t index) {
  if (text::valid_prefix(text) != text.size()) {
    throw core::error("tokenizer", "{}[{}]: expected UTF-8, got other bytes", field, index);
  }
  return nlohmann::json(text).dump();
}

const std::string& token_text(const TokenizerSpec& spec, int32_t id) {
  return spec.tokens[static_cast<size_t>(id)];
}

bool is_special(const TokenizerSpec& spec, int32_t id) {
  const TokenKind kind = spec.kinds[static_cast<size_t>(id)];
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown;
}

ordered_json added_tokens_json(const TokenizerSpec& spec) {
  ordered_json list = ordered_json::array();
  auto added = spec.added_tokens.value_or(std::vector<text::AddedToken>());
  std::sort(added.begin(), added.end(), [](const auto& first, const auto& second) {
    return first.id < second.id;
  });
  for (const text::AddedToken& token : added) {
    list.push_back({{"id", token.id},
                    {"content", token_text(spec, token.id)},
                    {"single_word", token.single_word},
                    {"lstrip", token.left_strip},
                    {"rstrip", token.right_strip},
                    {"normalized", token.normalized},
                    {"special", is_special(spec, token.id)}});
  }
  return list;
}

ordered_json post_processor_json(const TokenizerSpec& spec) {
  if (!spec.add_begin_of_text && !spec.add_end_of_text) {
    return nullptr;
  }
  ordered_json special = ordered_json::object();
  const auto piece = [&](int32_t id, int type) -> ordered_json {
    const std::string& name = token_text(spec, id);
    special[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
    return {{"SpecialToken", {{"id", name}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* name, int type) -> ordered_json {
    return {{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  const bool bert = spec.model == TokenizerModel::kWordPiece;
  ordered_json single = ordered_json::array();
  ordered_json pair = ordered_json::array();
  if (spec.add_begin_of_text) {
    single.push_back(piece(*spec.begin_of_text, 0));
  }
  single.push_back(sequence("A", 0));
  if (spec.add_end_of_text) {
    single.push_back(piece(*closing_token(spec), 0));
  }
  pair = single;
  if (spec.add_begin_of_text && !bert) {
    pair.push_back(piece(*spec.begin_of_text, 1));
  }
  pair.push_back(sequence("B", 1));
  if (spec.add_end_of_text) {
    pair.push_back(piece(*closing_token(spec), 1));
  }
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", special}};
}

// {"text": id, ...}; of equal texts the first. Written by hand: a tree of it would take hundreds of
// megabytes.
std::string vocabulary_json(const TokenizerSpec& spec) {
  std::string json = "{";
  std::unordered_set<std::string_view> seen;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& token = spec.tokens[id];
    if (!token.empty() && seen.insert(token).second) {
      json.append(json.size() > 1 ? "," : "")
          .append("\n      ")
          .append(quoted(token, "tokens", id));
      json.append(": ").append(std::to_string(id));
    }
  }
  return json + "\n    }";
}

std::string scored_vocabulary_json(const TokenizerSpec& spec) {
  std::string json = "[";
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string token =
        spec.tokens[id].empty() ? fmt::format("[unused {}]", id) : spec.tokens[id];
    json.append(id > 0 ? "," : "").append("\n      [").append(quoted(token, "tokens", id));
    json.append(", ").append(nlohmann::json(spec.scores[id]).dump()).append("]");
  }
  return json + "\n    ]";
}

// Lines, which every version of the library reads, or pairs where a part has a space.
std::string merges_json(const TokenizerSpec& spec) {
  const bool wide = std::any_of(spec.merges.begin(), spec.merges.end(), [](const auto& merge) {
    return merge.find('\xFF') != std::string::npos;
  });
  std::string json = "[";
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    json.append(rank > 0 ? "," : "").append("\n      ");
    if (wide) {
      const auto [left, right] = text::merge_parts(spec.merges[rank], rank);
      json.append("[").append(quoted(std::string(left), "merges", rank));
      json.append(", ").append(quoted(std::string(right), "merges", rank)).append("]");
    } else {
      json.append(quoted(spec.merges[rank], "merges", rank));
    }
  }
  return json + "\n    ]";
}

std::string model_json(const TokenizerSpec& spec) {
  std::string json = "{\n";
  const auto put = [&](const char* key, const std::string& value, bool last = false) {
    json.append("    \"").append(key).append("\": ").append(value).append(last ? "\n" : ",\n");
  };
  const auto flag = [](bool value) { return std::string(value ? "true" : "false"); };
  const auto unknown = [&]() -> std::string {
    return nlohmann::json(token_text(spec, *spec.unknown)).dump();
  };
  switch (spec.model) {
    case TokenizerModel::kMergedPairs:
      put("type", "\"BPE\"");
      put("dropout", "null");
      put("unk_token", spec.writes_unknown ? unknown() : "null");
      put("continuing_subword_prefix", "null");
      put("end_of_word_suffix", "null");
      put("fuse_unk", flag(spec.fuse_unknown));
      put("byte_fallback", flag(spec.byte_fallback));
      put("ignore_merges", flag(spec.prefers_whole_tokens));
      put("vocab", vocabulary_json(spec));
      put("merges", merges_json(spec), true);
      break;
    case TokenizerModel::kUnigram:
      put("type", "\"Unigram\"");
      put("unk_id", spec.unknown ? std::to_string(*spec.unknown) : "null");
      put("byte_fallback", flag(spec.byte_fallback));
      put("vocab", scored_vocabulary_json(spec), true);
      break;
    case TokenizerModel::kWordPiece:
      put("type", "\"WordPiece\"");
      put("unk_token", unknown());
      put("continuing_subword_prefix", nlohmann::json(spec.continuing_prefix).dump());
      put("max_input_chars_per_word", std::to_string(spec.max_word_characters));
      put("vocab", vocabulary_json(spec), true);
      break;
    case TokenizerModel::kScoredPairs:
      throw core::error("tokenizer", "model: scores have to become merges first");
  }
  return json + "  }";
}

ordered_json special_tokens_json(const TokenizerSpec& spec) {
  ordered_json json = ordered_json::object();
  const auto put = [&](const char* name, std::optional<int32_t> id) {
    if (id) {
      json[name] = token_text(spec, *id);
    }
  };
  const bool bert = spec.model == TokenizerModel::kWordPiece;
  const auto separator = spec.separator ? spec.separator : bert ? spec.end_of_text : std::nullopt;
  put(bert ? "cls_token" : "bos_token", spec.begin_of_text);
  put("eos_token", spec.end_of_text == separator ? std::nullopt : spec.end_of_text);
  put("sep_token", separator);
  put("unk_token", spec.unknown);
  put("pad_token", spec.padding);
  return json;
}

std::string dumped(const ordered_json& json) {
  try {
    return json.dump(2);
  } catch (const nlohmann::json::exception&) {
    throw core::error("tokenizer", "tokens: expected UTF-8 to write, got other bytes");
  }
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  core::AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace

TokenizerSpec for_tokenizers_library(TokenizerSpec spec) {
  spec = text::with_family_written_out(std::move(spec));
  if (!spec.added_tokens) {
    spec.added_tokens = added_by_kind(spec);
  }
  write_out_sentencepiece(spec);
  if (spec.model == TokenizerModel::kScoredPairs) {
    spec.merges = merges_from_scores(spec);
    spec.model = TokenizerModel::kMergedPairs;
    spec.scores.clear();
    spec.fuse_unknown = true;
    spec.writes_unknown = spec.unknown.has_value();
  } else if (spec.model == TokenizerModel::kUnigram && spec.sentencepiece_rules) {
    spec.pre_tokenizers = {{.kind = PreTokenizerStep::Kind::kMetaspace,
                            .pattern = std::string(kWordStart),
                            .prepend = PrependScheme::kNever,
                            .split = words_are_apart(spec)}};
    spec.sentencepiece_rules = false;
    spec.single_precision = false;
  }
  const bool byte_level =
      std::any_of(spec.pre_tokenizers.begin(), spec.pre_tokenizers.end(), [](const auto& step) {
        return step.kind == PreTokenizerStep::Kind::kByteLevel;
      });
  if (byte_level && spec.decoders.empty()) {
    spec.decoders = {{.kind = text::DecoderStep::Kind::kByteLevel}};
  }
  return spec;
}

std::string tokenizer_json(const TokenizerSpec& spec) {
  std::string json = "{\n";
  const auto put = [&](const char* key, const std::string& value, bool last = false) {
    json.append("  \"").append(key).append("\": ").append(value).append(last ? "\n" : ",\n");
  };
  put("version", "\"1.0\"");
  put("truncation", "null");
  put("padding", "null");
  put("added_tokens", dumped(added_tokens_json(spec)));
  put("normalizer", dumped(normalizers_json(spec.normalizers)));
  put("pre_tokenizer", dumped(pre_tokenizers_json(spec.pre_tokenizers)));
  put("post_processor", dumped(post_processor_json(spec)));
  put("decoder", dumped(decoders_json(spec.decoders)));
  put("model", model_json(spec), true);
  return json + "}\n";
}

namespace {

// Name and content of each.
std::vector<std::pair<std::string, std::string>> tokenizer_files(
    const TokenizerSpec& spec, const std::optional<std::string>& chat_template) {
  const TokenizerSpec written = for_tokenizers_library(spec);
  const ordered_json special = special_tokens_json(spec);
  ordered_json configuration = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                {"clean_up_tokenization_spaces", false}};
  configuration.update(special);
  if (chat_template) {
    configuration["chat_template"] = *chat_template;
  }
  return {{kTokenizerFiles[0], tokenizer_json(written)},
          {kTokenizerFiles[1], dumped(configuration) + "\n"},
          {kTokenizerFiles[2], dumped(special) + "\n"}};
}

bool has_bytes(const std::filesystem::path& path, std::string_view bytes) {
  const core::MappedFile file(path);
  return std::string_view(reinterpret_cast<const char*>(file.bytes().data()),
                          file.bytes().size()) == bytes;
}

}  // namespace

void write_tokenizer_files(const std::filesystem::path& folder,
                           const TokenizerSpec& spec,
                           const std::optional<std::string>& chat_template) {
  for (const auto& [name, content] : tokenizer_files(spec, chat_template)) {
    write_file(folder / name, content);
  }
}

void check_tokenizer_files(const std::filesystem::path& folder, const TokenizerSpec& spec) {
  for (const auto& [name, content] : tokenizer_files(spec, std::nullopt)) {
    if (std::filesystem::exists(folder / name) && !has_bytes(folder / name, content)) {
      throw core::error(
          "data", "{} is another tokenizer's; nothing is overwritten", (folder / name).string());
    }
  }
}

}  // namespace adze::data
