#include "infer/prefix_cache.h"

#include <algorithm>
#include <unordered_set>

namespace adze::infer {

bool PrefixCache::Node::used() const {
  const auto shared = [](const kv::PageRef& page) { return page.shared(); };
  return std::any_of(pages.begin(), pages.end(), shared) ||
         std::any_of(sides.begin(), sides.end(), shared);
}

void PrefixCache::touch(std::span<const std::list<Node>::iterator> path) {
  for (size_t i = path.size(); i > 0; --i) {  // the root's child ends up first
    nodes_.splice(nodes_.begin(), nodes_, path[i - 1]);
  }
}

void PrefixCache::restore(const std::string& key,
                          std::span<const int32_t> tokens,
                          int64_t most,
                          kv::Sequence& sequence) {
  const auto root = roots_.find(key);
  if (root == roots_.end()) {
    return;
  }
  std::vector<std::list<Node>::iterator> path;
  const Children* children = &root->second;
  const auto limit = std::min(static_cast<int64_t>(tokens.size()), most);
  for (int64_t first = 0; first + kv::kPageTokens <= limit; first += kv::kPageTokens) {
    PageTokens page;
    std::copy_n(tokens.begin() + first, kv::kPageTokens, page.begin());
    const auto child = children->find(page);
    if (child == children->end()) {
      break;
    }
    path.push_back(child->second);
    children = &child->second->children;
  }
  if (static_cast<int64_t>(path.size()) < sequence.store().first_pages()) {
    return;  // a text that short keeps its pages raw
  }
  for (const auto& node : path) {
    sequence.append_pages(node->pages, node->sides);
  }
  touch(path);
}

void PrefixCache::publish(const std::string& key,
                          std::span<const int32_t> tokens,
                          const kv::Sequence& sequence) {
  size_t pages = tokens.size() / kv::kPageTokens;
  for (int64_t slot = 0; slot < sequence.num_slots(); ++slot) {
    if (!sequence.slot(slot).positions.empty()) {
      return;  // something was dropped
    }
    pages = std::min(pages, sequence.slot(slot).sealed.size());
  }
  if (pages == 0) {
    return;
  }
  std::vector<std::list<Node>::iterator> path;
  const auto root = roots_.try_emplace(key).first;
  Children* children = &root->second;
  for (size_t page = 0; page < pages; ++page) {
    PageTokens page_tokens;
    std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(page * kv::kPageTokens),
                kv::kPageTokens,
                page_tokens.begin());
    auto child = children->find(page_tokens);
    if (child == children->end()) {
      Node& node = nodes_.emplace_front();
      node.siblings = children;
      node.key = page == 0 ? &root->first : nullptr;
      node.parent = path.empty() ? nullptr : &*path.back();
      node.tokens = page_tokens;
      for (int64_t slot = 0; slot < sequence.num_slots(); ++slot) {
        node.pages.push_back(sequence.slot(slot).sealed[page]);
        node.bytes += node.pages.back().bytes();
        if (sequence.slot(slot).side &&
            static_cast<int64_t>(page) + 1 == sequence.store().first_pages()) {
          node.sides.push_back(sequence.slot(slot).side);
          node.bytes += node.sides.back().bytes();
        }
      }
      bytes_ += node.bytes;
      child = children->emplace(page_tokens, nodes_.begin()).first;
    }
    path.push_back(child->second);
    children = &child->second->children;
  }
  touch(path);
}

void PrefixCache::drop_unused(const std::function<bool()>& enough) {
  for (auto node = nodes_.end(); node != nodes_.begin() && !enough();) {
    --node;
    if (node->used() || !node->children.empty()) {
      continue;  // its children were looked at before it
    }
    bytes_ -= node->bytes;
    node->siblings->erase(node->tokens);
    if (node->key != nullptr && node->siblings->empty()) {
      roots_.erase(roots_.find(*node->key));  // tenants come and go
    }
    node = nodes_.erase(node);
  }
}

int64_t PrefixCache::unused_bytes() const {
  int64_t bytes = 0;
  std::unordered_set<const Node*> held;  // by a text, or by a page that is
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    if (held.contains(&*node) || node->used()) {
      held.insert(node->parent);
    } else {
      bytes += node->bytes;
    }
  }
  return bytes;
}

}  // namespace adze::infer
