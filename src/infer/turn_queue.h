#pragma once
// Who comes next: owners take turns. Of one owner's items those that made room for others come
// first, then new ones and forks (further samples of one request) by turns, so that a request of
// many samples keeps nobody waiting for all of them.

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

namespace adze::infer {

template <class Item>
class TurnQueue {
 public:
  enum class Kind { kNew, kFork, kReturning };

  // Returning items go to the front of their kind, all others to the end.
  void push(const std::string& owner, Kind kind, Item item) {
    Lines& lines = owners_[owner];
    if (kind == Kind::kReturning) {
      lines.returning.push_front(std::move(item));
    } else {
      (kind == Kind::kFork ? lines.forks : lines.fresh).push_back(std::move(item));
    }
  }

  // What pop() would return; null: nothing waits.
  Item* front() {
    const auto owner = turn();
    return owner == owners_.end() ? nullptr : &owner->second.next().front();
  }
  Item pop() {
    const auto owner = turn();
    Lines& lines = owner->second;
    std::deque<Item>& line = lines.next();
    lines.fork_turn = &line == &lines.fresh;
    last_ = owner->first;
    Item item = std::move(line.front());
    line.pop_front();
    if (lines.empty()) {
      owners_.erase(owner);
    }
    return item;
  }

  template <class Visit>
  void for_each(const Visit& visit) {
    for (auto& [owner, lines] : owners_) {
      for (std::deque<Item>* line : {&lines.returning, &lines.fresh, &lines.forks}) {
        for (Item& item : *line) {
          visit(item);
        }
      }
    }
  }
  template <class Predicate>
  void remove_if(const Predicate& predicate) {
    for (auto entry = owners_.begin(); entry != owners_.end();) {
      Lines& lines = entry->second;
      std::erase_if(lines.returning, predicate);
      std::erase_if(lines.fresh, predicate);
      std::erase_if(lines.forks, predicate);
      entry = lines.empty() ? owners_.erase(entry) : std::next(entry);
    }
  }
  void clear() { owners_.clear(); }

  int64_t size() const {
    size_t total = 0;
    for (const auto& [owner, lines] : owners_) {
      total += lines.size();
    }
    return static_cast<int64_t>(total);
  }
  // By owner, of those that have any.
  std::map<std::string, int64_t> new_items() const {
    std::map<std::string, int64_t> counts;
    for (const auto& [owner, lines] : owners_) {
      if (!lines.fresh.empty()) {
        counts[owner] = static_cast<int64_t>(lines.fresh.size());
      }
    }
    return counts;
  }

 private:
  struct Lines {
    std::deque<Item> returning;
    std::deque<Item> fresh;
    std::deque<Item> forks;
    bool fork_turn = false;

    size_t size() const { return returning.size() + fresh.size() + forks.size(); }
    bool empty() const { return size() == 0; }
    std::deque<Item>& next() {
      if (!returning.empty()) {
        return returning;
      }
      return forks.empty() || (!fork_turn && !fresh.empty()) ? fresh : forks;
    }
  };

  typename std::map<std::string, Lines>::iterator turn() {
    const auto next = owners_.upper_bound(last_);
    return next == owners_.end() ? owners_.begin() : next;
  }

  std::map<std::string, Lines> owners_;
  std::string last_;  // whose turn it was
};

}  // namespace adze::infer
