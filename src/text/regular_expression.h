#pragma once
// Regular expressions of tokenizers, matched by PCRE2. They may come from strangers: a match has
// limited backtracking and depth, and all matching on one text a limited time, so that a hostile
// expression ends in an error and not in a hang.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace adze::text {

class RegularExpression {
 public:
  struct Match {
    size_t begin;
    size_t end;  // may equal begin
  };

  // Memory and limits of one thread; what one thread matches at a time shares one.
  class Workspace {
   public:
    Workspace();
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    // Before a text is matched: sets the limits for one of that many bytes.
    void begin(size_t text_bytes);

   private:
    friend class RegularExpression;
    struct Memory;
    void check_time();

    std::unique_ptr<Memory> memory_;
    uint32_t calls_ = 0;
    std::chrono::steady_clock::time_point deadline_;
    std::chrono::nanoseconds processor_time_limit_{};
  };

  // kLinear: looking for a match is known to take time linear in the text, so that it needs no
  // watching, which costs a sixth of the speed.
  enum class Cost : uint8_t { kUnknown, kLinear };

  // In the dialect of tokenizer.json (Oniguruma with Ruby's syntax). Throws core::Error: syntax,
  // more than 64 KiB, or something of the dialect that has no counterpart, by name.
  explicit RegularExpression(std::string_view expression, Cost cost = Cost::kUnknown);
  ~RegularExpression();
  RegularExpression(RegularExpression&&) noexcept;
  RegularExpression& operator=(RegularExpression&&) noexcept;

  // The first match at or after `start`; false where there is none. `text` must be well-formed
  // UTF-8. Throws core::Error when a limit is reached.
  bool find(std::string_view text, size_t start, Workspace& workspace, Match& match) const;

 private:
  struct Code;
  bool find_watched(std::string_view text, size_t start, Workspace& workspace, Match& match) const;
  bool find_in(std::string_view text, size_t start, Workspace& workspace, Match& match) const;

  std::unique_ptr<Code> code_;
};

// Calls use(begin, end) for each match, from the left: an empty one only where no match has just
// ended, as Oniguruma's iterators do.
template <class Use>
void for_each_match(const RegularExpression& expression,
                    std::string_view text,
                    RegularExpression::Workspace& workspace,
                    Use&& use) {
  size_t position = 0;
  size_t last_end = std::string_view::npos;
  RegularExpression::Match match{};
  while (position <= text.size() && expression.find(text, position, workspace, match)) {
    if (match.begin == match.end && match.end == last_end) {
      do {
        ++position;
      } while (position < text.size() && (static_cast<uint8_t>(text[position]) & 0xC0) == 0x80);
      continue;
    }
    position = match.end;
    last_end = match.end;
    use(match.begin, match.end);
  }
}

// The expression with every character standing for itself.
std::string escaped_expression(std::string_view text);

// The same expression in PCRE2's dialect; throws core::Error as the constructor does.
std::string translated_expression(std::string_view expression);

}  // namespace adze::text
