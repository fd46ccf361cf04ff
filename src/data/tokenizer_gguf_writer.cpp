#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "data/pair_scores.h"
#include "data/tokenizer_files.h"
#include "data/tokenizer_gguf.h"
#include "data/tokenizer_json_steps.h"
#include "text/pre_tokenizer_families.h"

namespace adze::data {

namespace {

using formats::GgufArray;
using formats::GgufValue;
using text::NormalizerStep;
using text::PrependScheme;
using text::PreTokenizerStep;
using text::TokenizerModel;
using text::TokenizerSpec;
using text::TokenKind;

constexpr std::string_view kWordStart = "\u2581";

// What SentencePiece does to white space, read off the steps of a tokenizer.json.
struct Spaces {
  bool add_prefix = false;
  bool remove_extra = false;
  std::string charsmap = {};
};

[[noreturn]] void fail(std::string_view what) {
  throw core::error("tokenizer", "GGUF has no counterpart of this tokenizer: {}", what);
}

// One line, as it stands in tokenizer.json.
std::string printable(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace).substr(0, 500);
}

bool is_space_to_word_start(const NormalizerStep& step) {
  return step.kind == NormalizerStep::Kind::kReplaceText && step.pattern == " " &&
         step.content == kWordStart;
}

bool is_removal_of_spaces(const NormalizerStep& step) {
  if (step.kind != NormalizerStep::Kind::kReplaceExpression) {
    return false;
  }
  const bool runs = step.pattern == " {2,}" && (step.content == " " || step.content == kWordStart);
  return runs || (step.pattern == R"(\A +| +\z)" && step.content.empty());
}

void read_normalizer(const NormalizerStep& step, Spaces& spaces) {
  using Kind = NormalizerStep::Kind;
  if (step.kind == Kind::kSentencePiece) {
    spaces = {step.add_prefix_space, step.remove_extra_spaces, step.content};
  } else if (step.kind == Kind::kCharsmap) {
    spaces.charsmap = step.content;
  } else if (step.kind == Kind::kPrepend && step.content == kWordStart) {
    spaces.add_prefix = true;
  } else if (is_removal_of_spaces(step)) {
    spaces.remove_extra = true;
  } else if (!is_space_to_word_start(step) && step.kind != Kind::kStrip) {
    fail(fmt::format("the normalizer {}", printable(normalizers_json({step}))));
  }
}

Spaces read_spaces(const TokenizerSpec& spec) {
  using Kind = PreTokenizerStep::Kind;
  Spaces spaces;
  for (const NormalizerStep& step : spec.normalizers) {
    read_normalizer(step, spaces);
  }
  for (const PreTokenizerStep& step : spec.pre_tokenizers) {
    if (step.kind == Kind::kMetaspace && step.pattern == kWordStart) {
      spaces.add_prefix |= step.prepend != PrependScheme::kNever;
    } else if (step.kind == Kind::kWhitespaceSplit) {
      spaces.remove_extra = true;
    } else if (step.kind != Kind::kSplitText || step.pattern != " ") {
      fail(fmt::format("the pre-tokenizer {}", printable(pre_tokenizers_json({step}))));
    }
  }
  return spaces;
}

class Writer {
 public:
  explicit Writer(const TokenizerSpec& spec) : spec_(spec) {}

  std::vector<std::pair<std::string, GgufValue>> write() {
    switch (spec_.model) {
      case TokenizerModel::kMergedPairs:
        write_merged();
        break;
      case TokenizerModel::kScoredPairs:
        write_sentencepiece("llama", spec_.scores);
        break;
      case TokenizerModel::kUnigram:
        write_sentencepiece("t5", spec_.scores);
        break;
      case TokenizerModel::kWordPiece:
        write_word_piece();
        break;
    }
    write_ids();
    return std::move(entries_);
  }

 private:
  void put(std::string_view key, GgufValue value) {
    entries_.emplace_back(std::string(key), std::move(value));
  }

  void put_tokens(std::vector<std::string> tokens) {
    std::vector<int32_t> kinds;
    for (size_t id = 0; id < tokens.size(); ++id) {
      if (tokens[id].empty()) {
        tokens[id] = fmt::format("[unused {}]", id);
      }
      kinds.push_back(static_cast<int32_t>(spec_.kinds[id]) + 1);
    }
    put(kTokensKey, GgufArray{std::move(tokens)});
    put(kKindsKey, GgufArray{std::move(kinds)});
  }

  void write_merged() {
    const TokenizerSpec& spec = spec_;
    const bool byte_level =
        !spec.pre_tokenizer.empty() ||
        std::any_of(spec.pre_tokenizers.begin(), spec.pre_tokenizers.end(), [](const auto& step) {
          return step.kind == PreTokenizerStep::Kind::kByteLevel;
        });
    if (!byte_level) {
      if (!spec.byte_fallback || spec.prefers_whole_tokens) {
        fail("merges of characters without byte fallback");
      }
      write_sentencepiece("llama", scores_from_merges(spec));
      return;
    }
    const auto name = text::name_of_family(spec);
    if (!name) {
      const auto step = text::step_of_no_family(spec);
      fail(step ? fmt::format("no known family of tokenizers has the pre-tokenizer {}",
                              printable(pre_tokenizers_json({*step})))
                : "no known family of tokenizers has its steps together");
    }
    for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
      if (spec.merges[rank].find('\xFF') != std::string::npos) {
        fail(fmt::format("a space in merge {}", rank));
      }
    }
    put(kModelKey, std::string("gpt2"));
    put(kPreTokenizerKey, *name);
    put_tokens(spec.tokens);
    put(kMergesKey, GgufArray{spec.merges});
  }

  void write_sentencepiece(const char* model, const std::vector<double>& scores) {
    const Spaces spaces = read_spaces(spec_);
    put(kModelKey, std::string(model));
    put(kPreTokenizerKey, std::string("default"));
    put_tokens(spec_.tokens);
    put(kScoresKey, GgufArray{std::vector<float>(scores.begin(), scores.end())});
    put(kAddSpaceKey, spaces.add_prefix);
    put(kRemoveSpacesKey, spaces.remove_extra);
    if (!spaces.charsmap.empty()) {
      put(kCharsmapKey,
          GgufArray{std::vector<uint8_t>(spaces.charsmap.begin(), spaces.charsmap.end())});
    }
  }

  // U+2581 goes before tokens at the front of a word, and the prefix of the others away.
  void write_word_piece() {
    if (spec_.normalizers.size() != 1 ||
        spec_.normalizers.front().kind != NormalizerStep::Kind::kBert ||
        !spec_.normalizers.front().clean_text || !spec_.normalizers.front().split_ideographs) {
      fail("WordPiece with another normalizer than BERT's");
    }
    if (spec_.pre_tokenizers.size() != 1 ||
        spec_.pre_tokenizers.front().kind != PreTokenizerStep::Kind::kBert) {
      fail("WordPiece with another pre-tokenizer than BERT's");
    }
    std::vector<std::string> tokens = spec_.tokens;
    for (size_t id = 0; id < tokens.size(); ++id) {
      const TokenKind kind = spec_.kinds[id];
      const bool whole = kind == TokenKind::kControl || kind == TokenKind::kUnknown;
      if (!whole && tokens[id].starts_with(spec_.continuing_prefix)) {
        tokens[id].erase(0, spec_.continuing_prefix.size());
      } else if (!whole && !tokens[id].empty()) {
        tokens[id].insert(0, kWordStart);
      }
    }
    put(kModelKey, std::string("bert"));
    put(kPreTokenizerKey, std::string("default"));
    put_tokens(std::move(tokens));
    put(kLowercaseKey, spec_.normalizers.front().lowercase);
    put(kStripAccentsKey, spec_.normalizers.front().strip_accents);
  }

  void put_id(std::string_view key, std::optional<int32_t> id) {
    if (id) {
      put(key, static_cast<uint32_t>(*id));
    }
  }

  void write_ids() {
    const bool bert = spec_.model == TokenizerModel::kWordPiece;
    put_id(kBeginKey, spec_.begin_of_text);
    if (bert) {
      put_id(kClassKey, spec_.begin_of_text);
    }
    put_id(kEndKey, spec_.end_of_text);
    put_id(kSeparatorKey, bert ? closing_token(spec_) : spec_.separator);
    put_id(kUnknownKey, spec_.unknown);
    put_id(kPaddingKey, spec_.padding);
    const bool separates = !bert && spec_.add_end_of_text && spec_.separator;
    put(kAddBeginKey, spec_.add_begin_of_text);
    put(kAddEndKey, spec_.add_end_of_text && !separates);
    if (separates) {
      put(kAddSeparatorKey, true);
    }
  }

  const TokenizerSpec& spec_;
  std::vector<std::pair<std::string, GgufValue>> entries_;
};

}  // namespace

std::vector<std::pair<std::string, GgufValue>> gguf_tokenizer_metadata(
    const TokenizerSpec& spec, const std::optional<std::string>& chat_template) {
  auto entries = Writer(spec).write();
  if (chat_template) {
    entries.emplace_back(std::string(kTemplateKey), *chat_template);
  }
  return entries;
}

}  // namespace adze::data
