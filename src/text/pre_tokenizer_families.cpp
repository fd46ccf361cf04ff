#include "text/pre_tokenizer_families.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "text/printable.h"

namespace adze::text {

namespace {

using Step = PreTokenizerStep;

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+)"
    R"([\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kSeedCoder =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+"
    "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*)"
    R"(|\s*[\r\n]|\s+(?!\S)|\s+)";

// DeepSeek's expressions, with the characters themselves as their tokenizer.json has them.
constexpr std::string_view kOneLineBreak = "[\r\n]";
constexpr std::string_view kSpacedLetters = R"(\s?\p{L}+)";
constexpr std::string_view kSpacedPunctuation = R"(\s?\p{P}+)";
constexpr std::string_view kDeepSeekIdeographs = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+";
constexpr std::string_view kDeepSeek3Ideographs = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
constexpr std::string_view kDeepSeek3Words =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+"
    "|\\s+(?!\\S)|\\s+";
constexpr std::string_view kUpToThreeDigits = R"(\p{N}{1,3})";
constexpr std::string_view kTrailingSpaces = R"(\s+$)";  // quadratic in a run of inner spaces
// Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee and other alphabets with case.
constexpr std::string_view kDeepSeekLlmLetters =
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293"
    "\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c"
    "\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5"
    "\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc"
    "\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107"
    "\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee"
    "\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943]+";
constexpr std::string_view kDeepSeekLlmPunctuation =
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+";

constexpr std::string_view kBloom = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+";
constexpr std::string_view kThreeDigits = "[0-9][0-9][0-9]";

Step split(std::string_view expression) {
  return {.kind = Step::Kind::kSplitExpression, .pattern = std::string(expression)};
}

Step digits(bool individual) {
  return {.kind = Step::Kind::kDigits, .individual = individual};
}

Step byte_level(bool words) {
  return {.kind = Step::Kind::kByteLevel, .split = words};
}

// The expressions, then bytes.
std::vector<Step> expressions(std::initializer_list<std::string_view> patterns) {
  std::vector<Step> steps;
  for (const std::string_view pattern : patterns) {
    steps.push_back(split(pattern));
  }
  steps.push_back(byte_level(false));
  return steps;
}

struct Family {
  std::vector<std::string_view> names;  // the first is the one that is written
  PreTokenizerFamily definition;
};

const std::vector<Family>& families() {
  static const std::vector<Family> table = [] {
    const std::vector<NormalizerStep> none;
    const std::vector<NormalizerStep> nfc{{.kind = NormalizerStep::Kind::kNfc}};
    std::vector<Family> all;
    const auto add = [&](std::vector<std::string_view> names,
                         const std::vector<NormalizerStep>& normalizers,
                         std::vector<Step> steps,
                         bool prefers_whole_tokens = false) {
      all.push_back({std::move(names), {normalizers, std::move(steps), prefers_whole_tokens}});
    };
    add({"gpt-2", "phi-2", "roberta-bpe", "jina-v1-en", "jina-v2-code", "exaone4", "trillion"},
        none,
        {byte_level(true)});
    add({"olmo", "mpt", "modern-bert"}, nfc, {byte_level(true)});
    add({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
        none,
        {digits(true), byte_level(true)});
    add({"falcon"},
        none,
        {{.kind = Step::Kind::kPunctuation, .behavior = SplitBehavior::kContiguous},
         byte_level(true),
         digits(false),
         split(kThreeDigits)});
    add({"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
        none,
        expressions({kLlama3}),
        true);
    add({"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"}, none, expressions({kLlama3}));
    add({"qwen2", "megrez", "kormo", "f2llmv2"}, nfc, expressions({kQwen2}));
    add({"deepseek-r1-qwen", "stablelm2", "hunyuan", "solar-open", "grok-2"},
        none,
        expressions({kQwen2}));
    add({"qwen35"}, nfc, expressions({kQwen35}));
    add({"gpt-4o", "llama4", "kanana2", "minimax-m2"}, none, expressions({kGpt4o}));
    add({"tekken"}, none, expressions({kTekken}), true);
    add({"seed-coder"}, none, expressions({kSeedCoder}));
    add({"bailingmoe", "bailingmoe2", "llada-moe"}, none, expressions({kBailing}));
    add({"deepseek-llm"},
        none,
        {split(kOneLineBreak),
         split(kDeepSeekLlmLetters),
         split(kDeepSeekLlmPunctuation),
         split(kTrailingSpaces),
         split(kDeepSeekIdeographs),
         digits(true),
         byte_level(false)});
    add({"deepseek-coder"},
        none,
        {split(kOneLineBreak),
         split(kSpacedLetters),
         split(kSpacedPunctuation),
         split(kDeepSeekIdeographs),
         digits(true),
         byte_level(false)});
    add({"deepseek-v3", "hunyuan-dense", "joyai-llm"},
        none,
        expressions({kUpToThreeDigits, kDeepSeek3Ideographs, kDeepSeek3Words}));
    add({"bloom", "poro-chat", "gpt3-finnish"}, none, expressions({kBloom}));
    add({"viking"}, none, {split(kBloom), digits(true), byte_level(false)});
    return all;
  }();
  return table;
}

// Digits as an expression: some files have them that way.
Step canonical(Step step) {
  if (step.kind == Step::Kind::kSplitExpression && !step.invert &&
      step.behavior == SplitBehavior::kIsolated && step.pattern == R"(\p{N})") {
    return digits(true);
  }
  // Files differ in writing line breaks as characters or as escapes.
  std::string pattern;
  for (const char character : step.pattern) {
    if (character == '\r' || character == '\n') {
      pattern += character == '\r' ? "\\r" : "\\n";
    } else {
      pattern += character;
    }
  }
  step.pattern = pattern;
  // An inverted split on everything that matches gives the same pieces when the matches cover the
  // text; GPT-2's words do.
  if (step.kind == Step::Kind::kSplitExpression && step.invert &&
      (step.behavior == SplitBehavior::kRemoved || step.behavior == SplitBehavior::kIsolated)) {
    step.invert = false;
    step.behavior = SplitBehavior::kIsolated;
  }
  return step;
}

bool covers_every_text(std::string_view pattern) {
  return pattern.ends_with(R"(|\s+)");
}

// GPT-2's words may stand in an expression of their own.
std::vector<Step> canonical(const std::vector<Step>& steps) {
  constexpr std::string_view kGpt2 =
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  std::vector<Step> result;
  for (const Step& step : steps) {
    const bool inverted = step.invert;
    Step next = canonical(step);
    if (inverted && step.behavior == SplitBehavior::kRemoved && !covers_every_text(step.pattern)) {
      next = step;
    }
    if (next.kind == Step::Kind::kByteLevel && !result.empty() &&
        result.back() == canonical(split(kGpt2)) && !next.split) {
      result.pop_back();
      next.split = true;
    }
    result.push_back(std::move(next));
  }
  return result;
}

// What prefers_whole_tokens changes is known: nothing, where each token is reached by merges. The
// flag is compared all the same.
bool is_same(const PreTokenizerFamily& family, const TokenizerSpec& spec) {
  return family.normalizers == spec.normalizers &&
         family.prefers_whole_tokens == spec.prefers_whole_tokens &&
         canonical(family.steps) == canonical(spec.pre_tokenizers);
}

}  // namespace

PreTokenizerFamily pre_tokenizer_family(std::string_view name) {
  std::string known;
  for (const Family& family : families()) {
    for (const std::string_view candidate : family.names) {
      if (candidate == name) {
        return family.definition;
      }
      known.append(known.empty() ? "" : ", ").append(candidate);
    }
  }
  throw core::error(
      "tokenizer", "pre_tokenizer: expected one of {}; got '{}'", known, printable(name));
}

std::optional<std::string> name_of_family(const TokenizerSpec& spec) {
  if (!spec.pre_tokenizer.empty()) {
    return spec.pre_tokenizer;
  }
  for (const Family& family : families()) {
    if (is_same(family.definition, spec)) {
      return std::string(family.names.front());
    }
  }
  return std::nullopt;
}

bool is_linear_expression(std::string_view expression) {
  return expression != kTrailingSpaces &&
         std::any_of(families().begin(), families().end(), [&](const Family& family) {
           const auto& steps = family.definition.steps;
           return std::any_of(steps.begin(), steps.end(), [&](const Step& step) {
             return step.kind == Step::Kind::kSplitExpression && step.pattern == expression;
           });
         });
}

TokenizerSpec with_family_written_out(TokenizerSpec spec) {
  if (!spec.pre_tokenizer.empty()) {
    PreTokenizerFamily family = pre_tokenizer_family(spec.pre_tokenizer);
    spec.normalizers = std::move(family.normalizers);
    spec.pre_tokenizers = std::move(family.steps);
    spec.prefers_whole_tokens = family.prefers_whole_tokens;
    spec.pre_tokenizer.clear();
  }
  return spec;
}

std::optional<PreTokenizerStep> step_of_no_family(const TokenizerSpec& spec) {
  std::vector<Step> known;
  for (const Family& family : families()) {
    const std::vector<Step> steps = canonical(family.definition.steps);
    known.insert(known.end(), steps.begin(), steps.end());
  }
  for (const Step& step : canonical(spec.pre_tokenizers)) {
    if (std::find(known.begin(), known.end(), step) == known.end()) {
      return step;
    }
  }
  return std::nullopt;
}

}  // namespace adze::text
