#include "text/chat_template/interpreter.h"

#include <algorithm>

#include "text/chat_template/interpreter_level.h"
#include "text/chat_template/library.h"
#include "text/chat_template/operators.h"
#include "text/chat_template/represent.h"

namespace adze::text::chat_template {

namespace {

constexpr const char* kCaller = "caller";

}  // namespace

// Output that becomes a value; counts as output until then.
class Interpreter::Capture {
 public:
  explicit Capture(Runtime& runtime) : runtime_(runtime) {}
  ~Capture() { runtime_.give_output(text.size()); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  std::string text;

 private:
  Runtime& runtime_;
};

std::string Interpreter::run(const Block& program) {
  std::string output;
  execute(program, globals_, output);
  return output;
}

Interpreter::Flow Interpreter::execute(const Block& block, Frame& frame, std::string& output) {
  const Level level(*this);
  for (const Statement& statement : block) {
    runtime_.set_line(statement.line);
    runtime_.step();
    const Flow flow = execute_statement(statement, frame, output);
    if (flow != Flow::kNormal) {
      return flow;
    }
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute_statement(const Statement& statement,
                                                 Frame& frame,
                                                 std::string& output) {
  if (const auto* text = std::get_if<OutputText>(&statement.node)) {
    write(output, text->text);
  } else if (const auto* value = std::get_if<OutputValue>(&statement.node)) {
    print(output, evaluate(*value->value, frame));
  } else if (const auto* branches = std::get_if<If>(&statement.node)) {
    return execute_if(*branches, frame, output);
  } else if (const auto* loop = std::get_if<For>(&statement.node)) {
    return execute_for(*loop, frame, output);
  } else if (const auto* set = std::get_if<Set>(&statement.node)) {
    run_set(*set, frame);
  } else if (const auto* set_block = std::get_if<SetBlock>(&statement.node)) {
    run_set_block(*set_block, frame);
  } else if (const auto* macro = std::get_if<Macro>(&statement.node)) {
    frame.set(macro->definition->name, make_macro(*macro->definition, frame));
  } else if (const auto* call_block = std::get_if<CallBlock>(&statement.node)) {
    run_call_block(*call_block, frame, output);
  } else if (const auto* filter = std::get_if<FilterBlock>(&statement.node)) {
    run_filter_block(*filter, frame, output);
  } else if (const auto* with = std::get_if<With>(&statement.node)) {
    return run_with(*with, frame, output);
  } else {
    return std::holds_alternative<Break>(statement.node) ? Flow::kBreak : Flow::kContinue;
  }
  return Flow::kNormal;
}

void Interpreter::write(std::string& output, std::string_view text) {
  runtime_.take_output(text.size());
  output.append(text);
}

void Interpreter::print(std::string& output, const Value& value) {
  if (value.is<Text>()) {
    write(output, value.text());
  } else {
    write(output, printed(runtime_, value));
  }
}

Interpreter::Flow Interpreter::execute_if(const If& statement, Frame& frame, std::string& output) {
  for (const If::Branch& branch : statement.branches) {
    if (branch.condition == nullptr || evaluate(*branch.condition, frame).truth()) {
      return execute(branch.body, frame, output);
    }
  }
  return Flow::kNormal;
}

const List* Interpreter::loop_items(const For& statement, Frame& frame) {
  const List* items = runtime_.iterate(evaluate(*statement.sequence, frame));
  if (statement.filter == nullptr) {
    return items;
  }
  List* kept = runtime_.list();
  for (size_t index = 0; index < items->items.size(); ++index) {
    const Value item = items->items[index];
    const ScopedFrame scope(frames_, &frame);
    assign(statement.target, item, *scope);
    if (evaluate(*statement.filter, *scope).truth()) {
      runtime_.append(*kept, item);
    }
  }
  return kept;
}

Interpreter::Flow Interpreter::execute_for(const For& statement,
                                           Frame& frame,
                                           std::string& output) {
  const Level level(*this);
  Loop* loop = runtime_.loop();
  loop->items = loop_items(statement, frame);
  if (loop->items->items.empty()) {
    return execute(statement.otherwise, frame, output);
  }
  // By index and with copies: the body may append to the list.
  for (size_t index = 0; index < loop->items->items.size(); ++index) {
    runtime_.step();
    loop->index = static_cast<int64_t>(index);
    const Value item = loop->items->items[index];
    const ScopedFrame scope(frames_, &frame);
    assign(statement.target, item, *scope);
    scope->set("loop", Value(loop));
    if (execute(statement.body, *scope, output) == Flow::kBreak) {
      break;
    }
  }
  return Flow::kNormal;
}

void Interpreter::assign(const Target& target, const Value& value, Frame& frame) {
  if (!target.attribute.empty()) {
    const Value* object = frame.find(target.names[0]);
    if (object == nullptr || !object->is_namespace()) {
      runtime_.fail("'{}' is not a namespace: its attributes cannot be set", target.names[0]);
    }
    runtime_.insert(**object->get<Mapping*>(), target.attribute, value);
    return;
  }
  if (!target.unpack) {
    frame.set(target.names[0], value);
    return;
  }
  const auto& items = runtime_.iterate(value)->items;
  if (items.size() != target.names.size()) {
    runtime_.fail("expected {} values to unpack, got {}", target.names.size(), items.size());
  }
  for (size_t index = 0; index < items.size(); ++index) {
    frame.set(target.names[index], items[index]);
  }
}

void Interpreter::run_set(const Set& statement, Frame& frame) {
  assign(statement.target, evaluate(*statement.value, frame), frame);
}

Value Interpreter::render_block(const Block& block, Frame& frame) {
  Capture capture(runtime_);
  const ScopedFrame scope(frames_, &frame);
  if (execute(block, *scope, capture.text) != Flow::kNormal) {
    runtime_.fail("'break' and 'continue' cannot leave a block whose output is used");
  }
  return runtime_.text(capture.text);
}

Value Interpreter::apply_filters(Value value, const std::vector<Suffix>& filters, Frame& frame) {
  for (const Suffix& filter : filters) {
    value = apply_suffix(value, filter, frame);
  }
  return value;
}

void Interpreter::run_set_block(const SetBlock& statement, Frame& frame) {
  const Value body = render_block(statement.body, frame);
  assign(statement.target, apply_filters(body, statement.filters, frame), frame);
}

void Interpreter::run_filter_block(const FilterBlock& statement,
                                   Frame& frame,
                                   std::string& output) {
  print(output, apply_filters(render_block(statement.body, frame), statement.filters, frame));
}

Interpreter::Flow Interpreter::run_with(const With& statement, Frame& frame, std::string& output) {
  const ScopedFrame scope(frames_, &frame);
  for (const auto& [target, value] : statement.assignments) {
    assign(target, evaluate(*value, frame), *scope);
  }
  return execute(statement.body, *scope, output);
}

Value Interpreter::make_macro(const MacroDefinition& definition, Frame& frame) {
  FramePool::capture(frame);
  return Value(
      runtime_.callable({Callable::Kind::kMacro, definition.name, &definition, &frame, Value()}));
}

void Interpreter::run_call_block(const CallBlock& statement, Frame& frame, std::string& output) {
  const auto& suffixed = std::get<Suffixed>(statement.call->node);
  const size_t last = suffixed.suffixes.size() - 1;
  const Value function = evaluate_suffixes(suffixed, last, frame);
  Arguments arguments = evaluate_arguments(suffixed.suffixes[last].arguments, frame);
  arguments.named.emplace_back(kCaller, make_macro(*statement.caller, frame));
  print(output, call(function, arguments));
}

void Interpreter::bind_parameters(const MacroDefinition& definition,
                                  const Arguments& arguments,
                                  Frame& frame) {
  const auto& parameters = definition.parameters;
  if (arguments.positional.size() > parameters.size()) {
    runtime_.fail("macro '{}' takes at most {} arguments, got {}",
                  definition.name,
                  parameters.size(),
                  arguments.positional.size());
  }
  for (const auto& argument : arguments.named) {
    const std::string& name = argument.first;
    const auto place = std::find_if(
        parameters.begin(), parameters.end(), [&](const auto& p) { return p.name == name; });
    const bool repeated =
        place != parameters.end() &&
        static_cast<size_t>(place - parameters.begin()) < arguments.positional.size();
    if (repeated || (place == parameters.end() && name != kCaller)) {
      runtime_.fail("macro '{}' cannot take its argument '{:.80}'", definition.name, name);
    }
    frame.set(name, argument.second);
  }
  const auto is_named = [&](const std::string& name) {
    return std::any_of(arguments.named.begin(), arguments.named.end(), [&](const auto& argument) {
      return argument.first == name;
    });
  };
  for (size_t index = 0; index < parameters.size(); ++index) {
    const Parameter& parameter = parameters[index];
    if (index < arguments.positional.size()) {
      frame.set(parameter.name, arguments.positional[index]);
    } else if (!is_named(parameter.name)) {
      frame.set(parameter.name,
                parameter.otherwise == nullptr ? runtime_.undefined("'" + parameter.name + "'")
                                               : evaluate(*parameter.otherwise, frame));
    }
  }
}

Value Interpreter::call_macro(const Callable& macro, const Arguments& arguments) {
  if (macro_depth_ >= runtime_.limits().depth) {
    runtime_.fail("macros call each other deeper than {} levels", runtime_.limits().depth);
  }
  ++macro_depth_;
  Capture capture(runtime_);
  const ScopedFrame scope(frames_, macro.scope);
  bind_parameters(*macro.macro, arguments, *scope);
  execute(macro.macro->body, *scope, capture.text);
  --macro_depth_;
  return runtime_.text(capture.text);
}

}  // namespace adze::text::chat_template
