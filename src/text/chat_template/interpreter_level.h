#pragma once
// One level of the interpreter's recursion.

#include "text/chat_template/interpreter.h"

namespace adze::text::chat_template {

// Levels of evaluation that one level of the limit allows: a macro call takes about five.
inline constexpr int64_t kEvaluationsPerLevel = 10;

class Interpreter::Level {
 public:
  explicit Level(Interpreter& interpreter) : interpreter_(interpreter) {
    const Runtime& runtime = interpreter.runtime_;
    if (interpreter.depth_ >= runtime.limits().depth * kEvaluationsPerLevel) {
      runtime.fail("evaluation is nested deeper than {} levels",
                   runtime.limits().depth * kEvaluationsPerLevel);
    }
    ++interpreter.depth_;
  }
  ~Level() { --interpreter_.depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  Interpreter& interpreter_;
};

}  // namespace adze::text::chat_template
