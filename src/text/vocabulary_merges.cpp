#include "text/vocabulary_merges.h"

#include <string>

#include "core/error.h"
#include "text/piece_encoder.h"
#include "text/printable.h"

namespace adze::text {

namespace {

constexpr char kWideSeparator = '\xFF';  // where a part has a space; never part of UTF-8

bool is_concatenation(std::string_view text, std::string_view left, std::string_view right) {
  return text.size() == left.size() + right.size() && text.starts_with(left) &&
         text.ends_with(right);
}

}  // namespace

std::pair<std::string_view, std::string_view> merge_parts(std::string_view line, size_t rank) {
  const size_t wide = line.find(kWideSeparator);
  const char separator = wide == std::string_view::npos ? ' ' : kWideSeparator;
  const size_t place = separator == ' ' ? line.find(' ') : wide;
  if (place == 0 || place == std::string_view::npos || place + 1 == line.size() ||
      line.find(separator, place + 1) != std::string_view::npos) {
    throw core::error("tokenizer",
                      "merges[{}]: expected two texts and one space, got '{}'",
                      rank,
                      printable(line));
  }
  return {line.substr(0, place), line.substr(place + 1)};
}

void for_each_merge(const TokenizerSpec& spec, const TextIndex& index, const UseMerge& use) {
  int32_t token = kNoToken;  // of the merge before
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto find = [&](std::string_view text) {
      const auto id = index.find(text);
      if (!id) {
        throw core::error("tokenizer", "merges[{}]: '{}' is not a token", rank, printable(text));
      }
      return *id;
    };
    const auto [left, right] = merge_parts(spec.merges[rank], rank);
    // Vocabularies list merged tokens in the order of their merges: the next one is worth a look
    // before the index is asked, and saves a third of the time.
    const size_t next = token == kNoToken ? 0 : static_cast<size_t>(token) + 1;
    token = next < spec.tokens.size() && is_concatenation(spec.tokens[next], left, right)
                ? static_cast<int32_t>(next)
                : find(std::string(left).append(right));
    use(rank, find(left), find(right), token);
  }
}

}  // namespace adze::text
