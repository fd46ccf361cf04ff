#include "data/tokenizer_training.h"

#include <algorithm>
#include <optional>
#include <queue>
#include <utility>

#include "core/error.h"
#include "core/parallel.h"
#include "text/byte_alphabet.h"
#include "text/pre_tokenizer.h"
#include "text/pre_tokenizer_families.h"
#include "text/utf8.h"

namespace adze::data {
namespace {

using Counts = std::unordered_map<std::string, int64_t>;
using Pair = std::pair<int32_t, int32_t>;

uint64_t key_of(const Pair& pair) {
  return static_cast<uint64_t>(static_cast<uint32_t>(pair.first)) << 32 |
         static_cast<uint32_t>(pair.second);
}

struct Word {
  std::vector<int32_t> tokens;
  int64_t count;
};

struct Candidate {
  int64_t count;
  Pair pair;

  // The queue's top is the largest: the most frequent, then the smallest ids.
  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

// Words, and of every pair how often it occurs and in which words. A merge looks only at words that
// hold the pair and changes only counts of the pairs beside it.
class Merger {
 public:
  explicit Merger(const Counts& counts) {
    // In order, so that nothing depends on the hash table.
    std::vector<const Counts::value_type*> sorted;
    for (const auto& entry : counts) {
      sorted.push_back(&entry);
    }
    std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->first < b->first; });
    for (const auto* entry : sorted) {
      Word word{{}, entry->second};
      for (const char byte : entry->first) {
        word.tokens.push_back(static_cast<unsigned char>(byte));
      }
      words_.push_back(std::move(word));
    }
    for (size_t i = 0; i < words_.size(); ++i) {
      const Word& word = words_[i];
      for (size_t j = 0; j + 1 < word.tokens.size(); ++j) {
        add({word.tokens[j], word.tokens[j + 1]}, word.count, static_cast<uint32_t>(i));
      }
    }
    for (const auto& [key, place] : pairs_) {
      queue_.push({place.count, place.pair});
    }
  }

  // The next pair to merge, which becomes `token`; nullopt: none occurs twice.
  std::optional<Pair> merge_next(int32_t token) {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      Place& place = pairs_[key_of(best.pair)];
      if (place.count != best.count) {  // counts only fall after they were queued
        if (place.count > 0) {
          queue_.push({place.count, best.pair});
        }
        continue;
      }
      if (best.count < 2) {
        return std::nullopt;
      }
      merge(best.pair, token);
      return best.pair;
    }
    return std::nullopt;
  }

 private:
  struct Place {
    Pair pair;
    int64_t count = 0;
    std::vector<uint32_t> words;  // rising; may hold words that have lost the pair
  };

  void add(const Pair& pair, int64_t count, uint32_t word) {
    Place& place = pairs_[key_of(pair)];
    place.pair = pair;
    place.count += count;
    if (place.words.empty() || place.words.back() != word) {
      place.words.push_back(word);
    }
  }

  void merge(const Pair& pair, int32_t token) {
    const std::vector<uint32_t> holders = std::move(pairs_[key_of(pair)].words);
    fresh_.clear();
    for (const uint32_t holder : holders) {
      merge_in(words_[holder], holder, pair, token);
    }
    pairs_.erase(key_of(pair));
    for (const Pair& made : fresh_) {
      if (const auto found = pairs_.find(key_of(made)); found != pairs_.end()) {
        queue_.push({found->second.count, made});
      }
    }
  }

  void merge_in(Word& word, uint32_t index, const Pair& pair, int32_t token) {
    std::vector<int32_t>& tokens = word.tokens;
    size_t write = 0;
    for (size_t read = 0; read < tokens.size(); ++read) {
      if (read + 1 == tokens.size() || tokens[read] != pair.first ||
          tokens[read + 1] != pair.second) {
        tokens[write++] = tokens[read];
        continue;
      }
      if (write > 0) {
        const int32_t left = tokens[write - 1];
        pairs_[key_of({left, pair.first})].count -= word.count;
        count_new({left, token}, word.count, index);
      }
      if (read + 2 < tokens.size()) {
        // NOTE: where the pair itself follows, its merge takes this neighbour back as its left one.
        const int32_t right = tokens[read + 2];
        pairs_[key_of({pair.second, right})].count -= word.count;
        count_new({token, right}, word.count, index);
      }
      tokens[write++] = token;
      ++read;
    }
    tokens.resize(write);
  }

  void count_new(const Pair& pair, int64_t count, uint32_t word) {
    const auto [found, is_new] = pairs_.try_emplace(key_of(pair));
    add(pair, count, word);
    if (is_new) {
      fresh_.push_back(pair);
    }
  }

  std::vector<Word> words_;
  std::unordered_map<uint64_t, Place> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> fresh_;  // made by the merge under way
};

}  // namespace

void TokenizerTrainingOptions::validate() const {
  if (vocab_size < 257 || vocab_size > 1'000'000) {
    throw core::InvalidOption("vocab-size", std::to_string(vocab_size), "257 to 1000000");
  }
  if (!text::pre_tokenizer_family(pre_tokenizer).normalizers.empty()) {
    throw core::InvalidOption("pre-tokenizer",
                              pre_tokenizer,
                              "a family that does not normalise text: gpt-2, smollm, ...");
  }
}

struct WordCounts::Implementation {
  explicit Implementation(const std::string& name)
      : pre_tokenizer(text::pre_tokenizer_family(name).steps) {}

  void count(std::string_view text, text::PreTokenizer::Workspace& workspace, Counts& found) const {
    while (!text.empty()) {
      const size_t valid = text::valid_prefix(text);
      if (valid > 0) {
        text::PreTokenizer::expressions(workspace).begin(valid);
        pre_tokenizer.split(text.substr(0, valid), true, workspace, [&](std::string_view piece) {
          ++found[std::string(piece)];
        });
      }
      text.remove_prefix(std::min(text.size(), valid > 0 ? valid : 1));
    }
  }

  text::PreTokenizer pre_tokenizer;
  Counts words;
};

WordCounts::WordCounts(const std::string& pre_tokenizer)
    : implementation_(std::make_unique<Implementation>(pre_tokenizer)) {}
WordCounts::~WordCounts() = default;
WordCounts::WordCounts(WordCounts&&) noexcept = default;

void WordCounts::add(const std::vector<std::string>& texts) {
  std::vector<Counts> parts(static_cast<size_t>(core::num_threads()));
  const auto count = static_cast<int64_t>(texts.size());
  core::parallel_region(static_cast<int>(parts.size()), [&](int part) {
    const auto workspace = implementation_->pre_tokenizer.make_workspace();
    for (int64_t i = part; i < count; i += static_cast<int64_t>(parts.size())) {
      implementation_->count(
          texts[static_cast<size_t>(i)], *workspace, parts[static_cast<size_t>(part)]);
    }
  });
  for (const Counts& part : parts) {
    for (const auto& [word, occurrences] : part) {
      implementation_->words[word] += occurrences;
    }
  }
}

const Counts& WordCounts::counts() const {
  return implementation_->words;
}

std::vector<Pair> learn_merges(const Counts& words, int64_t count) {
  Merger merger(words);
  std::vector<Pair> merges;
  while (static_cast<int64_t>(merges.size()) < count) {
    const auto merged = merger.merge_next(static_cast<int32_t>(256 + merges.size()));
    if (!merged) {
      break;
    }
    merges.push_back(*merged);
  }
  return merges;
}

text::TokenizerSpec byte_pair_tokenizer(const std::vector<Pair>& merges,
                                        const std::string& pre_tokenizer) {
  text::TokenizerSpec spec;
  spec.model = text::TokenizerModel::kMergedPairs;
  spec.pre_tokenizer = pre_tokenizer;
  spec.tokens.push_back("<|endoftext|>");
  spec.kinds.push_back(text::TokenKind::kControl);
  std::vector<std::string> bytes;  // of each id of learn_merges
  for (int byte = 0; byte < 256; ++byte) {
    bytes.emplace_back(1, static_cast<char>(byte));
  }
  for (const auto& [left, right] : merges) {
    spec.merges.push_back(text::alphabet_from_bytes(bytes[static_cast<size_t>(left)]) + " " +
                          text::alphabet_from_bytes(bytes[static_cast<size_t>(right)]));
    bytes.push_back(bytes[static_cast<size_t>(left)] + bytes[static_cast<size_t>(right)]);
  }
  for (const std::string& token : bytes) {
    spec.tokens.push_back(text::alphabet_from_bytes(token));
    spec.kinds.push_back(text::TokenKind::kNormal);
  }
  spec.begin_of_text = 0;
  spec.end_of_text = 0;
  return spec;
}

}  // namespace adze::data
