#include "data/pair_scores.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "core/error.h"
#include "formats/quote_untrusted.h"
#include "text/text_index.h"
#include "text/utf8.h"
#include "text/vocabulary_merges.h"

namespace adze::data {

namespace {

using text::TokenizerSpec;
using text::TokenKind;

constexpr size_t kMaxTokenBytes = 512;  // as the encoder
constexpr size_t kMaxMerges = size_t{1} << 20;

bool is_mergeable(const TokenizerSpec& spec, size_t id) {
  return spec.kinds[id] == TokenKind::kNormal && spec.tokens[id].size() <= kMaxTokenBytes &&
         text::valid_prefix(spec.tokens[id]) == spec.tokens[id].size();
}

// Calls use(left, right) for each way to put the token together from two others.
template <class Use>
void for_each_split(const TokenizerSpec& spec,
                    const text::TextIndex& index,
                    std::string_view token,
                    Use&& use) {
  for (size_t cut = 0; cut < token.size();) {
    cut += text::next_character(token.substr(cut)).length;
    if (cut >= token.size()) {
      break;
    }
    const auto left = index.find(token.substr(0, cut));
    if (!left || !is_mergeable(spec, static_cast<size_t>(*left))) {
      continue;
    }
    const auto right = index.find(token.substr(cut));
    if (right && is_mergeable(spec, static_cast<size_t>(*right))) {
      use(*left, *right);
    }
  }
}

}  // namespace

std::vector<std::string> merges_from_scores(const TokenizerSpec& spec) {
  struct Merge {
    double score;
    int32_t token;
    int32_t left;
    int32_t right;
  };
  const text::TextIndex index(spec.tokens);
  std::vector<Merge> merges;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!is_mergeable(spec, id)) {
      continue;
    }
    for_each_split(spec, index, spec.tokens[id], [&](int32_t left, int32_t right) {
      merges.push_back({spec.scores[id], static_cast<int32_t>(id), left, right});
    });
    if (merges.size() > kMaxMerges) {
      throw core::error("tokenizer", "tokens: expected at most {} merges of them", kMaxMerges);
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [&](const Merge& first, const Merge& second) {
    if (first.score != second.score) {
      return first.score > second.score;
    }
    return first.token < second.token;
  });
  std::vector<std::string> lines;
  lines.reserve(merges.size());
  for (const Merge& merge : merges) {
    const std::string& left = spec.tokens[static_cast<size_t>(merge.left)];
    const std::string& right = spec.tokens[static_cast<size_t>(merge.right)];
    const bool wide = (left + right).find(' ') != std::string::npos;
    lines.push_back(left + (wide ? '\xFF' : ' ') + right);
  }
  return lines;
}

std::vector<double> scores_from_merges(const TokenizerSpec& spec) {
  const text::TextIndex index(spec.tokens);
  struct Ranks {
    size_t first = 0;
    size_t last = 0;
    size_t count = 0;
  };
  std::unordered_map<int32_t, Ranks> ranks;
  text::for_each_merge(spec, index, [&](size_t rank, int32_t, int32_t, int32_t token) {
    Ranks& known = ranks[token];
    known.first = known.count == 0 ? rank : known.first;
    known.last = rank;
    ++known.count;
  });
  const double lowest = -static_cast<double>(spec.merges.size() + 1);
  std::vector<double> scores(spec.tokens.size(), 0);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (!is_mergeable(spec, id)) {
      continue;
    }
    size_t splits = 0;
    for_each_split(spec, index, spec.tokens[id], [&](int32_t, int32_t) { ++splits; });
    const auto found = ranks.find(static_cast<int32_t>(id));
    const Ranks known = found == ranks.end() ? Ranks{} : found->second;
    if (known.count != splits || (splits > 0 && known.last - known.first + 1 != known.count)) {
      throw core::error("tokenizer",
                        "merges: expected them in an order that scores can express, token {} ({}) "
                        "has {} of {} merges, from {} to {}",
                        id,
                        formats::quote_untrusted(spec.tokens[id]),
                        known.count,
                        splits,
                        known.first,
                        known.last);
    }
    scores[id] = splits > 0 ? -static_cast<double>(known.first) : lowest;
  }
  return scores;
}

}  // namespace adze::data
