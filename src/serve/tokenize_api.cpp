#include "serve/tokenize_api.h"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "model/model.h"
#include "serve/api_error.h"
#include "serve/completion_json.h"
#include "serve/request_fields.h"

namespace adze::serve {
namespace {

constexpr size_t kMostPieces = 65'536;  // each an object: hundreds of bytes while they are made

}  // namespace

TokenizeRequest read_tokenize_request(const Json& body) {
  RequestFields fields(body);
  TokenizeRequest request;
  request.model = fields.text("model").value_or("");
  std::optional<std::string> content = fields.text("content");
  std::optional<std::string> prompt = fields.text("prompt");
  request.add_special = fields.boolean("add_special").value_or(false);
  request.with_pieces = fields.boolean("with_pieces").value_or(false);
  fields.finish();
  if (content.has_value() == prompt.has_value()) {
    throw bad_request("content", "[content] expected content or prompt, one of them");
  }
  request.text = content ? std::move(*content) : std::move(*prompt);
  return request;
}

DetokenizeRequest read_detokenize_request(const Json& body) {
  RequestFields fields(body);
  DetokenizeRequest request;
  request.model = fields.text("model").value_or("");
  const Json* list = fields.any("tokens");
  fields.finish();
  if (list == nullptr || !list->is_array()) {
    throw bad_request("tokens", "[tokens] expected a list of ids");
  }
  for (const Json& id : *list) {
    request.tokens.push_back(id.is_number_integer() ? id.get<int64_t>() : -1);
  }
  return request;
}

Json tokenized(const TokenizeRequest& request, const infer::LoadedModel& loaded) {
  const text::Tokenizer& tokenizer = loaded.tokenizer;
  std::vector<int32_t> tokens = tokenizer.encode(request.text, text::SpecialTokens::kParse);
  if (request.add_special) {
    infer::add_begin_of_text(tokenizer, tokens);
  }
  Json list(tokens);
  if (request.with_pieces) {
    if (tokens.size() > kMostPieces) {
      throw bad_request("with_pieces",
                        fmt::format("[with_pieces] expected at most {} tokens, got {}; ask without "
                                    "it, or for less text at once",
                                    kMostPieces,
                                    tokens.size()));
    }
    for (Json& token : list) {
      token = {{"id", token}, {"piece", token_name(tokenizer, token.get<int32_t>())}};
    }
  }
  return {{"tokens", std::move(list)},
          {"count", tokens.size()},
          {"max_model_len", loaded.model->spec.context_length}};
}

Json detokenized(const DetokenizeRequest& request, const infer::LoadedModel& loaded) {
  const text::Tokenizer& tokenizer = loaded.tokenizer;
  std::vector<int32_t> tokens;
  for (const int64_t id : request.tokens) {
    if (id < 0 || id >= tokenizer.vocab_size()) {
      throw bad_request(
          "tokens", fmt::format("[tokens] expected ids from 0 to {}", tokenizer.vocab_size() - 1));
    }
    tokens.push_back(static_cast<int32_t>(id));
  }
  const std::string text = tokenizer.decode(tokens);
  return {{"content", text}, {"prompt", text}};
}

}  // namespace adze::serve
