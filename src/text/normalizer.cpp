#include "text/normalizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "text/charsmap.h"
#include "text/reference_unicode.h"
#include "text/replaced.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace adze::text {

namespace {

using Kind = NormalizerStep::Kind;

constexpr std::string_view kWordStart = "\u2581";
// Replacing and prepending may multiply a text; no honest normaliser comes near.
constexpr size_t kMaxGrowth = 64;
// `tokenizers` looks up whole graphemes below this size, and single characters otherwise.
constexpr size_t kMaxGraphemeBytes = 5;

// Calls use(code_point, bytes) for each character.
template <class Use>
void for_each_character(std::string_view text, Use&& use) {
  while (!text.empty()) {
    const Utf8Step step = next_character(text);
    use(step.code_point, text.substr(0, step.length));
    text.remove_prefix(step.length);
  }
}

bool is_ascii(std::string_view text) {
  return std::none_of(
      text.begin(), text.end(), [](char byte) { return static_cast<uint8_t>(byte) >= 0x80; });
}

std::string lowercase(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](uint32_t code_point, std::string_view) {
    if (code_point < 0x80) {
      const bool upper = code_point >= 'A' && code_point <= 'Z';
      result += static_cast<char>(upper ? code_point + 32 : code_point);
    } else {
      append_lowercase(result, code_point);
    }
  });
  return result;
}

template <class Remove>
std::string without(std::string_view text, Remove&& remove) {
  if (is_ascii(text)) {
    return std::string(text);
  }
  std::string result;
  result.reserve(text.size());
  for_each_character(text, [&](uint32_t code_point, std::string_view bytes) {
    if (code_point < 0x80 || !remove(code_point)) {
      result.append(bytes);
    }
  });
  return result;
}

std::string_view strip(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    const Utf8Step step = next_character(text);
    if (!is_white_space(step.code_point)) {
      break;
    }
    text.remove_prefix(step.length);
  }
  while (right && !text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) {
      --begin;
    }
    if (!is_white_space(next_character(text.substr(begin)).code_point)) {
      break;
    }
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

// The ideographs that BERT sets apart, as google-research/bert lists them (with the odd start of
// the fifth extension that `tokenizers` has).
bool is_ideograph(uint32_t code_point) {
  return (code_point >= 0x4E00 && code_point <= 0x9FFF) ||
         (code_point >= 0x3400 && code_point <= 0x4DBF) ||
         (code_point >= 0x20000 && code_point <= 0x2A6DF) ||
         (code_point >= 0x2A700 && code_point <= 0x2B73F) ||
         (code_point >= 0x2B740 && code_point <= 0x2B81F) ||
         (code_point >= 0x2B920 && code_point <= 0x2CEAF) ||
         (code_point >= 0xF900 && code_point <= 0xFAFF) ||
         (code_point >= 0x2F800 && code_point <= 0x2FA1F);
}

std::string bert_cleaned(std::string_view text, const NormalizerStep& step) {
  std::string result;
  result.reserve(text.size() + text.size() / 8);
  for_each_character(text, [&](uint32_t code_point, std::string_view bytes) {
    const bool line_sign = code_point == '\t' || code_point == '\n' || code_point == '\r';
    if (step.clean_text) {
      const bool control = code_point < 0x80
                               ? code_point < 0x20 || code_point == 0x7F
                               : is_reference_other(code_point) || code_point == 0xFFFD;
      if (control && !line_sign) {
        return;
      }
      if (is_white_space(code_point)) {
        result += ' ';
        return;
      }
    }
    if (step.split_ideographs && is_ideograph(code_point)) {
      result.append(" ").append(bytes).append(" ");
      return;
    }
    result.append(bytes);
  });
  return result;
}

std::string bert_normalized(std::string_view text, const NormalizerStep& step) {
  std::string result = bert_cleaned(text, step);
  if (step.strip_accents && !is_ascii(result)) {
    result = without(normal_form(result, NormalForm::kNfd), is_reference_nonspacing_mark);
  }
  return step.lowercase ? lowercase(result) : result;
}

std::string charsmap_normalized(std::string_view text, const Charsmap& charsmap) {
  std::string result;
  result.reserve(text.size());
  const auto append = [&](std::string_view part) {
    const auto found = charsmap.shortest(part);
    if (found) {
      result.append(found->text);
    }
    return found.has_value();
  };
  while (!text.empty()) {
    std::string_view grapheme = text.substr(0, grapheme_length(text));
    text.remove_prefix(grapheme.size());
    if (grapheme.size() <= kMaxGraphemeBytes && append(grapheme)) {
      continue;
    }
    for_each_character(grapheme, [&](uint32_t, std::string_view character) {
      if (!append(character)) {
        result.append(character);
      }
    });
  }
  return result;
}

// SentencePiece's own rules: the longest entry of the table at each place, then spaces.
class SentencePieceNormalizer {
 public:
  SentencePieceNormalizer(const NormalizerStep& step,
                          const Charsmap& charsmap,
                          const SpecialTokenFinder* kept)
      : step_(step), charsmap_(charsmap), kept_(kept) {}

  std::string normalize(std::string_view text) {
    result_.reserve(text.size() + text.size() / 2);
    bool after_space = step_.remove_extra_spaces;  // so that leading ones go
    if (!step_.remove_extra_spaces && !text.empty()) {
      start();
    }
    std::optional<SpecialTokenFinder::Found> found = next_kept(text, 0);
    size_t position = 0;
    while (position < text.size()) {
      std::string_view part;
      if (found && found->begin == position) {
        part = text.substr(position, found->length);
        position += found->length;
        found = next_kept(text, position);
      } else {
        const auto replacement = charsmap_.longest(text.substr(position));
        const size_t length =
            replacement ? replacement->length : next_character(text.substr(position)).length;
        part = replacement ? replacement->text : text.substr(position, length);
        position += length;
        while (found && found->begin < position) {
          found = next_kept(text, position);
        }
      }
      while (after_space && part.starts_with(' ')) {
        part.remove_prefix(1);
      }
      append(part);
      after_space = step_.remove_extra_spaces && (part.empty() ? after_space : part.ends_with(' '));
    }
    while (step_.remove_extra_spaces && result_.ends_with(kWordStart)) {
      result_.resize(result_.size() - kWordStart.size());
    }
    return std::move(result_);
  }

 private:
  std::optional<SpecialTokenFinder::Found> next_kept(std::string_view text, size_t start) const {
    return kept_ == nullptr ? std::nullopt : kept_->find(text, start);
  }
  void start() {
    if (!started_ && step_.add_prefix_space) {
      result_.append(kWordStart);
    }
    started_ = true;
  }
  void append(std::string_view part) {
    if (part.empty()) {
      return;
    }
    start();
    for (const char byte : part) {
      if (byte == ' ') {
        result_.append(kWordStart);
      } else {
        result_ += byte;
      }
    }
  }

  const NormalizerStep& step_;
  const Charsmap& charsmap_;
  const SpecialTokenFinder* kept_;
  std::string result_;
  bool started_ = false;
};

}  // namespace

class Normalizer::Step {
 public:
  explicit Step(const NormalizerStep& step)
      : step_(step),
        charsmap_(step.kind == Kind::kCharsmap || step.kind == Kind::kSentencePiece ? step.content
                                                                                    : "") {
    if (step.kind == Kind::kReplaceExpression) {
      expression_.emplace(step.pattern);
    }
    step_.content = charsmap_.empty() ? step_.content : "";
    if (valid_prefix(step_.content) != step_.content.size() && charsmap_.empty()) {
      throw core::error("tokenizer", "normalizer: expected UTF-8 to insert, got other bytes");
    }
  }

  std::string apply(std::string_view text,
                    RegularExpression::Workspace& workspace,
                    const SpecialTokenFinder* kept) const {
    switch (step_.kind) {
      case Kind::kNfc:
        return normal_form(text, NormalForm::kNfc);
      case Kind::kNfd:
        return normal_form(text, NormalForm::kNfd);
      case Kind::kNfkc:
        return normal_form(text, NormalForm::kNfkc);
      case Kind::kNfkd:
        return normal_form(text, NormalForm::kNfkd);
      case Kind::kLowercase:
        return lowercase(text);
      case Kind::kStripAccents:
        return without(text, is_reference_mark);
      case Kind::kReplaceText:
        return replaced(text, step_.pattern, step_.content);
      case Kind::kReplaceExpression:
        return replaced_matches(text, workspace);
      case Kind::kPrepend:
        return text.empty() ? std::string() : step_.content + std::string(text);
      case Kind::kStrip:
        return std::string(strip(text, step_.left, step_.right));
      case Kind::kBert:
        return bert_normalized(text, step_);
      case Kind::kCharsmap:
        return charsmap_normalized(text, charsmap_);
      case Kind::kSentencePiece:
        return SentencePieceNormalizer(step_, charsmap_, kept).normalize(text);
    }
    return std::string(text);
  }

 private:
  std::string replaced_matches(std::string_view text,
                               RegularExpression::Workspace& workspace) const {
    std::string result;
    size_t position = 0;
    for_each_match(*expression_, text, workspace, [&](size_t begin, size_t end) {
      result.append(text.substr(position, begin - position)).append(step_.content);
      position = end;
    });
    result.append(text.substr(position));
    return result;
  }

  NormalizerStep step_;
  Charsmap charsmap_;
  std::optional<RegularExpression> expression_;
};

Normalizer::Normalizer(const std::vector<NormalizerStep>& steps) {
  for (const NormalizerStep& step : steps) {
    steps_.emplace_back(step);
  }
}

Normalizer::~Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;

std::string Normalizer::normalize(std::string_view text,
                                  RegularExpression::Workspace& workspace,
                                  const SpecialTokenFinder* kept) const {
  std::string result(text);
  for (const Step& step : steps_) {
    result = step.apply(result, workspace, kept);
    if (result.size() / kMaxGrowth > text.size() + kMaxGrowth) {
      throw core::error("tokenizer",
                        "text: normalising made more than {} times of its {} bytes",
                        kMaxGrowth,
                        text.size());
    }
  }
  if (valid_prefix(result) != result.size()) {  // a hostile table of replacements
    throw core::error("tokenizer", "text: normalising gave bytes that are not UTF-8");
  }
  return result;
}

}  // namespace adze::text
