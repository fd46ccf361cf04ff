#include "data/sentencepiece_model.h"

#include <bit>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "data/tokenizer_gguf.h"

namespace adze::data {

namespace {

using text::TokenizerModel;
using text::TokenizerSpec;
using text::TokenKind;

constexpr size_t kMaxPieces = size_t{1} << 20;

// Field numbers of sentencepiece_model.proto.
namespace model_field {
constexpr uint64_t kPieces = 1;
constexpr uint64_t kTrainer = 2;
constexpr uint64_t kNormalizer = 3;
}  // namespace model_field
namespace piece_field {
constexpr uint64_t kText = 1;
constexpr uint64_t kScore = 2;
constexpr uint64_t kType = 3;
}  // namespace piece_field
namespace trainer_field {
constexpr uint64_t kModelType = 3;
constexpr uint64_t kSuffix = 24;  // spaces stand behind words
constexpr uint64_t kByteFallback = 35;
constexpr uint64_t kBegin = 41;
constexpr uint64_t kEnd = 42;
constexpr uint64_t kPadding = 43;
}  // namespace trainer_field
namespace normalizer_field {
constexpr uint64_t kCharsmap = 2;
constexpr uint64_t kAddPrefix = 3;
constexpr uint64_t kRemoveSpaces = 4;
constexpr uint64_t kEscape = 5;
}  // namespace normalizer_field

struct Field {
  uint64_t number = 0;
  uint64_t value = 0;      // varint, or the bits of a fixed-size value
  std::string_view bytes;  // length-delimited
  bool has_bytes = false;
};

// The fields of one message, in order.
class Message {
 public:
  Message(std::string_view bytes, const std::string& file, std::string_view name)
      : bytes_(bytes), file_(file), name_(name) {}

  [[noreturn]] void fail(std::string_view what) const {
    throw core::error("tokenizer", "{}: {}: expected {}", file_, name_, what);
  }

  bool next(Field& field) {
    if (bytes_.empty()) {
      return false;
    }
    const uint64_t key = varint();
    field = {.number = key >> 3, .value = 0, .bytes = {}, .has_bytes = false};
    switch (key & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(sizeof(uint64_t));
        break;
      case 2:
        field.bytes = take(varint());
        field.has_bytes = true;
        break;
      case 5:
        field.value = fixed(sizeof(uint32_t));
        break;
      default:
        fail("wire types 0, 1, 2 and 5 of a SentencePiece model");
    }
    return true;
  }

  std::string_view bytes_of(const Field& field) const {
    if (!field.has_bytes) {
      fail(fmt::format("bytes in field {}", field.number));
    }
    return field.bytes;
  }
  uint64_t number_of(const Field& field) const {
    if (field.has_bytes) {
      fail(fmt::format("a number in field {}", field.number));
    }
    return field.value;
  }

 private:
  std::string_view take(uint64_t count) {
    if (count > bytes_.size()) {
      fail(fmt::format("{} more bytes, got {}", count, bytes_.size()));
    }
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  uint64_t fixed(size_t size) {
    uint64_t value = 0;
    std::memcpy(&value, take(size).data(), size);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1).front());
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    fail("numbers of at most 64 bits");
  }

  std::string_view bytes_;
  const std::string& file_;
  std::string_view name_;
};

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& file)
      : message_(bytes, file, "model"), file_(file) {
    spec_.normalizers = {{.kind = text::NormalizerStep::Kind::kSentencePiece}};
  }

  TokenizerSpec read() {
    Field field;
    while (message_.next(field)) {
      if (field.number == model_field::kPieces) {
        read_piece(message_.bytes_of(field));
      } else if (field.number == model_field::kTrainer) {
        read_trainer(message_.bytes_of(field));
      } else if (field.number == model_field::kNormalizer) {
        read_normalizer(message_.bytes_of(field));
      }
    }
    if (spec_.tokens.empty()) {
      message_.fail("pieces of a SentencePiece model, got none");
    }
    finish();
    return std::move(spec_);
  }

 private:
  void read_piece(std::string_view bytes) {
    Message message(bytes, file_, "pieces");
    std::string_view text;
    float score = 0;
    uint64_t type = 1;
    Field field;
    while (message.next(field)) {
      if (field.number == piece_field::kText) {
        text = message.bytes_of(field);
      } else if (field.number == piece_field::kScore) {
        score = std::bit_cast<float>(static_cast<uint32_t>(message.number_of(field)));
      } else if (field.number == piece_field::kType) {
        type = message.number_of(field);
      }
    }
    if (type < 1 || type > 6) {
      message.fail(fmt::format("types 1 to 6, got {}", type));
    }
    if (spec_.tokens.size() == kMaxPieces) {
      message.fail(fmt::format("at most {} of them", kMaxPieces));
    }
    constexpr TokenKind kKinds[] = {TokenKind::kNormal,
                                    TokenKind::kUnknown,
                                    TokenKind::kControl,
                                    TokenKind::kUserDefined,
                                    TokenKind::kUnused,
                                    TokenKind::kByte};
    spec_.tokens.emplace_back(text);
    spec_.kinds.push_back(kKinds[type - 1]);
    spec_.scores.push_back(score);
    if (spec_.kinds.back() == TokenKind::kUnknown && !spec_.unknown) {
      spec_.unknown = static_cast<int32_t>(spec_.tokens.size() - 1);
    }
  }

  void read_trainer(std::string_view bytes) {
    Message message(bytes, file_, "trainer_spec");
    Field field;
    while (message.next(field)) {
      switch (field.number) {
        case trainer_field::kModelType:
          model_type_ = message.number_of(field);
          break;
        case trainer_field::kSuffix:
          if (message.number_of(field) != 0) {
            message.fail("spaces before words, got spaces behind them, which is not supported");
          }
          break;
        case trainer_field::kByteFallback:
          spec_.byte_fallback = message.number_of(field) != 0;
          break;
        case trainer_field::kBegin:
          begin_ = static_cast<int32_t>(message.number_of(field));
          break;
        case trainer_field::kEnd:
          end_ = static_cast<int32_t>(message.number_of(field));
          break;
        case trainer_field::kPadding:
          padding_ = static_cast<int32_t>(message.number_of(field));
          break;
        default:
          break;
      }
    }
  }

  void read_normalizer(std::string_view bytes) {
    Message message(bytes, file_, "normalizer_spec");
    text::NormalizerStep& step = spec_.normalizers.front();
    Field field;
    while (message.next(field)) {
      switch (field.number) {
        case normalizer_field::kCharsmap:
          step.content = message.bytes_of(field);
          break;
        case normalizer_field::kAddPrefix:
          step.add_prefix_space = message.number_of(field) != 0;
          break;
        case normalizer_field::kRemoveSpaces:
          step.remove_extra_spaces = message.number_of(field) != 0;
          break;
        case normalizer_field::kEscape:
          if (message.number_of(field) == 0) {
            message.fail("spaces written as U+2581, got spaces, which is not supported");
          }
          break;
        default:
          break;
      }
    }
  }

  void finish() {
    constexpr uint64_t kUnigram = 1;
    constexpr uint64_t kPairs = 2;
    if (model_type_ != kUnigram && model_type_ != kPairs) {
      message_.fail(fmt::format("model_type 1 (unigram) or 2 (BPE), got {}", model_type_));
    }
    const bool unigram = model_type_ == kUnigram;
    spec_.model = unigram ? TokenizerModel::kUnigram : TokenizerModel::kScoredPairs;
    spec_.sentencepiece_rules = unigram;
    spec_.single_precision = unigram;
    spec_.begin_of_text = if_token(begin_);
    spec_.end_of_text = if_token(end_);
    spec_.padding = if_token(padding_);
    const text::NormalizerStep& step = spec_.normalizers.front();
    spec_.decoders = sentencepiece_decoders(step.add_prefix_space || step.remove_extra_spaces);
  }

  std::optional<int32_t> if_token(int32_t id) const {
    const bool there = id >= 0 && static_cast<size_t>(id) < spec_.tokens.size();
    return there ? std::optional(id) : std::nullopt;
  }

  Message message_;
  const std::string& file_;
  TokenizerSpec spec_;
  uint64_t model_type_ = 1;
  int32_t begin_ = 1;
  int32_t end_ = 2;
  int32_t padding_ = -1;
};

}  // namespace

TokenizerSpec sentencepiece_spec(std::string_view bytes, const std::string& file) {
  return Reader(bytes, file).read();
}

}  // namespace adze::data
