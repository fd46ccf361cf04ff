#pragma once
// Token text -> id: a flat hash table over texts that the caller keeps. One allocation in all,
// since building it is a good part of loading a tokenizer.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace adze::text {

class TextIndex {
 public:
  // `texts` must outlive the index, in place. Of equal texts the first keeps the name.
  // Throws core::Error when texts collide on purpose.
  explicit TextIndex(const std::vector<std::string>& texts);

  std::optional<int32_t> find(std::string_view text) const;

 private:
  struct Slot {
    uint32_t hash_tag;  // the bits of the hash that do not choose the slot
    int32_t id;         // kEmpty: free
  };
  static constexpr int32_t kEmpty = -1;

  size_t locate(std::string_view text, uint64_t hash) const;  // the text's slot, or a free one

  const std::vector<std::string>* texts_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t mask_;
};

// Slots probed before a table is declared hostile. Honest keys at half load need more than 64 with
// a probability below 1e-9; files from strangers could make every key collide.
inline constexpr size_t kMaxProbes = 512;

}  // namespace adze::text
