#include "text/text_index.h"

#include <bit>
#include <cstring>

#include "core/error.h"

namespace adze::text {

namespace {

constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15U;  // 2^64 / golden ratio, odd

uint64_t mix(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * kMultiplier;
  return hash ^ (hash >> 29);
}

uint64_t hash_of(std::string_view text) {
  uint64_t hash = text.size() * kMultiplier;
  while (text.size() >= sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, text.data(), sizeof(word));
    hash = mix(hash, word);
    text.remove_prefix(sizeof(word));
  }
  uint64_t rest = 0;
  if (!text.empty()) {
    std::memcpy(&rest, text.data(), text.size());
  }
  hash = mix(hash, rest);
  return hash ^ (hash >> 32);
}

uint32_t tag_of(uint64_t hash) {
  return static_cast<uint32_t>(hash >> 32);
}

}  // namespace

TextIndex::TextIndex(const std::vector<std::string>& texts)
    : texts_(&texts),
      slots_(std::bit_ceil(texts.size() * 2 + 1), Slot{0, kEmpty}),
      mask_(slots_.size() - 1) {
  for (size_t id = 0; id < texts.size(); ++id) {
    const uint64_t hash = hash_of(texts[id]);
    Slot& slot = slots_[locate(texts[id], hash)];
    if (slot.id == kEmpty) {
      slot = {tag_of(hash), static_cast<int32_t>(id)};
    }
  }
}

std::optional<int32_t> TextIndex::find(std::string_view text) const {
  const Slot& slot = slots_[locate(text, hash_of(text))];
  return slot.id == kEmpty ? std::nullopt : std::optional(slot.id);
}

size_t TextIndex::locate(std::string_view text, uint64_t hash) const {
  for (size_t probe = 0; probe < kMaxProbes; ++probe) {
    const size_t index = (hash + probe) & mask_;
    const Slot& slot = slots_[index];
    if (slot.id == kEmpty ||
        (slot.hash_tag == tag_of(hash) && (*texts_)[static_cast<size_t>(slot.id)] == text)) {
      return index;
    }
  }
  throw core::error("tokenizer", "tokens: too many texts collide; the vocabulary is hostile");
}

}  // namespace adze::text
