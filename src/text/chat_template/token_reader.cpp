#include "text/chat_template/token_reader.h"

#include <algorithm>

#include "text/chat_template/runtime.h"

namespace adze::text::chat_template {

namespace {

std::string describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kData:
      return "text outside tags";
    case Token::Kind::kBlockBegin:
      return "'{%'";
    case Token::Kind::kBlockEnd:
      return "'%}'";
    case Token::Kind::kVariableBegin:
      return "'{{'";
    case Token::Kind::kVariableEnd:
      return "'}}'";
    case Token::Kind::kString:
      return fmt::format("a string \"{:.40}\"", token.text);
    case Token::Kind::kEnd:
      return "the end of the template";
    default:
      return fmt::format("'{:.40}'", token.text);
  }
}

}  // namespace

TokenReader::Level::Level(TokenReader& reader) : reader_(reader) {
  if (reader.depth_ >= reader.max_depth_) {
    fail_at(reader.line(), "the template is nested deeper than {} levels", reader.max_depth_);
  }
  ++reader.depth_;
}

const Token& TokenReader::peek(size_t ahead) const {
  return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
}

Token TokenReader::next() {
  Token token = peek();
  position_ = std::min(position_ + 1, tokens_.size() - 1);
  return token;
}

bool TokenReader::skip_operator(std::string_view symbol) {
  const bool found = peek().is_operator(symbol);
  if (found) {
    next();
  }
  return found;
}

bool TokenReader::skip_name(std::string_view name) {
  const bool found = peek().is_name(name);
  if (found) {
    next();
  }
  return found;
}

void TokenReader::expect_operator(std::string_view symbol) {
  if (!skip_operator(symbol)) {
    fail_unexpected(fmt::format("'{}'", symbol));
  }
}

void TokenReader::expect_name(std::string_view name) {
  if (!skip_name(name)) {
    fail_unexpected(fmt::format("'{}'", name));
  }
}

void TokenReader::expect(Token::Kind kind) {
  if (peek().kind != kind) {
    fail_unexpected(describe({kind, 0, ""}));
  }
  next();
}

std::string TokenReader::expect_identifier() {
  if (peek().kind != Token::Kind::kName) {
    fail_unexpected("a name");
  }
  return next().text;
}

void TokenReader::fail_unexpected(std::string_view expected) const {
  fail_at(line(), "expected {}, got {}", expected, describe(peek()));
}

}  // namespace adze::text::chat_template
