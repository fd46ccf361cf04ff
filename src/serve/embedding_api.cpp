#include "serve/embedding_api.h"

#include <functional>
#include <span>
#include <utility>

#include <boost/beast/core/detail/base64.hpp>
#include <fmt/format.h>

#include "model/model.h"
#include "serve/completion_json.h"
#include "serve/embedding_work.h"

namespace adze::serve {
namespace {

using boost::asio::awaitable;
using Tokens = std::vector<std::vector<int32_t>>;

constexpr size_t kMostTexts = 2048;  // as OpenAI takes

std::string base64(std::span<const std::byte> bytes) {
  std::string text(boost::beast::detail::base64::encoded_size(bytes.size()), '\0');
  text.resize(boost::beast::detail::base64::encode(text.data(), bytes.data(), bytes.size()));
  return text;
}

Tokens tokens_of(const EmbeddingRequest& request, const ServedModel& model) {
  const infer::LoadedModel& loaded = model.loaded();
  const int64_t vocab_size = loaded.model->spec.vocab_size;
  const int64_t longest = longest_embedded_text(model);
  Tokens texts;
  for (const Prompt& prompt : request.texts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) {
      texts.push_back(infer::embedding_tokens(loaded.tokenizer, *text));
    } else {
      texts.push_back(std::get<std::vector<int32_t>>(prompt));
    }
    const auto length = static_cast<int64_t>(texts.back().size());
    for (const int32_t token : texts.back()) {
      if (token >= vocab_size) {
        throw bad_request(
            "input",
            fmt::format("[input] expected ids from 0 to {}, got {}", vocab_size - 1, token));
      }
    }
    if (length == 0 || length > longest) {
      throw bad_request(
          "input",
          fmt::format("[input] expected 1 to {} tokens a text, got {}", longest, length),
          "context_length_exceeded");
    }
  }
  return texts;
}

Json answer_json(const EmbeddingRequest& request,
                 const std::vector<infer::Embedding>& embeddings,
                 size_t tokens) {
  Json data = Json::array();
  for (size_t i = 0; i < embeddings.size(); ++i) {
    Json vector = request.base64 ? Json(base64(std::as_bytes(std::span(embeddings[i]))))
                                 : Json(embeddings[i]);
    data.push_back({{"object", "embedding"}, {"index", i}, {"embedding", std::move(vector)}});
  }
  return {{"object", "list"},
          {"data", std::move(data)},
          {"model", request.model},
          {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}};
}

// Until the work is done or its client has gone.
awaitable<void> finish(const EmbeddingContext& context,
                       Exchange& exchange,
                       std::shared_ptr<EmbeddingWork> work) {
  int64_t& waiting = context.waiting;
  if (waiting >= context.most_waiting) {
    throw infer::QueueFull(
        fmt::format("[queue] expected fewer than {} requests to wait, got {}; try again later",
                    context.most_waiting,
                    waiting));
  }
  ++waiting;
  auto signal = std::make_shared<Signal>(context.io);
  const auto done = std::make_shared<bool>(false);
  exchange.watch_peer(signal);
  context.workers.post([&io = context.io, &waiting, work, signal, done]() mutable {
    work->run();
    // What belongs to the server's thread ends there.
    boost::asio::post(io, [&waiting, signal = std::move(signal), done = std::move(done)] {
      --waiting;
      *done = true;
      signal->notify();
    });
  });
  while (!*done && !exchange.peer_gone()) {
    co_await signal->wait();
  }
  work->cancel();
}

}  // namespace

EmbeddingRequest read_embedding_request(const Json& body) {
  RequestFields fields(body);
  EmbeddingRequest request;
  request.model = fields.text("model").value_or("");
  request.base64 = fields.choice("encoding_format", {"float", "base64"}, "float") == "base64";
  request.dimensions = fields.integer("dimensions", 1, 1 << 20);
  request.timeout_seconds = fields.number("timeout_seconds", 0.001, 86400);
  fields.text("user");
  const Json* input = fields.any("input");
  if (input == nullptr) {
    throw bad_request("input", "[input] expected a string, token ids, or a list, got none");
  }
  request.texts = read_prompts(*input, "input", kMostTexts);
  fields.finish();
  return request;
}

awaitable<void> answer_embedding(const EmbeddingContext& context,
                                 Exchange& exchange,
                                 const EmbeddingRequest& request,
                                 NamedModel named) {
  const auto deadline = answer_deadline(request.timeout_seconds, context.limits, context.since);
  const int64_t size = named.model->loaded().model->spec.hidden_size;
  if (request.dimensions.value_or(size) != size) {
    throw bad_request(
        "dimensions",
        fmt::format("[dimensions] expected {}, the model's, got {}", size, *request.dimensions),
        "unsupported");
  }
  const std::function<Tokens()> tokenise = [&] { return tokens_of(request, *named.model); };
  Tokens texts = co_await context.preparers.run(tokenise);
  size_t tokens = 0;
  for (const auto& text : texts) {
    tokens += text.size();
  }
  const auto work = std::make_shared<EmbeddingWork>(named, std::move(texts), deadline);
  co_await finish(context, exchange, work);
  if (exchange.peer_gone()) {
    throw PeerGone();
  }
  const std::function<std::string()> write = [&] {
    return dump(answer_json(request, work->embeddings(), tokens));
  };
  HttpResponse response;
  response.body = co_await context.preparers.run(write);
  co_await exchange.respond(std::move(response));
}

}  // namespace adze::serve
