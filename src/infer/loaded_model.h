#pragma once
// A model with all that text needs: weights, tokenizer, chat template.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/packed_matmul/packed_matmul.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace adze::model {
struct Model;
}

namespace adze::infer {

struct LoadedModel {
  std::shared_ptr<const model::Model> model;
  text::Tokenizer tokenizer;
  std::optional<text::ChatTemplate> chat_template;
};

struct LoadOptions {
  std::string compute = "int8";
  std::optional<std::string> lora = std::nullopt;

  // Throws InvalidOption.
  kernels::Arithmetic arithmetic() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit(
        "compute",
        self.compute,
        "products of quantised weights: int8 (fast, rounds activations as llama.cpp does) or f32");
    visit("lora", self.lora, "folder of a LoRA adapter for the model, as PEFT writes it");
  }
};

// A GGUF file or a Hugging Face folder, with an adapter over its weights where one is named;
// weights and tokenizer at once. Throws core::Error that
// names file, field and legal range.
LoadedModel load_model(const std::filesystem::path& path, const LoadOptions& options);

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// What templates read beside the messages: the texts of the begin and end tokens.
nlohmann::ordered_json template_values(const text::Tokenizer& tokenizer);

// The messages as the model was trained to see them, ending where the assistant's answer begins if
// `add_generation_prompt`. Throws core::Error: no template, or what the template itself refuses.
std::string render_chat(const LoadedModel& loaded,
                        const std::vector<ChatMessage>& messages,
                        bool add_generation_prompt);

// The token that every text begins with, where the model was trained with one.
std::optional<int32_t> begin_of_text(const text::Tokenizer& tokenizer);

// Puts the begin-of-text token first where the model was trained with one and the text (a template
// may write it itself) has none.
void add_begin_of_text(const text::Tokenizer& tokenizer, std::vector<int32_t>& tokens);

}  // namespace adze::infer
