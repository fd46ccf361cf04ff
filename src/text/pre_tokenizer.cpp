#include "text/pre_tokenizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "text/byte_alphabet.h"
#include "text/pre_tokenizer_families.h"
#include "text/reference_unicode.h"

namespace adze::text {

namespace {

using Kind = PreTokenizerStep::Kind;

constexpr size_t kMaxSteps = 64;  // the longest known has seven

constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Words by Rust's meaning of \w, which `tokenizers` uses here.
constexpr std::string_view kWords = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]+)"
                                    R"(|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}\s]+)";

// Unicode's punctuation and ASCII's, as the reference sees it.
std::string punctuation() {
  const std::string exceptions = reference_punctuation_exceptions();
  return "(?![" + exceptions + R"(])[\p{P}$+<=>\^`|~]|(?!\p{P})[)" + exceptions + "]";
}

struct Cut {
  size_t begin;
  size_t end;
  bool separator;
};

}  // namespace

struct PreTokenizer::Piece {
  std::string_view text;
  bool at_start;     // of the whole text
  bool in_alphabet;  // the bytes are written in GPT-2's alphabet
};

struct PreTokenizer::Workspace {
  explicit Workspace(size_t num_stages) : stages(num_stages + 1) {}

  struct Stage {
    std::string text;  // the piece, where the stage changes it
    std::vector<Cut> cuts;
  };

  RegularExpression::Workspace expressions;
  std::vector<Stage> stages;
};

// One cut, or one change of the text.
class PreTokenizer::Stage {
 public:
  enum class Change : uint8_t { kNone, kPrefixSpace, kAlphabet, kMetaspace };

  // Separators are the matches, or what lies between.
  Stage(std::string_view expression,
        SplitBehavior behavior,
        bool invert,
        RegularExpression::Cost cost = RegularExpression::Cost::kLinear)
      : expression_(std::in_place, expression, cost), behavior_(behavior), invert_(invert) {}
  Stage(Change change, const PreTokenizerStep& step)
      : change_(change), replacement_(step.pattern), prepend_(step.prepend) {}

  // The piece as the stage sees it; `memory` holds what it changes.
  Piece changed(const Piece& piece, std::string& memory) const {
    switch (change_) {
      case Change::kNone:
        return piece;
      case Change::kPrefixSpace:
        if (piece.text.starts_with(' ')) {
          return piece;
        }
        memory.assign(1, ' ').append(piece.text);
        return {memory, piece.at_start, piece.in_alphabet};
      case Change::kAlphabet:
        memory = alphabet_from_bytes(piece.text);
        return {memory, piece.at_start, true};
      case Change::kMetaspace:
        make_metaspace(piece, memory);
        return {memory, piece.at_start, piece.in_alphabet};
    }
    return piece;
  }

  // Calls use(begin, end) for each piece of the text, from the left.
  template <class Use>
  void cut(std::string_view text,
           RegularExpression::Workspace& workspace,
           std::vector<Cut>& cuts,
           Use&& use) const {
    if (!expression_) {
      use(size_t{0}, text.size());
    } else if (behavior_ == SplitBehavior::kIsolated || behavior_ == SplitBehavior::kRemoved) {
      const bool keeps_all = behavior_ == SplitBehavior::kIsolated;
      for_each_cut(text, workspace, [&](const Cut& cut) {
        if (keeps_all || !cut.separator) {
          use(cut.begin, cut.end);
        }
      });
    } else {
      cuts.clear();
      for_each_cut(text, workspace, [&](const Cut& cut) { cuts.push_back(cut); });
      merge(cuts);
      for (const Cut& cut : cuts) {
        use(cut.begin, cut.end);
      }
    }
  }

 private:
  void make_metaspace(const Piece& piece, std::string& memory) const {
    memory.clear();
    const bool wanted =
        prepend_ == PrependScheme::kAlways || (prepend_ == PrependScheme::kFirst && piece.at_start);
    const bool present = piece.text.starts_with(' ') || piece.text.starts_with(replacement_);
    if (wanted && !present) {
      memory += replacement_;
    }
    for (const char byte : piece.text) {
      if (byte == ' ') {
        memory += replacement_;
      } else {
        memory += byte;
      }
    }
  }

  // Matches and what lies between them, from the left.
  template <class Use>
  void for_each_cut(std::string_view text,
                    RegularExpression::Workspace& workspace,
                    Use&& use) const {
    size_t position = 0;
    for_each_match(*expression_, text, workspace, [&](size_t begin, size_t end) {
      if (begin > position) {
        use(Cut{position, begin, invert_});
      }
      use(Cut{begin, end, !invert_});
      position = end;
    });
    if (position < text.size()) {
      use(Cut{position, text.size(), invert_});
    }
  }

  // Joins cuts as the behaviour says.
  void merge(std::vector<Cut>& cuts) const {
    const bool backwards = behavior_ == SplitBehavior::kMergedWithNext;
    if (backwards) {
      std::reverse(cuts.begin(), cuts.end());
    }
    std::vector<Cut> merged;
    bool after_separator = false;
    for (const Cut& cut : cuts) {
      const bool joins = behavior_ == SplitBehavior::kContiguous
                             ? cut.separator == after_separator
                             : cut.separator && !after_separator;
      if (joins && !merged.empty()) {
        (backwards ? merged.back().begin : merged.back().end) = backwards ? cut.begin : cut.end;
      } else {
        merged.push_back(cut);
      }
      after_separator = cut.separator;
    }
    if (backwards) {
      std::reverse(merged.begin(), merged.end());
    }
    cuts = std::move(merged);
  }

  std::optional<RegularExpression> expression_;
  SplitBehavior behavior_ = SplitBehavior::kIsolated;
  bool invert_ = false;
  Change change_ = Change::kNone;
  std::string replacement_;
  PrependScheme prepend_ = PrependScheme::kNever;
};

PreTokenizer::PreTokenizer(const std::vector<PreTokenizerStep>& steps) {
  using Change = Stage::Change;
  constexpr SplitBehavior kIsolated = SplitBehavior::kIsolated;
  constexpr SplitBehavior kRemoved = SplitBehavior::kRemoved;
  if (steps.size() > kMaxSteps) {
    throw core::error(
        "tokenizer", "pre_tokenizer: expected at most {} steps, got {}", kMaxSteps, steps.size());
  }
  for (size_t index = 0; index < steps.size(); ++index) {
    const PreTokenizerStep& step = steps[index];
    switch (step.kind) {
      case Kind::kSplitText:
        if (!step.pattern.empty()) {
          stages_.emplace_back(escaped_expression(step.pattern), step.behavior, step.invert);
        }
        break;
      case Kind::kSplitExpression:
        stages_.emplace_back(step.pattern,
                             step.behavior,
                             step.invert,
                             is_linear_expression(step.pattern)
                                 ? RegularExpression::Cost::kLinear
                                 : RegularExpression::Cost::kUnknown);
        break;
      case Kind::kDigits:
        stages_.emplace_back(step.individual ? R"(\p{N})" : R"(\p{N}+)", kIsolated, false);
        break;
      case Kind::kPunctuation:
        stages_.emplace_back(punctuation(), step.behavior, false);
        break;
      case Kind::kWhitespace:
        stages_.emplace_back(kWords, kRemoved, true);
        break;
      case Kind::kWhitespaceSplit:
        stages_.emplace_back(R"(\s)", kRemoved, false);
        break;
      case Kind::kBert:
        stages_.emplace_back(R"(\s)", kRemoved, false);
        stages_.emplace_back(punctuation(), kIsolated, false);
        break;
      case Kind::kMetaspace:
        stages_.emplace_back(Change::kMetaspace, step);
        if (step.split) {
          stages_.emplace_back(
              escaped_expression(step.pattern), SplitBehavior::kMergedWithNext, false);
        }
        break;
      case Kind::kByteLevel:
        if (step.add_prefix_space) {
          stages_.emplace_back(Change::kPrefixSpace, step);
        }
        if (step.split) {
          stages_.emplace_back(kGpt2Words, kIsolated, false);
        }
        if (index + 1 < steps.size()) {  // later steps see the alphabet
          stages_.emplace_back(Change::kAlphabet, step);
        }
        byte_level_ = true;
        break;
    }
  }
}

PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;

void PreTokenizer::WorkspaceDeleter::operator()(Workspace* workspace) const {
  delete workspace;
}

PreTokenizer::WorkspacePointer PreTokenizer::make_workspace() const {
  return WorkspacePointer(new Workspace(stages_.size()));
}

RegularExpression::Workspace& PreTokenizer::expressions(Workspace& workspace) {
  return workspace.expressions;
}

void PreTokenizer::split(std::string_view text,
                         bool at_start,
                         Workspace& workspace,
                         const Consumer& consume) const {
  if (!text.empty()) {
    split_from(0, {text, at_start, false}, workspace, consume);
  }
}

void PreTokenizer::split_from(size_t stage,
                              const Piece& piece,
                              Workspace& workspace,
                              const Consumer& consume) const {
  if (stage == stages_.size()) {
    if (piece.in_alphabet) {
      workspace.stages[stage].text =
          bytes_from_alphabet(piece.text).value_or(std::string(piece.text));
      consume(workspace.stages[stage].text);
    } else {
      consume(piece.text);
    }
    return;
  }
  const Piece seen = stages_[stage].changed(piece, workspace.stages[stage].text);
  const auto pass = [&](size_t begin, size_t end) {
    if (begin < end) {
      split_from(
          stage + 1,
          {seen.text.substr(begin, end - begin), seen.at_start && begin == 0, seen.in_alphabet},
          workspace,
          consume);
    }
  };
  stages_[stage].cut(seen.text, workspace.expressions, workspace.stages[stage].cuts, pass);
}

}  // namespace adze::text
