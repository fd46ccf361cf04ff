#pragma once
// What a tokenizer is, as plain data: data/tokenizer_files makes it from GGUF metadata, from
// tokenizer.json and from SentencePiece's tokenizer.model. Text becomes ids in five steps: tokens
// matched as a whole are cut out, what lies between is normalised, cut into pieces
// (pre-tokenizer), each piece becomes tokens (model), and begin and end tokens are put around them
// (the caller does that last step).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace adze::text {

enum class TokenKind : uint8_t { kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

enum class TokenizerModel : uint8_t {
  kMergedPairs,  // byte-pair encoding by a list of merges (Sennrich et al. 2016)
  kScoredPairs,  // SentencePiece's form of it: the neighbours whose token scores best merge
  kUnigram,      // the most likely sequence of tokens (Kudo 2018)
  kWordPiece,    // the longest token that fits, from left to right (BERT)
};

// Each step works on the result of the one before it.
struct NormalizerStep {
  enum class Kind : uint8_t {
    kNfc,  // Unicode normalisation forms
    kNfd,
    kNfkc,
    kNfkd,
    kLowercase,          // by character, whatever stands beside it
    kStripAccents,       // removes combining marks; needs a decomposed text
    kReplaceText,        // every `pattern`, from the left, becomes `content`
    kReplaceExpression,  // the same, `pattern` being a regular expression
    kPrepend,            // `content` goes before a text that is not empty
    kStrip,              // white space at the ends, as `left` and `right` say
    kBert,               // BERT's cleaning, see the fields below
    kCharsmap,           // table of replacements, by grapheme, as `tokenizers` applies it
    kSentencePiece,      // charsmap (or none), then white space, as SentencePiece does
  };

  Kind kind = Kind::kNfc;
  std::string pattern = {};
  std::string content = {};      // kCharsmap, kSentencePiece: the table, as SentencePiece stores it
  bool left = true;              // kStrip
  bool right = true;             // kStrip
  bool clean_text = true;        // kBert: no control characters, every white space a space
  bool split_ideographs = true;  // kBert: spaces around Chinese characters
  bool strip_accents = true;     // kBert
  bool lowercase = true;         // kBert
  bool add_prefix_space = true;  // kSentencePiece: a space before a text that is not empty
  bool remove_extra_spaces = true;  // kSentencePiece: none at the ends, no two in a row

  bool operator==(const NormalizerStep&) const = default;
};

// What becomes of the separators that a step finds.
enum class SplitBehavior : uint8_t {
  kRemoved,
  kIsolated,  // a piece each
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,  // neighbouring separators are one piece
};

enum class PrependScheme : uint8_t { kFirst, kNever, kAlways };

// Each step cuts the pieces of the one before it.
struct PreTokenizerStep {
  enum class Kind : uint8_t {
    kSplitText,        // separators: every `pattern`
    kSplitExpression,  // separators: every match of the regular expression `pattern`
    kDigits,           // numbers; each digit alone if `individual`
    kPunctuation,      // Unicode's and ASCII's punctuation
    kWhitespace,       // keeps words and runs of other signs: \w+|[^\w\s]+
    kWhitespaceSplit,  // white space is removed
    kBert,             // white space is removed, punctuation isolated
    kMetaspace,        // spaces become `pattern` (U+2581), one may be prepended
    kByteLevel,        // from here on text is bytes, in GPT-2's alphabet
  };

  Kind kind = Kind::kByteLevel;
  std::string pattern = {};
  SplitBehavior behavior = SplitBehavior::kIsolated;  // kSplit*, kPunctuation
  bool invert = false;                                // kSplit*: separators are what lies between
  bool individual = false;                            // kDigits
  PrependScheme prepend = PrependScheme::kAlways;     // kMetaspace
  bool split = true;              // kMetaspace: before each `pattern`; kByteLevel: GPT-2's words
  bool add_prefix_space = false;  // kByteLevel: a space before each text that lacks one

  bool operator==(const PreTokenizerStep&) const = default;
};

// From tokens back to text.
struct DecoderStep {
  enum class Kind : uint8_t {
    kByteLevel,     // GPT-2's alphabet -> bytes
    kReplaceText,   // every `pattern` becomes `content`
    kByteFallback,  // "<0x41>" is the byte 0x41
    kFuse,          // all tokens become one text
    kStrip,         // up to `count` times `pattern` at the front
    kMetaspace,     // `pattern` is a space; none in the first token if `strip_first`
    kWordPiece,     // a space before each token but the first and those that begin with `pattern`
  };

  Kind kind = Kind::kByteLevel;
  std::string pattern = {};
  std::string content = {};
  int32_t count = 0;
  bool strip_first = true;  // kMetaspace
  bool cleanup = true;      // kWordPiece: no space before punctuation and English contractions

  bool operator==(const DecoderStep&) const = default;
};

// A token that is matched as a whole, before anything is cut.
struct AddedToken {
  int32_t id = 0;
  bool normalized = false;   // matched in normalised text, and normalised itself
  bool left_strip = false;   // takes the white space before it
  bool right_strip = false;  // takes the white space behind it
  bool single_word = false;  // only where no word character stands beside it

  bool operator==(const AddedToken&) const = default;
};

struct TokenizerSpec {
  TokenizerModel model = TokenizerModel::kMergedPairs;
  // Name of a family of byte-level tokenizers ("smollm", "gpt-2", "llama-bpe", "qwen2", ...; see
  // pre_tokenizer_families.h). It stands for normalizers, pre_tokenizers and prefers_whole_tokens,
  // which then stay empty.
  std::string pre_tokenizer = {};
  std::vector<NormalizerStep> normalizers = {};
  std::vector<PreTokenizerStep> pre_tokenizers = {};
  // None: byte-level tokens give their bytes, others are joined with spaces.
  std::vector<DecoderStep> decoders = {};

  std::vector<std::string> tokens = {};  // byte-level: in GPT-2's printable alphabet
  std::vector<TokenKind> kinds = {};     // one a token
  // kMergedPairs: "left right", best first; where a part has a space, byte 0xFF stands between.
  std::vector<std::string> merges = {};
  std::vector<double> scores = {};    // kScoredPairs, kUnigram: one a token
  bool prefers_whole_tokens = false;  // kMergedPairs: a piece that is a token needs no merges
  bool byte_fallback = false;         // a character without a token becomes its bytes <0x00>...
  bool writes_unknown =
      false;                  // kMergedPairs: what has no token becomes `unknown`, or else nothing
  bool fuse_unknown = false;  // ... and a run of it one token
  // kUnigram: SentencePiece's own rules (user-defined tokens before others, unused and byte tokens
  // never from text) instead of those of `tokenizers`.
  bool sentencepiece_rules = false;
  bool single_precision = false;         // kUnigram: sums of scores are float, as in SentencePiece
  std::string continuing_prefix = "##";  // kWordPiece: before tokens within a word
  int32_t max_word_characters = 100;     // kWordPiece: longer words are unknown

  // None: every control, unknown and user-defined token is matched as a whole.
  std::optional<std::vector<AddedToken>> added_tokens = {};
  std::optional<int32_t> begin_of_text = {};  // BERT: [CLS]
  std::optional<int32_t> end_of_text = {};
  std::optional<int32_t> separator = {};  // BERT: [SEP]
  std::optional<int32_t> unknown = {};
  std::optional<int32_t> padding = {};
  bool add_begin_of_text = false;
  bool add_end_of_text = false;  // closing_token() goes behind a text

  bool operator==(const TokenizerSpec&) const = default;
};

// What add_end_of_text puts behind a text: the separator where there is one.
inline std::optional<int32_t> closing_token(const TokenizerSpec& spec) {
  return spec.separator ? spec.separator : spec.end_of_text;
}

}  // namespace adze::text
