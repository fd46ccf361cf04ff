#pragma once
// Runs a parsed template over the given values.

#include <string>

#include "text/chat_template/arguments.h"
#include "text/chat_template/frame.h"
#include "text/chat_template/runtime.h"
#include "text/chat_template/syntax.h"

namespace adze::text::chat_template {

class Interpreter {
 public:
  explicit Interpreter(Runtime& runtime) : runtime_(runtime), globals_(frames_.take(nullptr)) {}

  void set_global(const std::string& name, Value value) { globals_.set(name, std::move(value)); }
  std::string run(const Block& program);

 private:
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };
  class Level;
  class Capture;

  Flow execute(const Block& block, Frame& frame, std::string& output);
  Flow execute_if(const If& statement, Frame& frame, std::string& output);
  Flow execute_for(const For& statement, Frame& frame, std::string& output);
  Flow execute_statement(const Statement& statement, Frame& frame, std::string& output);
  const List* loop_items(const For& statement, Frame& frame);
  void run_set(const Set& statement, Frame& frame);
  void run_set_block(const SetBlock& statement, Frame& frame);
  void run_call_block(const CallBlock& statement, Frame& frame, std::string& output);
  void run_filter_block(const FilterBlock& statement, Frame& frame, std::string& output);
  Flow run_with(const With& statement, Frame& frame, std::string& output);
  Value render_block(const Block& block, Frame& frame);
  Value apply_filters(Value value, const std::vector<Suffix>& filters, Frame& frame);
  void write(std::string& output, std::string_view text);
  void print(std::string& output, const Value& value);
  void assign(const Target& target, const Value& value, Frame& frame);

  Value evaluate(const Expression& expression, Frame& frame);
  Value evaluate_node(const Literal& node, Frame& frame);
  Value evaluate_node(const Name& node, Frame& frame);
  Value evaluate_node(const ListLiteral& node, Frame& frame);
  Value evaluate_node(const MappingLiteral& node, Frame& frame);
  Value evaluate_node(const BinaryChain& node, Frame& frame);
  Value evaluate_node(const Comparison& node, Frame& frame);
  Value evaluate_node(const Logical& node, Frame& frame);
  Value evaluate_node(const Unary& node, Frame& frame);
  Value evaluate_node(const Conditional& node, Frame& frame);
  Value evaluate_node(const Suffixed& node, Frame& frame);
  // The first `count` suffixes applied to the base.
  Value evaluate_suffixes(const Suffixed& node, size_t count, Frame& frame);
  Value apply_suffix(const Value& value, const Suffix& suffix, Frame& frame);
  Value apply_slice(const Value& value, const Suffix& suffix, Frame& frame);
  Arguments evaluate_arguments(const CallArguments& arguments, Frame& frame);
  Value call(const Value& function, const Arguments& arguments);
  Value call_macro(const Callable& macro, const Arguments& arguments);
  void bind_parameters(const MacroDefinition& definition, const Arguments& arguments, Frame& frame);
  Value make_macro(const MacroDefinition& definition, Frame& frame);

  Runtime& runtime_;
  FramePool frames_;
  Frame& globals_;
  int64_t depth_ = 0;  // of evaluation, for the native stack
  int64_t macro_depth_ = 0;
};

}  // namespace adze::text::chat_template
