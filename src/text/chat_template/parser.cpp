#include "text/chat_template/parser.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include "text/chat_template/expression_parser.h"
#include "text/chat_template/runtime.h"
#include "text/chat_template/token_reader.h"

namespace adze::text::chat_template {

namespace {

using Kind = Token::Kind;

class StatementParser {
 public:
  StatementParser(std::string_view source, int64_t max_depth)
      : reader_(tokenize(source), max_depth), expressions_(reader_) {}

  Block parse_template() {
    Block block;
    while (reader_.peek().kind != Kind::kEnd) {
      parse_piece(block);
    }
    return block;
  }

 private:
  // Data, an output or a statement.
  void parse_piece(Block& block) {
    const int line = reader_.line();
    switch (reader_.peek().kind) {
      case Kind::kData:
        block.push_back({line, OutputText{reader_.next().text}});
        return;
      case Kind::kVariableBegin: {
        reader_.next();
        block.push_back({line, OutputValue{expressions_.parse_tuple()}});
        reader_.expect(Kind::kVariableEnd);
        return;
      }
      default:
        reader_.expect(Kind::kBlockBegin);
        parse_statement(block, line);
    }
  }

  void parse_statement(Block& block, int line) {
    const TokenReader::Level level(reader_);
    struct Row {
      std::string_view name;
      void (StatementParser::*parse)(Block& block, int line);
    };
    static constexpr std::array kStatements{
        Row{"break", &StatementParser::parse_break},
        Row{"call", &StatementParser::parse_call},
        Row{"continue", &StatementParser::parse_continue},
        Row{"filter", &StatementParser::parse_filter},
        Row{"for", &StatementParser::parse_for},
        Row{"generation", &StatementParser::parse_generation},
        Row{"if", &StatementParser::parse_if},
        Row{"macro", &StatementParser::parse_macro},
        Row{"set", &StatementParser::parse_set},
        Row{"with", &StatementParser::parse_with},
    };
    const std::string name = reader_.expect_identifier();
    for (const Row& row : kStatements) {
      if (row.name == name) {
        (this->*row.parse)(block, line);
        return;
      }
    }
    fail_at(line, "the statement '{:.40}' is not supported here", name);
  }

  // Pieces up to a tag that begins with one of `ends`, whose name is taken and returned.
  std::string parse_body(Block& body, std::initializer_list<std::string_view> ends) {
    const int line = reader_.line();
    while (true) {
      if (reader_.peek().kind == Kind::kEnd) {
        fail_at(line, "a block without '{}'", *(ends.end() - 1));
      }
      if (reader_.peek().kind == Kind::kBlockBegin &&
          std::any_of(
              ends.begin(), ends.end(), [&](auto end) { return reader_.peek(1).is_name(end); })) {
        reader_.next();
        return reader_.next().text;
      }
      parse_piece(body);
    }
  }

  Block parse_simple_body(std::string_view end) {
    Block body;
    parse_body(body, {end});
    reader_.expect(Kind::kBlockEnd);
    return body;
  }

  void parse_if(Block& block, int line) {
    If statement;
    std::string end = "if";
    while (end != "endif") {
      ExpressionPointer condition = end == "else" ? nullptr : expressions_.parse_tuple(false);
      reader_.expect(Kind::kBlockEnd);
      statement.branches.push_back({std::move(condition), {}});
      Block& body = statement.branches.back().body;
      end =
          end == "else" ? parse_body(body, {"endif"}) : parse_body(body, {"elif", "else", "endif"});
    }
    reader_.expect(Kind::kBlockEnd);
    block.push_back({line, std::move(statement)});
  }

  void parse_for(Block& block, int line) {
    For statement;
    statement.target = parse_target(false);
    reader_.expect_name("in");
    statement.sequence = expressions_.parse_tuple(false);
    if (reader_.skip_name("if")) {
      statement.filter = expressions_.parse();
    }
    if (reader_.peek().is_name("recursive")) {
      fail_at(line, "recursive loops are not supported");
    }
    reader_.expect(Kind::kBlockEnd);
    ++loops_;
    const std::string end = parse_body(statement.body, {"else", "endfor"});
    --loops_;
    reader_.expect(Kind::kBlockEnd);
    if (end == "else") {
      statement.otherwise = parse_simple_body("endfor");
    }
    block.push_back({line, std::move(statement)});
  }

  // Names, with commas between and perhaps in brackets; for set, a namespace's attribute too.
  Target parse_target(bool allow_attribute) {
    Target target;
    const bool brackets = reader_.skip_operator("(");
    do {
      if (!target.names.empty() && reader_.peek().kind != Kind::kName) {
        break;  // a comma at the end
      }
      const int line = reader_.line();
      target.names.push_back(reader_.expect_identifier());
      constexpr std::array<std::string_view, 6> kConstants{
          "true", "false", "none", "True", "False", "None"};
      if (std::find(kConstants.begin(), kConstants.end(), target.names.back()) !=
          kConstants.end()) {
        fail_at(line, "'{}' cannot be assigned to", target.names.back());
      }
      if (allow_attribute && target.names.size() == 1 && reader_.skip_operator(".")) {
        target.attribute = reader_.expect_identifier();
        return target;
      }
      target.unpack = target.unpack || reader_.peek().is_operator(",");
    } while (reader_.skip_operator(","));
    if (brackets) {
      reader_.expect_operator(")");
    }
    return target;
  }

  void parse_set(Block& block, int line) {
    Target target = parse_target(true);
    if (reader_.skip_operator("=")) {
      ExpressionPointer value = expressions_.parse_tuple();
      reader_.expect(Kind::kBlockEnd);
      block.push_back({line, Set{std::move(target), std::move(value)}});
      return;
    }
    SetBlock statement{std::move(target), expressions_.parse_filters(), {}};
    reader_.expect(Kind::kBlockEnd);
    statement.body = parse_simple_body("endset");
    block.push_back({line, std::move(statement)});
  }

  std::vector<Parameter> parse_parameters() {
    std::vector<Parameter> parameters;
    reader_.expect_operator("(");
    while (!reader_.peek().is_operator(")")) {
      Parameter parameter{reader_.expect_identifier(), nullptr};
      if (reader_.skip_operator("=")) {
        parameter.otherwise = expressions_.parse();
      } else if (!parameters.empty() && parameters.back().otherwise != nullptr) {
        reader_.fail_unexpected("a default, as for the parameter before");
      }
      parameters.push_back(std::move(parameter));
      if (!reader_.skip_operator(",")) {
        break;
      }
    }
    reader_.expect_operator(")");
    return parameters;
  }

  // The body of a macro: a loop around it is not its own.
  Block parse_macro_body(std::string_view end) {
    const int64_t loops = std::exchange(loops_, 0);
    Block body = parse_simple_body(end);
    loops_ = loops;
    return body;
  }

  void parse_macro(Block& block, int line) {
    auto definition = std::make_unique<MacroDefinition>();
    definition->name = reader_.expect_identifier();
    definition->parameters = parse_parameters();
    reader_.expect(Kind::kBlockEnd);
    definition->body = parse_macro_body("endmacro");
    block.push_back({line, Macro{std::move(definition)}});
  }

  void parse_call(Block& block, int line) {
    CallBlock statement{std::make_unique<MacroDefinition>(), nullptr};
    statement.caller->name = "caller";
    if (reader_.peek().is_operator("(")) {
      statement.caller->parameters = parse_parameters();
    }
    statement.call = expressions_.parse();
    const auto* suffixed = std::get_if<Suffixed>(&statement.call->node);
    if (suffixed == nullptr || suffixed->suffixes.back().kind != Suffix::Kind::kCall) {
      fail_at(line, "'call' needs the call of a macro");
    }
    reader_.expect(Kind::kBlockEnd);
    statement.caller->body = parse_macro_body("endcall");
    block.push_back({line, std::move(statement)});
  }

  void parse_filter(Block& block, int line) {
    FilterBlock statement;
    Suffix first{Suffix::Kind::kFilter, line, reader_.expect_identifier(), {}, {}, {}};
    if (reader_.peek().is_operator("(")) {
      first.arguments = expressions_.parse_arguments();
    }
    statement.filters.push_back(std::move(first));
    for (Suffix& filter : expressions_.parse_filters()) {
      statement.filters.push_back(std::move(filter));
    }
    reader_.expect(Kind::kBlockEnd);
    statement.body = parse_simple_body("endfilter");
    block.push_back({line, std::move(statement)});
  }

  void parse_with(Block& block, int line) {
    With statement;
    while (reader_.peek().kind != Kind::kBlockEnd) {
      Target target{{reader_.expect_identifier()}, false, {}};
      reader_.expect_operator("=");
      statement.assignments.emplace_back(std::move(target), expressions_.parse());
      if (!reader_.skip_operator(",")) {
        break;
      }
    }
    reader_.expect(Kind::kBlockEnd);
    statement.body = parse_simple_body("endwith");
    block.push_back({line, std::move(statement)});
  }

  // Marks the assistant's text for training masks; here it is a scope and nothing more.
  void parse_generation(Block& block, int line) {
    reader_.expect(Kind::kBlockEnd);
    block.push_back({line, With{{}, parse_simple_body("endgeneration")}});
  }

  void parse_break(Block& block, int line) { parse_jump(block, line, Statement{line, Break{}}); }
  void parse_continue(Block& block, int line) {
    parse_jump(block, line, Statement{line, Continue{}});
  }
  void parse_jump(Block& block, int line, Statement statement) {
    if (loops_ == 0) {
      fail_at(line, "'break' or 'continue' outside a loop");
    }
    reader_.expect(Kind::kBlockEnd);
    block.push_back(std::move(statement));
  }

  TokenReader reader_;
  ExpressionParser expressions_;
  int64_t loops_ = 0;  // that a break could leave
};

}  // namespace

Block parse(std::string_view source, int64_t max_depth) {
  return StatementParser(source, max_depth).parse_template();
}

}  // namespace adze::text::chat_template
