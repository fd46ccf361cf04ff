#pragma once
// Pages of texts that have been computed, for later texts that begin with the same tokens. A tree
// of whole pages: a node is a page of 32 tokens in all slots, and the way to it spells the text.
// Tokens are compared, not hashed, so that no two texts can be taken for one another; trees of
// different keys (tenant, adapter, store, key form) share nothing.

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kv/sequence.h"

namespace adze::infer {

class PrefixCache {
 public:
  PrefixCache() = default;
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Appends to an empty sequence the longest run of pages that the tokens begin with, at most
  // `most` tokens of them.
  void restore(const std::string& key,
               std::span<const int32_t> tokens,
               int64_t most,
               kv::Sequence& sequence);
  // Keeps the sealed pages of a sequence that holds `tokens` and has dropped none.
  void publish(const std::string& key,
               std::span<const int32_t> tokens,
               const kv::Sequence& sequence);

  // Drops pages that no text refers to, those used longest ago first, until `enough`. Dropping one
  // that a text refers to would free nothing.
  void drop_unused(const std::function<bool()>& enough);
  void clear() {
    roots_.clear();
    nodes_.clear();
    bytes_ = 0;
  }

  int64_t pages() const { return static_cast<int64_t>(nodes_.size()); }  // of 32 tokens, all slots
  int64_t bytes() const { return bytes_; }
  int64_t unused_bytes() const;  // what drop_unused() can free

 private:
  using PageTokens = std::array<int32_t, kv::kPageTokens>;
  struct Node {
    std::map<PageTokens, std::list<Node>::iterator>* siblings;  // that hold this node
    const std::string* key;  // of the tree, where this is its first page; else null
    PageTokens tokens;
    std::vector<kv::PageRef> pages;  // by slot
    std::vector<kv::PageRef> sides;  // by slot, with the last of a store's first pages
    int64_t bytes = 0;
    const Node* parent = nullptr;
    std::map<PageTokens, std::list<Node>::iterator> children;

    bool used() const;  // by a text
  };
  using Children = std::map<PageTokens, std::list<Node>::iterator>;

  void touch(std::span<const std::list<Node>::iterator> path);

  // By last use, the newest first. A node comes before its children, so the last one has none.
  std::list<Node> nodes_;
  std::map<std::string, Children> roots_;
  int64_t bytes_ = 0;
};

}  // namespace adze::infer
