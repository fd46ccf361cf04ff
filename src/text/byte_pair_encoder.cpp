#include "text/byte_pair_encoder.h"

#include <span>

#include "core/error.h"
#include "text/byte_alphabet.h"
#include "text/pair_merger.h"
#include "text/vocabulary_merges.h"

namespace adze::text {

BytePairEncoder::BytePairEncoder(const TokenizerSpec& spec, const TextIndex& index)
    : spec_(&spec), index_(&index), merges_(spec.merges.size()) {
  fill_byte_tokens(spec, index);
  for_each_merge(spec, index, [&](size_t rank, int32_t left, int32_t right, int32_t token) {
    if (may_come_from_text(spec.kinds[static_cast<size_t>(token)])) {
      merges_.insert(left, right, {static_cast<uint32_t>(rank), token});
    }
  });
}

void BytePairEncoder::fill_byte_tokens(const TokenizerSpec& spec, const TextIndex& index) {
  token_of_byte_.fill(kNoToken);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.kinds[id] == TokenKind::kByte) {
      token_of_byte_[byte_named(spec.tokens[id]).value_or(0)] = static_cast<int32_t>(id);
    }
  }
  for (size_t byte = 0; byte < token_of_byte_.size(); ++byte) {
    const char text = static_cast<char>(byte);
    const auto id = index.find(alphabet_from_bytes({&text, 1}));
    if (id && may_come_from_text(spec.kinds[static_cast<size_t>(*id)])) {
      token_of_byte_[byte] = *id;
    }
    if (token_of_byte_[byte] == kNoToken) {
      missing_bytes_ += text;
    }
  }
}

// Texts of tokens matched as a whole are no alphabet, the others are.
bool BytePairEncoder::is_whole_token(std::string_view piece, std::vector<int32_t>& ids) const {
  const auto id = index_->find(alphabet_from_bytes(piece));
  if (!id) {
    return false;
  }
  const TokenKind kind = spec_->kinds[static_cast<size_t>(*id)];
  if (!may_come_from_text(kind) || kind == TokenKind::kUserDefined) {
    return false;
  }
  ids.push_back(*id);
  return true;
}

void BytePairEncoder::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (spec_->prefers_whole_tokens && is_whole_token(piece, ids)) {
    return;
  }
  const size_t begin = ids.size();
  bool after_unknown = false;
  for (const char byte : piece) {
    const int32_t token = token_of_byte_[static_cast<uint8_t>(byte)];
    if (token != kNoToken) {
      ids.push_back(token);
    } else if (spec_->writes_unknown && !(after_unknown && spec_->fuse_unknown)) {
      ids.push_back(*spec_->unknown);
    }
    after_unknown = token == kNoToken;
  }
  ids.resize(begin + merge_pairs(std::span(ids).subspan(begin), merges_));
}

}  // namespace adze::text
