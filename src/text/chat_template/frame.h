#pragma once
// The variables of one scope; what is not found is looked for in the scope around it.

#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template/value.h"

namespace adze::text::chat_template {

class Frame {
 public:
  explicit Frame(Frame* parent) : parent_(parent) {}

  const Value* find(std::string_view name) const {  // nullptr: nowhere
    for (const Frame* frame = this; frame != nullptr; frame = frame->parent_) {
      const auto found = frame->variables_.find(name);
      if (found != frame->variables_.end()) {
        return &found->second;
      }
    }
    return nullptr;
  }
  void set(const std::string& name, Value value) { variables_[name] = std::move(value); }

 private:
  friend class FramePool;

  Frame* parent_;
  std::map<std::string, Value, std::less<>> variables_;
  bool captured_ = false;
};

// Frames are taken and given back in each turn of a loop. One that a macro refers to stays.
class FramePool {
 public:
  Frame& take(Frame* parent) {
    if (free_.empty()) {
      return frames_.emplace_back(parent);
    }
    Frame& frame = *free_.back();
    free_.pop_back();
    frame.parent_ = parent;
    return frame;
  }
  void give_back(Frame& frame) {
    if (!frame.captured_) {
      frame.variables_.clear();
      free_.push_back(&frame);
    }
  }
  static void capture(Frame& innermost) {
    for (Frame* frame = &innermost; frame != nullptr && !frame->captured_; frame = frame->parent_) {
      frame->captured_ = true;
    }
  }

 private:
  std::deque<Frame> frames_;
  std::vector<Frame*> free_;
};

class ScopedFrame {
 public:
  ScopedFrame(FramePool& pool, Frame* parent) : pool_(pool), frame_(pool.take(parent)) {}
  ~ScopedFrame() { pool_.give_back(frame_); }
  ScopedFrame(const ScopedFrame&) = delete;
  ScopedFrame& operator=(const ScopedFrame&) = delete;
  Frame& operator*() const { return frame_; }
  Frame* operator->() const { return &frame_; }

 private:
  FramePool& pool_;
  Frame& frame_;
};

}  // namespace adze::text::chat_template
