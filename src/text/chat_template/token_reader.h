#pragma once
// What the parsers of statements and of expressions share: the place in the tokens and the nesting.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/chat_template/lexer.h"

namespace adze::text::chat_template {

class TokenReader {
 public:
  TokenReader(std::vector<Token> tokens, int64_t max_depth)
      : tokens_(std::move(tokens)), max_depth_(max_depth) {}

  const Token& peek(size_t ahead = 0) const;  // the end token beyond the end
  Token next();
  int line() const { return peek().line; }

  bool skip_operator(std::string_view symbol);
  bool skip_name(std::string_view name);
  void expect_operator(std::string_view symbol);
  void expect_name(std::string_view name);
  void expect(Token::Kind kind);
  std::string expect_identifier();

  [[noreturn]] void fail_unexpected(std::string_view expected) const;

  // One level of nesting for as long as it lives.
  class Level {
   public:
    explicit Level(TokenReader& reader);
    ~Level() { --reader_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    TokenReader& reader_;
  };

 private:
  std::vector<Token> tokens_;
  size_t position_ = 0;
  int64_t depth_ = 0;
  int64_t max_depth_;
};

}  // namespace adze::text::chat_template
