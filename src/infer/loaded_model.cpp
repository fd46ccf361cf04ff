#include "infer/loaded_model.h"

#include <future>
#include <utility>

#include "core/error.h"
#include "model/adapter.h"
#include "model/checkpoint.h"
#include "model/load_model.h"

namespace adze::infer {
namespace {

std::string token_text(const text::Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id ? tokenizer.token_bytes(*id) : "";
}

}  // namespace

kernels::Arithmetic LoadOptions::arithmetic() const {
  if (compute != "int8" && compute != "f32") {
    throw core::InvalidOption("compute", compute, "int8 or f32");
  }
  return compute == "f32" ? kernels::Arithmetic::kF32 : kernels::Arithmetic::kInt8;
}

LoadedModel load_model(const std::filesystem::path& path, const LoadOptions& options) {
  const kernels::Arithmetic arithmetic = options.arithmetic();
  const model::Checkpoint checkpoint = model::open_checkpoint(path);
  // The tokenizer's tables take about as long as packing a small model; they share nothing.
  auto tokenizer = std::async(std::launch::async,
                              [&] { return text::Tokenizer(model::read_tokenizer(checkpoint)); });
  auto weights = model::load_model(checkpoint, arithmetic);
  if (options.lora) {
    weights = model::load_adapter(std::move(weights), *options.lora);
  }
  std::optional<text::ChatTemplate> chat_template;
  if (auto source = model::read_chat_template(checkpoint)) {
    chat_template.emplace(std::move(*source));
  }
  LoadedModel loaded{std::move(weights), tokenizer.get(), std::move(chat_template)};
  if (loaded.tokenizer.vocab_size() > loaded.model->spec.vocab_size) {
    throw core::error("model",
                      "{}: expected at most {} tokens (rows of the embedding), got {}",
                      path.string(),
                      loaded.model->spec.vocab_size,
                      loaded.tokenizer.vocab_size());
  }
  return loaded;
}

nlohmann::ordered_json template_values(const text::Tokenizer& tokenizer) {
  const text::TokenizerSpec& spec = tokenizer.spec();
  return {{"bos_token", token_text(tokenizer, spec.begin_of_text)},
          {"eos_token", token_text(tokenizer, spec.end_of_text)}};
}

std::string render_chat(const LoadedModel& loaded,
                        const std::vector<ChatMessage>& messages,
                        bool add_generation_prompt) {
  if (!loaded.chat_template) {
    throw core::error("chat",
                      "expected a model with a chat template, got {}; use --raw",
                      loaded.model->spec.name);
  }
  auto list = nlohmann::ordered_json::array();
  for (const ChatMessage& message : messages) {
    list.push_back({{"role", message.role}, {"content", message.content}});
  }
  nlohmann::ordered_json values = template_values(loaded.tokenizer);
  values["messages"] = std::move(list);
  values["add_generation_prompt"] = add_generation_prompt;
  return loaded.chat_template->render(values);
}

std::optional<int32_t> begin_of_text(const text::Tokenizer& tokenizer) {
  const text::TokenizerSpec& spec = tokenizer.spec();
  return spec.add_begin_of_text ? spec.begin_of_text : std::nullopt;
}

void add_begin_of_text(const text::Tokenizer& tokenizer, std::vector<int32_t>& tokens) {
  const std::optional<int32_t> begin = begin_of_text(tokenizer);
  if (begin && (tokens.empty() || tokens.front() != *begin)) {
    tokens.insert(tokens.begin(), *begin);
  }
}

}  // namespace adze::infer
