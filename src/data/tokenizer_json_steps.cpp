#include "data/tokenizer_json_steps.h"

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "data/tokenizer_json.h"

namespace adze::data {

namespace {

using text::DecoderStep;
using text::NormalizerStep;
using text::PrependScheme;
using text::PreTokenizerStep;
using text::SplitBehavior;

constexpr int64_t kMaxStrip = 1 << 20;
constexpr size_t kMaxSteps = 64;  // no known tokenizer has ten

constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kBehaviors{{
    {"Removed", SplitBehavior::kRemoved},
    {"Isolated", SplitBehavior::kIsolated},
    {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
    {"MergedWithNext", SplitBehavior::kMergedWithNext},
    {"Contiguous", SplitBehavior::kContiguous},
}};
constexpr std::array<std::pair<std::string_view, PrependScheme>, 3> kSchemes{{
    {"first", PrependScheme::kFirst},
    {"never", PrependScheme::kNever},
    {"always", PrependScheme::kAlways},
}};
constexpr std::array<std::pair<std::string_view, NormalizerStep::Kind>, 6> kPlainNormalizers{{
    {"NFC", NormalizerStep::Kind::kNfc},
    {"NFD", NormalizerStep::Kind::kNfd},
    {"NFKC", NormalizerStep::Kind::kNfkc},
    {"NFKD", NormalizerStep::Kind::kNfkd},
    {"Lowercase", NormalizerStep::Kind::kLowercase},
    {"StripAccents", NormalizerStep::Kind::kStripAccents},
}};

// The value that a name stands for, and back.
template <class Table>
auto value_of(const Table& table, const JsonPlace& place, std::string_view expected) {
  for (const auto& [name, value] : table) {
    if (name == place.text()) {
      return value;
    }
  }
  place.fail(expected);
}
template <class Table, class Value>
std::string name_in(const Table& table, Value wanted) {
  for (const auto& [name, value] : table) {
    if (value == wanted) {
      return std::string(name);
    }
  }
  return {};
}

SplitBehavior behavior(const JsonPlace& place) {
  return value_of(
      kBehaviors, place, "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

// {"String": text} or {"Regex": expression}; true for an expression.
bool read_pattern(const JsonPlace& place, std::string& pattern) {
  if (place.json().is_string()) {  // older files
    pattern = place.text();
    return false;
  }
  const bool expression = !place.at("Regex").is_null();
  pattern = place.at(expression ? "Regex" : "String").text();
  return expression;
}

nlohmann::ordered_json pattern_json(bool expression, const std::string& pattern) {
  return {{expression ? "Regex" : "String", pattern}};
}

// Calls use(step) for each step that is not a Sequence.
template <class Use>
void for_each_step(const JsonPlace& place, const char* members, size_t& count, Use&& use) {
  if (place.is_null()) {
    return;
  }
  if (place.at("type").text() == "Sequence") {
    for (const JsonPlace& member : place.at(members).elements()) {
      for_each_step(member, members, count, use);
    }
    return;
  }
  if (++count > kMaxSteps) {
    place.fail(fmt::format("at most {} steps", kMaxSteps));
  }
  use(place);
}

NormalizerStep normalizer_step(const JsonPlace& place) {
  using Kind = NormalizerStep::Kind;
  const std::string& type = place.at("type").text();
  for (const auto& [name, kind] : kPlainNormalizers) {
    if (name == type) {
      return {.kind = kind};
    }
  }
  NormalizerStep step;
  if (type == "Replace") {
    const bool expression = read_pattern(place.at("pattern"), step.pattern);
    step.kind = expression ? Kind::kReplaceExpression : Kind::kReplaceText;
    step.content = place.at("content").text();
  } else if (type == "Prepend") {
    step.kind = Kind::kPrepend;
    step.content = place.at("prepend").text();
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    step.left = place.at("strip_left").flag_or(true);
    step.right = place.at("strip_right").flag_or(true);
  } else if (type == "BertNormalizer") {
    step.kind = Kind::kBert;
    step.clean_text = place.at("clean_text").flag_or(true);
    step.split_ideographs = place.at("handle_chinese_chars").flag_or(true);
    step.lowercase = place.at("lowercase").flag_or(true);
    step.strip_accents = place.at("strip_accents").flag_or(step.lowercase);
  } else if (type == "Precompiled") {
    const JsonPlace table = place.at("precompiled_charsmap");
    step.kind = Kind::kCharsmap;
    step.content = base64_decoded(table.text_or(""), table.path());
  } else {
    place.at("type").not_supported();
  }
  return step;
}

PreTokenizerStep metaspace_step(const JsonPlace& place) {
  PreTokenizerStep step{.kind = PreTokenizerStep::Kind::kMetaspace};
  step.pattern = place.at("replacement").text();
  step.split = place.at("split").flag_or(true);
  if (!place.at("prepend_scheme").is_null()) {
    step.prepend = value_of(kSchemes, place.at("prepend_scheme"), "first, never or always");
  }
  if (!place.at("add_prefix_space").flag_or(true)) {
    step.prepend = PrependScheme::kNever;
  }
  return step;
}

PreTokenizerStep pre_tokenizer_step(const JsonPlace& place) {
  using Kind = PreTokenizerStep::Kind;
  const std::string& type = place.at("type").text();
  PreTokenizerStep step;
  if (type == "Split") {
    const bool expression = read_pattern(place.at("pattern"), step.pattern);
    step.kind = expression ? Kind::kSplitExpression : Kind::kSplitText;
    step.behavior = behavior(place.at("behavior"));
    step.invert = place.at("invert").flag_or(false);
  } else if (type == "CharDelimiterSplit") {
    step.kind = Kind::kSplitText;
    step.pattern = place.at("delimiter").text();
    step.behavior = SplitBehavior::kRemoved;
  } else if (type == "Digits") {
    step.kind = Kind::kDigits;
    step.individual = place.at("individual_digits").flag_or(false);
  } else if (type == "Punctuation") {
    step.kind = Kind::kPunctuation;
    if (!place.at("behavior").is_null()) {
      step.behavior = behavior(place.at("behavior"));
    }
  } else if (type == "Whitespace") {
    step.kind = Kind::kWhitespace;
  } else if (type == "WhitespaceSplit") {
    step.kind = Kind::kWhitespaceSplit;
  } else if (type == "BertPreTokenizer") {
    step.kind = Kind::kBert;
  } else if (type == "Metaspace") {
    step = metaspace_step(place);
  } else if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
    step.split = place.at("use_regex").flag_or(true);
    step.add_prefix_space = place.at("add_prefix_space").flag_or(true);
  } else {
    place.at("type").not_supported();
  }
  return step;
}

DecoderStep decoder_step(const JsonPlace& place) {
  using Kind = DecoderStep::Kind;
  const std::string& type = place.at("type").text();
  DecoderStep step;
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "Replace") {
    if (read_pattern(place.at("pattern"), step.pattern)) {
      place.at("pattern").at("Regex").not_supported();
    }
    step.kind = Kind::kReplaceText;
    step.content = place.at("content").text();
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = Kind::kFuse;
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    step.pattern = place.at("content").text();
    step.count = static_cast<int32_t>(place.at("start").integer_or(0, 0, kMaxStrip));
    if (place.at("stop").integer_or(0, 0, kMaxStrip) != 0) {
      place.at("stop").not_supported();
    }
  } else if (type == "Metaspace") {
    const PreTokenizerStep metaspace = metaspace_step(place);
    step.kind = Kind::kMetaspace;
    step.pattern = metaspace.pattern;
    step.strip_first = metaspace.prepend != PrependScheme::kNever;
  } else if (type == "WordPiece") {
    step.kind = Kind::kWordPiece;
    step.pattern = place.at("prefix").text_or("##");
    step.cleanup = place.at("cleanup").flag_or(true);
  } else {
    place.at("type").not_supported();
  }
  return step;
}

nlohmann::ordered_json in_sequence(std::vector<nlohmann::ordered_json> steps, const char* members) {
  if (steps.empty()) {
    return nullptr;
  }
  if (steps.size() == 1) {
    return std::move(steps.front());
  }
  return {{"type", "Sequence"}, {members, std::move(steps)}};
}

nlohmann::ordered_json normalizer_json(const NormalizerStep& step) {
  using Kind = NormalizerStep::Kind;
  switch (step.kind) {
    case Kind::kReplaceText:
    case Kind::kReplaceExpression:
      return {{"type", "Replace"},
              {"pattern", pattern_json(step.kind == Kind::kReplaceExpression, step.pattern)},
              {"content", step.content}};
    case Kind::kPrepend:
      return {{"type", "Prepend"}, {"prepend", step.content}};
    case Kind::kStrip:
      return {{"type", "Strip"}, {"strip_left", step.left}, {"strip_right", step.right}};
    case Kind::kBert:
      return {{"type", "BertNormalizer"},
              {"clean_text", step.clean_text},
              {"handle_chinese_chars", step.split_ideographs},
              {"strip_accents", step.strip_accents},
              {"lowercase", step.lowercase}};
    case Kind::kCharsmap:
      return {{"type", "Precompiled"}, {"precompiled_charsmap", base64_encoded(step.content)}};
    case Kind::kSentencePiece:
      throw core::error("tokenizer", "normalizer: SentencePiece's has no counterpart of its own");
    default:
      return {{"type", name_in(kPlainNormalizers, step.kind)}};
  }
}

nlohmann::ordered_json pre_tokenizer_json(const PreTokenizerStep& step) {
  using Kind = PreTokenizerStep::Kind;
  switch (step.kind) {
    case Kind::kSplitText:
    case Kind::kSplitExpression:
      return {{"type", "Split"},
              {"pattern", pattern_json(step.kind == Kind::kSplitExpression, step.pattern)},
              {"behavior", name_in(kBehaviors, step.behavior)},
              {"invert", step.invert}};
    case Kind::kDigits:
      return {{"type", "Digits"}, {"individual_digits", step.individual}};
    case Kind::kPunctuation:
      return {{"type", "Punctuation"}, {"behavior", name_in(kBehaviors, step.behavior)}};
    case Kind::kWhitespace:
      return {{"type", "Whitespace"}};
    case Kind::kWhitespaceSplit:
      return {{"type", "WhitespaceSplit"}};
    case Kind::kBert:
      return {{"type", "BertPreTokenizer"}};
    case Kind::kMetaspace:
      return {{"type", "Metaspace"},
              {"replacement", step.pattern},
              {"prepend_scheme", name_in(kSchemes, step.prepend)},
              {"split", step.split}};
    case Kind::kByteLevel:
      return {{"type", "ByteLevel"},
              {"add_prefix_space", step.add_prefix_space},
              {"trim_offsets", true},
              {"use_regex", step.split}};
  }
  return nullptr;
}

nlohmann::ordered_json decoder_json(const DecoderStep& step) {
  using Kind = DecoderStep::Kind;
  switch (step.kind) {
    case Kind::kByteLevel:
      return {{"type", "ByteLevel"},
              {"add_prefix_space", true},
              {"trim_offsets", true},
              {"use_regex", true}};
    case Kind::kReplaceText:
      return {{"type", "Replace"},
              {"pattern", pattern_json(false, step.pattern)},
              {"content", step.content}};
    case Kind::kByteFallback:
      return {{"type", "ByteFallback"}};
    case Kind::kFuse:
      return {{"type", "Fuse"}};
    case Kind::kStrip:
      return {{"type", "Strip"}, {"content", step.pattern}, {"start", step.count}, {"stop", 0}};
    case Kind::kMetaspace:
      return {{"type", "Metaspace"},
              {"replacement", step.pattern},
              {"prepend_scheme", step.strip_first ? "always" : "never"},
              {"split", true}};
    case Kind::kWordPiece:
      return {{"type", "WordPiece"}, {"prefix", step.pattern}, {"cleanup", step.cleanup}};
  }
  return nullptr;
}

}  // namespace

std::vector<NormalizerStep> normalizer_steps(const JsonPlace& place) {
  std::vector<NormalizerStep> steps;
  size_t count = 0;
  for_each_step(place, "normalizers", count, [&](const JsonPlace& step) {
    steps.push_back(normalizer_step(step));
  });
  return steps;
}

std::vector<PreTokenizerStep> pre_tokenizer_steps(const JsonPlace& place) {
  std::vector<PreTokenizerStep> steps;
  size_t count = 0;
  for_each_step(place, "pretokenizers", count, [&](const JsonPlace& step) {
    steps.push_back(pre_tokenizer_step(step));
  });
  return steps;
}

std::vector<DecoderStep> decoder_steps(const JsonPlace& place) {
  std::vector<DecoderStep> steps;
  size_t count = 0;
  for_each_step(place, "decoders", count, [&](const JsonPlace& step) {
    steps.push_back(decoder_step(step));
  });
  return steps;
}

nlohmann::ordered_json normalizers_json(const std::vector<NormalizerStep>& steps) {
  std::vector<nlohmann::ordered_json> list;
  for (const NormalizerStep& step : steps) {
    list.push_back(normalizer_json(step));
  }
  return in_sequence(std::move(list), "normalizers");
}

nlohmann::ordered_json pre_tokenizers_json(const std::vector<PreTokenizerStep>& steps) {
  std::vector<nlohmann::ordered_json> list;
  for (const PreTokenizerStep& step : steps) {
    list.push_back(pre_tokenizer_json(step));
  }
  return in_sequence(std::move(list), "pretokenizers");
}

nlohmann::ordered_json decoders_json(const std::vector<DecoderStep>& steps) {
  std::vector<nlohmann::ordered_json> list;
  for (const DecoderStep& step : steps) {
    list.push_back(decoder_json(step));
  }
  return in_sequence(std::move(list), "decoders");
}

}  // namespace adze::data
