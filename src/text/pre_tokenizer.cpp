#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pre_tokenizer.h"

#include <array>
#include <span>
#include <string>

#include <pcre2.h>

#include "core/check.h"
#include "core/error.h"

namespace adze::text {

namespace {

// One match sees at most one run of characters of a kind, in linear time; the limits are far above
// that and stop what we did not foresee.
constexpr uint32_t kMatchLimit = 1U << 31;
constexpr uint32_t kDepthLimit = 10'000;

constexpr std::string_view kOneDigit = R"(\p{N})";

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

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

// CJK ideographs and whatever else the DeepSeek vocabularies keep in runs of their own.
constexpr std::string_view kDeepSeekCoderIdeographs =
    R"([\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";
constexpr std::string_view kDeepSeek3Ideographs =
    R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";
constexpr std::string_view kDeepSeek3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kOneLineBreak = R"([\r\n])";
constexpr std::string_view kSpacedLetters = R"(\s?\p{L}+)";
constexpr std::string_view kSpacedPunctuation = R"(\s?\p{P}+)";
constexpr std::string_view kUpToThreeDigits = R"(\p{N}{1,3})";

struct Definition {
  std::string_view name;
  std::array<std::string_view, 5> expressions;  // "" after the last
  bool prefers_whole_tokens = false;
};

constexpr std::array kDefinitions{
    Definition{"gpt-2", {kGpt2}},
    Definition{"smollm", {kOneDigit, kGpt2}},
    Definition{"starcoder", {kOneDigit, kGpt2}},
    Definition{"refact", {kOneDigit, kGpt2}},
    Definition{"command-r", {kOneDigit, kGpt2}},
    Definition{"llama-bpe", {kLlama3}, true},
    Definition{"llama3", {kLlama3}, true},
    Definition{"llama-v3", {kLlama3}, true},
    Definition{"qwen2", {kQwen2}},
    Definition{"deepseek-r1-qwen", {kQwen2}},
    Definition{"stablelm2", {kQwen2}},
    Definition{"gpt-4o", {kGpt4o}},
    Definition{"tekken", {kTekken}, true},
    Definition{
        "deepseek-coder",
        {kOneLineBreak, kSpacedLetters, kSpacedPunctuation, kDeepSeekCoderIdeographs, kOneDigit}},
    Definition{"deepseek-v3", {kUpToThreeDigits, kDeepSeek3Ideographs, kDeepSeek3Words}},
};

const Definition& definition_of(std::string_view name) {
  std::string known;
  for (const Definition& definition : kDefinitions) {
    if (definition.name == name) {
      return definition;
    }
    known.append(known.empty() ? "" : ", ").append(definition.name);
  }
  throw core::error("tokenizer", "pre_tokenizer: expected one of {}; got '{}'", known, name);
}

// NOTE: PCRE2 counts U+180E as white space, Unicode (and the reference tokenizers) do not; so \s is
// written out as Unicode's White_Space.
std::string expand_white_space(std::string_view expression) {
  constexpr std::string_view kMembers = R"(\t-\r\x{85}\p{Z})";
  std::string expanded;
  bool in_class = false;
  for (size_t index = 0; index < expression.size(); ++index) {
    const char character = expression[index];
    if (character != '\\') {
      in_class = character == '[' || (in_class && character != ']');
      expanded += character;
      continue;
    }
    const char escaped = expression[++index];
    if (escaped == 's' && in_class) {
      expanded += kMembers;
    } else if (escaped == 's' || escaped == 'S') {
      expanded.append(escaped == 's' ? "[" : "[^").append(kMembers).append("]");
    } else {
      expanded.append({character, escaped});
    }
  }
  return expanded;
}

struct Pcre2Deleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

struct Match {
  size_t begin;
  size_t end;
};

}  // namespace

class PreTokenizer::Workspace {
 public:
  Workspace()
      : context_(pcre2_match_context_create(nullptr)), data_(pcre2_match_data_create(1, nullptr)) {
    if (!context_ || !data_) {
      throw std::bad_alloc();
    }
    pcre2_set_match_limit(context_.get(), kMatchLimit);
    pcre2_set_depth_limit(context_.get(), kDepthLimit);
  }
  pcre2_match_context* context() { return context_.get(); }
  pcre2_match_data* data() { return data_.get(); }

 private:
  std::unique_ptr<pcre2_match_context, Pcre2Deleter> context_;
  std::unique_ptr<pcre2_match_data, Pcre2Deleter> data_;
};

class PreTokenizer::Stage {
 public:
  explicit Stage(std::string_view expression) {
    const std::string pattern = expand_white_space(expression);
    int code = 0;
    size_t offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                              pattern.size(),
                              PCRE2_UTF,
                              &code,
                              &offset,
                              nullptr));
    core::check(code_ != nullptr, "expression ", pattern, " fails at ", offset, ", error ", code);
    // Where the platform has no just-in-time compiler, matching interprets: slower, same result.
    compiled_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
  }

  // The first match at or after `start`; false where there is none.
  bool find(std::string_view text, size_t start, Workspace& workspace, Match& match) const {
    int result = compiled_ ? run(pcre2_jit_match, text, start, 0, workspace)
                           : run(pcre2_match, text, start, PCRE2_NO_UTF_CHECK, workspace);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
      result = run(pcre2_match, text, start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, workspace);
    }
    if (result == PCRE2_ERROR_NOMATCH) {
      return false;
    }
    if (result < 0) {
      throw core::error("tokenizer", "text: the pre-tokenizer gave up with PCRE2 error {}", result);
    }
    const size_t* bounds = pcre2_get_ovector_pointer(workspace.data());
    match = {bounds[0], bounds[1]};
    core::check(match.begin >= start && match.end > match.begin, "a match must not be empty");
    return true;
  }

 private:
  template <class Function>
  int run(Function&& function,
          std::string_view text,
          size_t start,
          uint32_t options,
          Workspace& workspace) const {
    return function(code_.get(),
                    reinterpret_cast<PCRE2_SPTR>(text.data()),
                    text.size(),
                    start,
                    options,
                    workspace.data(),
                    workspace.context());
  }

  std::unique_ptr<pcre2_code, Pcre2Deleter> code_;
  bool compiled_ = false;
};

void PreTokenizer::WorkspaceDeleter::operator()(Workspace* workspace) const {
  delete workspace;
}

PreTokenizer::PreTokenizer(std::string_view name) {
  const Definition& definition = definition_of(name);
  prefers_whole_tokens_ = definition.prefers_whole_tokens;
  for (const std::string_view expression : definition.expressions) {
    if (!expression.empty()) {
      stages_.push_back(std::make_unique<Stage>(expression));
    }
  }
}

PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;

PreTokenizer::WorkspacePointer PreTokenizer::make_workspace() const {
  return WorkspacePointer(new Workspace);
}

void PreTokenizer::split(std::string_view text,
                         Workspace& workspace,
                         const Consumer& consume) const {
  split_from(0, text, workspace, consume);
}

void PreTokenizer::split_from(size_t stage,
                              std::string_view text,
                              Workspace& workspace,
                              const Consumer& consume) const {
  if (stage == stages_.size()) {
    consume(text);
    return;
  }
  size_t position = 0;
  Match match{};
  while (position < text.size() && stages_[stage]->find(text, position, workspace, match)) {
    if (match.begin > position) {
      split_from(stage + 1, text.substr(position, match.begin - position), workspace, consume);
    }
    split_from(stage + 1, text.substr(match.begin, match.end - match.begin), workspace, consume);
    position = match.end;
  }
  if (position < text.size()) {
    split_from(stage + 1, text.substr(position), workspace, consume);
  }
}

}  // namespace adze::text
