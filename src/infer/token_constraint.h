#pragma once
// Which tokens keep an answer within a JSON grammar (text/json_schema.h).
//
// A token is allowed where the text allows all its bytes, one after the other. Tokens are walked as
// a tree of their bytes. Within strings most are allowed: what stays inside depends on the string
// alone and is kept, what goes beyond the closing quote is looked at each time.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "text/json_schema.h"
#include "text/tokenizer.h"

namespace adze::infer {

// The bytes of a tokenizer's tokens as a tree; once a tokenizer. Control, unknown and unused tokens
// are left out, and tokens of more than kMostBytes.
class TokenVocabulary {
 public:
  static constexpr size_t kMostBytes = 255;

  // A node with a byte and, behind it, the nodes below: up to `end`. Tokens that end here are
  // tokens()[first_token] up to the first token of the next node.
  struct Node {
    uint32_t end;
    uint32_t first_token;
    uint8_t depth;  // bytes from the root, this one included
    uint8_t byte;
  };

  // The tokenizer must outlive it. Throws core::Error where a byte that JSON needs has no token:
  // printable ASCII, and what continues UTF-8 if a token ends within a character.
  explicit TokenVocabulary(const text::Tokenizer& tokenizer);

  int64_t vocab_size() const { return tokenizer_->vocab_size(); }
  size_t num_words() const { return (static_cast<size_t>(vocab_size()) + 63) / 64; }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }

  uint32_t num_nodes() const { return static_cast<uint32_t>(nodes_.size() - 1); }
  const Node& node(uint32_t index) const { return nodes_[index]; }
  std::span<const int32_t> tokens(uint32_t index) const {
    const uint32_t first = nodes_[index].first_token;
    return {tokens_.data() + first, nodes_[index + 1].first_token - first};
  }

 private:
  const text::Tokenizer* tokenizer_;
  std::vector<Node> nodes_;      // and one behind the last
  std::vector<int32_t> tokens_;  // by their bytes
};

// One answer. Copies (of samples that part) share what is kept of strings, from any thread; a copy
// of an unused one is the cheapest start of another answer by the same grammar.
class TokenConstraint {
 public:
  TokenConstraint(std::shared_ptr<const TokenVocabulary> vocabulary,
                  std::shared_ptr<const text::JsonGrammar> grammar);

  // Bit t % 64 of bits[t / 64] becomes 1 where token t may come next, all others 0: tokens that end
  // generation exactly where the text is complete(). At least num_words() words.
  void allowed(std::span<uint64_t> bits) const;
  // Throws core::Error for a token that is not allowed; nothing has changed then.
  void accept(int32_t token);
  // Text that one token holds behind other text. False: not allowed; nothing has changed then.
  bool accept_bytes(std::string_view bytes);
  bool complete() const { return matcher_.complete(); }
  // The text is complete and nothing may follow.
  bool must_end() const { return ended_ || matcher_.must_end(); }

 private:
  // What may follow within a string, as far as limits of its length do not matter.
  struct StringTokens {
    struct Exit {
      uint32_t node;  // of the closing quote
      uint32_t meaning;
      uint32_t characters;
    };
    std::vector<uint64_t> bits;        // tokens that stay inside
    std::vector<int32_t> by_length;    // the same by their characters, if lengths may matter
    std::vector<uint32_t> length_end;  // where those of so many characters end
    std::vector<Exit> exits;
  };
  struct Shared {
    std::mutex mutex;
    std::map<std::array<uint64_t, 3>, StringTokens> strings;
    std::vector<text::JsonMatcher> levels;  // while walking, by depth
  };

  StringTokens explore(const text::JsonString& start) const;
  void allow_string(const text::JsonMatcher& matcher,
                    const text::JsonString& string,
                    std::span<uint64_t> bits) const;
  // What `matcher` allows of the nodes from `begin` to `end`, which lie below those of `depth`.
  void allow_nodes(const text::JsonMatcher& matcher,
                   uint32_t begin,
                   uint32_t end,
                   size_t depth,
                   std::span<uint64_t> bits) const;

  std::shared_ptr<const TokenVocabulary> vocabulary_;
  text::JsonMatcher matcher_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  bool ended_ = false;
};

}  // namespace adze::infer
