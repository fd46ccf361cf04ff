#include "text/token_decoder.h"

#include <array>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "text/byte_alphabet.h"

namespace adze::text {

namespace {

using Kind = DecoderStep::Kind;

// Replacing may multiply the vocabulary; no honest decoder makes tokens longer.
constexpr size_t kMaxGrowth = 4;

void replace_all(std::string& text, std::string_view pattern, std::string_view content) {
  if (pattern.empty()) {
    return;
  }
  size_t position = text.find(pattern);
  while (position != std::string::npos) {
    text.replace(position, pattern.size(), content);
    position = text.find(pattern, position + content.size());
  }
}

// What `tokenizers` takes away after WordPiece, in its order.
void clean_up(std::string& text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kReplacements{{
      {" .", "."},
      {" ?", "?"},
      {" !", "!"},
      {" ,", ","},
      {" ' ", "'"},
      {" n't", "n't"},
      {" 'm", "'m"},
      {" do not", " don't"},
      {" 's", "'s"},
      {" 've", "'ve"},
      {" 're", "'re"},
  }};
  for (const auto& [pattern, content] : kReplacements) {
    replace_all(text, pattern, content);
  }
}

bool is_matched_whole(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown ||
         kind == TokenKind::kUserDefined;
}

}  // namespace

TokenDecoder::TokenDecoder(const TokenizerSpec& spec, bool byte_level, NormalizedTexts normalized)
    : spec_(&spec), byte_level_(byte_level), normalized_(std::move(normalized)) {
  bool fused = false;
  for (const DecoderStep& step : spec.decoders) {
    if (step.kind == Kind::kFuse) {
      fused = true;
    } else if (fused && step.kind == Kind::kStrip) {
      stripped_text_ = step.pattern;
      strip_count_ = step.pattern.empty() ? 0 : step.count;
    } else if (fused) {
      throw core::error("tokenizer", "decoder: expected only Strip behind Fuse, got another step");
    } else {
      steps_.push_back(step);
      first_differs_ |= step.kind == Kind::kMetaspace || step.kind == Kind::kWordPiece;
    }
  }
  if (steps_.empty() && !fused) {
    if (byte_level) {
      steps_.push_back({.kind = Kind::kByteLevel});
    } else {
      first_differs_ = true;
    }
  }
  size_t bytes_before = 0;
  size_t bytes_after = 0;
  bytes_.reserve(spec.tokens.size());
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    bytes_.push_back(decoded(id, false));
    bytes_before += spec.tokens[id].size() + 16;
    bytes_after += bytes_.back().size();
    if (bytes_after / kMaxGrowth > bytes_before) {
      throw core::error(
          "tokenizer", "decoder: expected at most {} times the vocabulary, got more", kMaxGrowth);
    }
  }
}

std::string TokenDecoder::decoded(size_t id, bool first) const {
  const auto found = normalized_.find(static_cast<int32_t>(id));
  std::string text = found == normalized_.end() ? spec_->tokens[id] : found->second;
  const TokenKind kind = spec_->kinds[id];
  if (byte_level_ && kind == TokenKind::kByte) {
    return std::string(1, static_cast<char>(byte_named(text).value_or(0)));
  }
  for (const DecoderStep& step : steps_) {
    switch (step.kind) {
      case Kind::kByteLevel:
        // Tokens matched as a whole are written as they are; so are texts outside the alphabet,
        // which no byte-level vocabulary should hold but some do as padding.
        if (!is_matched_whole(kind)) {
          text = bytes_from_alphabet(text).value_or(text);
        }
        break;
      case Kind::kReplaceText:
        replace_all(text, step.pattern, step.content);
        break;
      case Kind::kByteFallback:
        if (const auto byte = byte_named(text)) {
          text.assign(1, static_cast<char>(*byte));
        }
        break;
      case Kind::kStrip:
        for (int32_t count = 0;
             count < step.count && !step.pattern.empty() && text.starts_with(step.pattern);
             ++count) {
          text.erase(0, step.pattern.size());
        }
        break;
      case Kind::kMetaspace:
        replace_all(text, step.pattern, first && step.strip_first ? "" : " ");
        break;
      case Kind::kWordPiece:
        if (!first && text.starts_with(step.pattern)) {
          text.erase(0, step.pattern.size());
        } else if (!first) {
          text.insert(0, " ");
        }
        if (step.cleanup) {
          clean_up(text);
        }
        break;
      case Kind::kFuse:
        break;
    }
  }
  if (spec_->decoders.empty() && !byte_level_ && !first) {
    text.insert(0, " ");
  }
  return text;
}

void TokenDecoder::append(int32_t id, State& state, std::string& text) const {
  const size_t begin = text.size();
  if (state.first && first_differs_) {
    text += decoded(static_cast<size_t>(id), true);
  } else {
    text += bytes(id);
  }
  state.first = false;
  // NOTE: what is stripped is one character, so that no token holds a part of it.
  while (state.stripped >= 0) {
    const std::string_view added = std::string_view(text).substr(begin);
    if (state.stripped == strip_count_ || (!added.empty() && !added.starts_with(stripped_text_))) {
      state.stripped = -1;
    } else if (added.empty()) {
      break;
    } else {
      text.erase(begin, stripped_text_.size());
      ++state.stripped;
    }
  }
}

}  // namespace adze::text
