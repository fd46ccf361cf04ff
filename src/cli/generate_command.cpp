// adze generate: one prompt, one answer.

#include "cli/generation_options.h"
#include "cli/model_argument.h"
#include "cli/model_commands.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "data/model_store.h"
#include "infer/conversation.h"

namespace adze::cli {
namespace {

struct GenerateOptions {
  ModelOptions model;
  infer::LoadOptions loading;
  std::optional<std::string> prompt;
  std::optional<std::string> file;
  std::optional<std::string> system;
  bool raw = false;
  std::vector<std::string> stop;
  GenerationOptions generation;
  core::CommonOptions common;

  void validate() const {
    if (prompt.has_value() == file.has_value()) {
      throw core::UsageError(fmt::format("[generate] expected --prompt or --file, got {}",
                                         prompt ? "both" : "neither"));
    }
    if (raw && system) {
      throw core::UsageError("[generate] --system belongs to a chat template, got --raw");
    }
    generation.validate();
  }

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("", self.loading, "");
    visit("prompt", self.prompt, "the user's text");
    visit("file", self.file, "read the prompt from this file, - for stdin");
    visit("system", self.system, "system message; without it the template's own");
    visit("raw", self.raw, "continue the prompt as it is, without the chat template");
    visit("stop", self.stop, "end before the first of these texts");
    visit("", self.generation, "");
    visit("", self.common, "");
  }
};

std::vector<int32_t> prompt_tokens(const GenerateOptions& options,
                                   const infer::LoadedModel& loaded) {
  const std::string text = options.prompt ? *options.prompt : read_input(*options.file);
  if (text.empty()) {
    throw core::error("prompt", "expected at least one character, got none");
  }
  std::string rendered = text;
  if (!options.raw) {
    std::vector<infer::ChatMessage> messages;
    if (options.system) {
      messages.push_back({"system", *options.system});
    }
    messages.push_back({"user", text});
    rendered = infer::render_chat(loaded, messages, true);
  }
  auto tokens = loaded.tokenizer.encode(rendered, text::SpecialTokens::kParse);
  infer::add_begin_of_text(loaded.tokenizer, tokens);
  return tokens;
}

nlohmann::ordered_json logprobs_json(const infer::TextAnswer& answer,
                                     const text::Tokenizer& tokenizer) {
  auto list = nlohmann::ordered_json::array();
  for (const infer::SampledToken& sampled : answer.result.tokens) {
    auto top = nlohmann::ordered_json::array();
    for (const infer::TokenLogprob& other : sampled.top_logprobs) {
      top.push_back({{"id", other.token},
                     {"token", tokenizer.token_bytes(other.token)},
                     {"logprob", other.logprob}});
    }
    list.push_back({{"id", sampled.token},
                    {"token", tokenizer.token_bytes(sampled.token)},
                    {"logprob", *sampled.logprob},
                    {"top_logprobs", std::move(top)}});
  }
  return list;
}

nlohmann::ordered_json answer_json(const infer::TextAnswer& answer,
                                   const text::Tokenizer& tokenizer,
                                   const kv::Sequence& sequence) {
  const infer::GenerationResult& result = answer.result;
  nlohmann::ordered_json object = {
      {"text", answer.text},
      {"prompt_tokens", result.prompt_tokens},
      {"tokens", result.tokens.size()},
      {"finish_reason", finish_text(result.finish)},
      {"prefill_tokens_per_second", result.prefill_tokens_per_second()},
      {"decode_tokens_per_second", result.decode_tokens_per_second()},
      {"decode_steps", result.decode_steps},
      {"first_token_seconds", result.prefill_seconds},
      {"cache_bytes", sequence.bytes()},
      {"cached_tokens", sequence.cached_tokens(0)}};
  if (!result.tokens.empty() && result.tokens.front().logprob) {
    object["logprobs"] = logprobs_json(answer, tokenizer);
  }
  return object;
}

int generate(const std::vector<std::string>& arguments) {
  GenerateOptions options;
  const core::CommandLine line{.name = "generate",
                               .summary = "Answer one prompt.",
                               .options = core::list_options(options),
                               .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  options.validate();
  const infer::LoadedModel loaded =
      infer::load_model(data::ModelStore().resolve(options.model.model), options.loading);
  infer::Generator generator(loaded.model, options.generation.cache);
  const auto tokens = prompt_tokens(options, loaded);
  kv::Sequence sequence = generator.new_sequence();
  PromptProgress progress(options.generation.cache.prefill_chunk);
  const infer::TextAnswer answer = infer::answer(
      generator,
      loaded.tokenizer,
      sequence,
      tokens,
      {.generation = options.generation.request(), .stop = options.stop},
      [&](std::string_view text) {
        if (!options.common.json) {
          write_output(text);
        }
        return true;
      },
      [&](int64_t done, int64_t all) { progress.update(done, all); });
  if (options.common.json) {
    write_json_line(answer_json(answer, loaded.tokenizer, sequence));
  } else {
    write_output("\n");
    write_notice(speed_text(answer.result));
  }
  return 0;
}

}  // namespace

core::Command generate_command() {
  return {.name = "generate", .summary = "Answer one prompt", .run = generate};
}

}  // namespace adze::cli
