#pragma once
// An engine of a few lines for tests of the scheduler: no model, no tensor, but pages that texts
// and the prefix cache share, a budget, and logits that tell whether a text is what it should be.

#include <algorithm>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/rng.h"
#include "infer/scheduler.h"
#include "infer/step_engine.h"

namespace adze::infer {

constexpr int64_t kVocab = 50;
constexpr int64_t kPage = 32;

inline uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  return x * 0xc4ceb9fe1a85ec53ULL;
}

// Logits that depend on every token so far: a text that lost, swapped or repeated one goes wrong.
inline std::vector<float> logits_after(std::span<const int32_t> tokens) {
  uint64_t hash = 1;
  for (const int32_t token : tokens) {
    hash = mix(hash + static_cast<uint64_t>(token));
  }
  std::vector<float> logits;
  for (int64_t i = 0; i < kVocab; ++i) {
    logits.push_back(static_cast<float>(mix(hash + static_cast<uint64_t>(i)) % 1000) / 200.0F);
  }
  return logits;
}

// A page is a byte a token and holds the tokens themselves. Policies: "full"; "window", where the
// context is no limit; "odd", which cannot be recomputed.
class MockEngine : public StepEngine {
 public:
  struct Page {
    explicit Page(MockEngine& e) : engine(e) { engine.used += kPage; }
    Page(const Page& other) : engine(other.engine), tokens(other.tokens) { engine.used += kPage; }
    Page& operator=(const Page&) = delete;
    ~Page() { engine.used -= kPage; }

    MockEngine& engine;
    std::vector<int32_t> tokens;
  };
  using PagePtr = std::shared_ptr<Page>;

  class Text : public CachedText {
   public:
    Text(MockEngine& engine, CacheChoice choice) : engine_(engine), choice_(std::move(choice)) {
      ++engine_.texts;
    }
    Text(const Text& other) : engine_(other.engine_), choice_(other.choice_), pages_(other.pages_) {
      ++engine_.texts;
    }
    Text& operator=(const Text&) = delete;
    ~Text() override { --engine_.texts; }

    int64_t length() const override {
      return pages_.empty() ? 0
                            : (static_cast<int64_t>(pages_.size()) - 1) * kPage +
                                  static_cast<int64_t>(pages_.back()->tokens.size());
    }
    int64_t rows_before_cut() const override { return 100 - length() % 100; }
    int64_t bytes_to_append(int64_t rows) const override {
      rows = std::min(rows, rows_before_cut());
      const int64_t pages = (length() + rows + kPage - 1) / kPage;
      const bool copies = length() % kPage != 0 && pages_.back().use_count() > 1;
      return (pages - static_cast<int64_t>(pages_.size()) + (copies ? 1 : 0)) * kPage;
    }
    std::unique_ptr<CachedText> fork() const override { return std::make_unique<Text>(*this); }
    void begin_turn(int64_t incoming, int64_t reserved) override {
      engine_.turns.emplace_back(incoming, reserved);
    }
    int64_t rows_to_guess() const override { return choice_.policy == "window" ? 0 : 15; }
    void truncate(int64_t length) override {
      const std::vector<int32_t> all = tokens();
      pages_.resize(static_cast<size_t>(length / kPage));
      append(std::span(all).subspan(static_cast<size_t>(length / kPage * kPage),
                                    static_cast<size_t>(length % kPage)));
      ++engine_.truncations;
    }
    bool recomputable() const override { return engine_.recomputable(choice_); }
    void save(core::StateWriter& writer) const override {
      ++engine_.saves;
      const std::vector<int32_t> all = tokens();
      const std::vector<uint8_t> bytes(all.begin(), all.end());  // as its pages
      writer.list(std::span<const uint8_t>(bytes));
    }
    CacheFigures figures() const override { return {}; }
    std::vector<std::vector<PositionRange>> kept() const override { return {}; }

    void append(std::span<const int32_t> added) {
      for (const int32_t token : added) {
        if (length() % kPage == 0) {
          pages_.push_back(std::make_shared<Page>(engine_));
        } else if (pages_.back().use_count() > 1) {
          pages_.back() = std::make_shared<Page>(*pages_.back());
        }
        pages_.back()->tokens.push_back(token);
      }
    }
    std::vector<int32_t> tokens() const {
      std::vector<int32_t> all;
      for (const PagePtr& page : pages_) {
        all.insert(all.end(), page->tokens.begin(), page->tokens.end());
      }
      return all;
    }
    const CacheChoice& choice() const { return choice_; }
    std::vector<PagePtr>& pages() { return pages_; }
    const std::vector<PagePtr>& pages() const { return pages_; }

   private:
    MockEngine& engine_;
    CacheChoice choice_;
    std::vector<PagePtr> pages_;
  };

  explicit MockEngine(int64_t budget) : budget_(budget) {}

  int64_t vocab_size() const override { return kVocab; }
  int64_t context() const override { return 400; }
  int64_t cache_bytes() const override { return budget_; }
  int64_t most_bytes(const CacheChoice&, int64_t tokens) const override {
    return (tokens + kPage - 1) / kPage * kPage;
  }
  bool evicts(const CacheChoice& choice) const override { return choice.policy == "window"; }
  bool recomputable(const CacheChoice& choice) const override { return choice.policy != "odd"; }

  std::unique_ptr<CachedText> open(const CacheChoice& choice,
                                   std::span<const int32_t> tokens,
                                   int64_t /*reserved*/,
                                   bool reuses) override {
    auto text = std::make_unique<Text>(*this, choice);
    if (!reuses) {
      return text;
    }
    const auto limit = std::min<int64_t>(static_cast<int64_t>(tokens.size()) - 1, 99);
    for (int64_t end = kPage; end <= limit; end += kPage) {
      const auto found = published_.find(key_of(choice, tokens, end));
      if (found == published_.end()) {
        break;
      }
      text->pages().push_back(found->second);
    }
    return text;
  }
  std::unique_ptr<CachedText> load(const CacheChoice& choice, core::StateReader& reader) override {
    auto text = std::make_unique<Text>(*this, choice);
    const std::vector<uint8_t> bytes = reader.list<uint8_t>();
    text->append(std::vector<int32_t>(bytes.begin(), bytes.end()));
    if (used > budget_) {
      throw core::error("engine", "no room for a text of {} tokens", bytes.size());
    }
    return text;
  }
  void publish(const CachedText& text, std::span<const int32_t> tokens) override {
    const auto& own = static_cast<const Text&>(text);
    EXPECT_EQ(own.tokens(), std::vector<int32_t>(tokens.begin(), tokens.end()));
    for (size_t page = 0; page < tokens.size() / kPage; ++page) {
      published_.emplace(key_of(own.choice(), tokens, static_cast<int64_t>(page + 1) * kPage),
                         own.pages()[page]);
    }
  }
  std::vector<const float*> step(std::span<const StepPart> parts) override {
    ++steps;
    most_parts = std::max(most_parts, static_cast<int64_t>(parts.size()));
    logits_.clear();
    std::vector<const float*> result;
    for (const StepPart& part : parts) {
      auto& text = static_cast<Text&>(*part.text);
      EXPECT_FALSE(part.tokens.empty());
      EXPECT_LE(static_cast<int64_t>(part.tokens.size()), text.rows_before_cut());
      std::vector<float>& logits = logits_.emplace_back();
      for (size_t i = 0; i < part.tokens.size(); ++i) {
        text.append(part.tokens.subspan(i, 1));
        if (static_cast<int64_t>(part.tokens.size() - i) <= part.wanted) {
          const std::vector<int32_t> all = text.tokens();
          // Repeating: a cycle of 11 tokens that slips every 50.
          const auto row =
              repeats ? logits_after({{static_cast<int32_t>((all.size() + all.size() / 50) % 11)}})
                      : logits_after(all);
          logits.insert(logits.end(), row.begin(), row.end());
        }
      }
      if (text.tokens().back() == poison) {
        throw core::error("engine", "poison");
      }
    }
    for (const std::vector<float>& logits : logits_) {
      result.push_back(logits.empty() ? nullptr : logits.data());
    }
    EXPECT_LE(used, budget_);
    return result;
  }
  int64_t free_bytes() const override { return budget_ - used; }
  void reclaim(int64_t bytes) override {
    for (auto entry = published_.begin(); entry != published_.end() && free_bytes() < bytes;) {
      entry = entry->second.use_count() > 1 ? std::next(entry) : published_.erase(entry);
    }
  }
  int64_t reclaimable_bytes() const override {
    if (fail_when_asked) {
      throw std::bad_alloc();
    }
    int64_t bytes = 0;
    for (const auto& [key, page] : published_) {
      bytes += page.use_count() > 1 ? 0 : kPage;
    }
    return bytes;
  }

  void forget_prefixes() { published_.clear(); }
  int64_t published() const { return static_cast<int64_t>(published_.size()); }

  int64_t used = 0;
  int64_t texts = 0;
  int64_t steps = 0;
  int64_t saves = 0;
  int64_t truncations = 0;
  std::vector<std::pair<int64_t, int64_t>> turns;  // of texts that go on
  int64_t most_parts = 0;
  int32_t poison = -1;
  bool repeats = false;
  bool fail_when_asked = false;  // what a system without memory does

 private:
  using Key = std::pair<std::string, std::vector<int32_t>>;
  static Key key_of(const CacheChoice& choice, std::span<const int32_t> tokens, int64_t end) {
    return {choice.tenant, {tokens.begin(), tokens.begin() + end}};
  }

  int64_t budget_;
  std::map<Key, PagePtr> published_;
  std::vector<std::vector<float>> logits_;
};

struct Heard : RequestObserver {
  void on_prompt(const PromptReport& report) override {
    prompt = report;
    ++prompts;
  }
  bool on_token(int64_t sample, const SampledToken& token, const CachedText&) override {
    texts[sample].push_back(token.token);
    return static_cast<int64_t>(texts[sample].size()) < enough;
  }
  void on_finish(int64_t sample, const FinishReport& report) override {
    EXPECT_TRUE(finished.emplace(sample, report.reason).second);
  }
  void on_failure(std::exception_ptr given) override {
    EXPECT_FALSE(failure);
    failure = std::move(given);
  }
  std::string failure_text() const {
    try {
      if (failure) {
        std::rethrow_exception(failure);
      }
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }

  PromptReport prompt;
  int64_t prompts = 0;
  int64_t enough = 1 << 30;
  std::map<int64_t, std::vector<int32_t>> texts;
  std::map<int64_t, FinishReason> finished;
  std::exception_ptr failure;
};

inline std::vector<int32_t> random_tokens(core::Rng& random, size_t count) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(random.next_uniform() * (kVocab - 1)) + 1);
  }
  return tokens;
}

// What a request must say: one token after the other, from the whole text each time.
inline std::vector<int32_t> expected(const ScheduledRequest& request, int64_t index) {
  SamplingOptions options = request.sampling;
  options.seed += static_cast<uint64_t>(index);
  const Sampler sampler(options, kVocab);
  SamplerWorkspace workspace;
  std::vector<int32_t> tokens = request.prompt;
  const size_t prompt = tokens.size();
  while (static_cast<int64_t>(tokens.size() - prompt) < request.max_tokens) {
    const auto all = std::span<const int32_t>(tokens);
    const int32_t token = sampler
                              .sample(logits_after(tokens),
                                      {all.first(prompt), all.subspan(prompt)},
                                      tokens.size() - prompt,
                                      workspace)
                              .token;
    if (std::find(request.end_tokens.begin(), request.end_tokens.end(), token) !=
        request.end_tokens.end()) {
      break;
    }
    tokens.push_back(token);
    if (request.cache.policy != "window" && tokens.size() > 400) {
      break;
    }
  }
  return {tokens.begin() + static_cast<int64_t>(prompt), tokens.end()};
}

inline ScheduledRequest request_of(std::vector<int32_t> prompt, int64_t max_tokens) {
  ScheduledRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

inline void run_dry(Scheduler& scheduler) {
  for (int64_t steps = 0; scheduler.step(); ++steps) {
    ASSERT_LT(steps, 100000);
  }
}

}  // namespace adze::infer
