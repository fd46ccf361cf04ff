// adze template: a conversation as a model is shown it.

#include "cli/model_argument.h"
#include "cli/terminal.h"
#include "cli/token_commands.h"
#include "core/error.h"
#include "core/json.h"
#include "data/model_store.h"
#include "infer/loaded_model.h"
#include "model/checkpoint.h"

namespace adze::cli {
namespace {

struct TemplateOptions {
  ModelOptions model;
  std::optional<std::string> messages;
  std::optional<std::string> tools;
  std::optional<std::string> chat_template;
  bool add_generation_prompt = false;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("messages", self.messages, "JSON list of {role, content}, - for stdin");
    visit("tools", self.tools, "JSON list of tools that the model may call");
    visit("template", self.chat_template, "a Jinja file to use instead of the model's template");
    visit("add-generation-prompt",
          self.add_generation_prompt,
          "end where the assistant's answer begins");
    visit("", self.common, "");
  }
};

// Order matters: a template may print an object.
nlohmann::ordered_json read_list(const std::string& path, const char* what) {
  const std::string text = read_input(path);
  core::parse_json(text, path);  // bounds and errors
  auto list = nlohmann::ordered_json::parse(text);
  if (!list.is_array()) {
    throw core::error(
        "template", "{}: expected a list of {}, got {}", path, what, list.type_name());
  }
  return list;
}

int render(const std::vector<std::string>& arguments) {
  TemplateOptions options;
  const core::CommandLine line{
      .name = "template",
      .summary = "Render messages with a model's chat template, and print nothing else.",
      .options = core::list_options(options),
      .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  if (!options.messages) {
    throw core::UsageError("[template] expected --messages, got none");
  }
  const auto path = data::ModelStore().resolve(options.model.model);
  const text::Tokenizer tokenizer(model::read_tokenizer(path));
  const auto source =
      options.chat_template ? read_input(*options.chat_template) : model::read_chat_template(path);
  if (!source) {
    throw core::error("template",
                      "expected a model with a chat template, got {}; --template names a file",
                      options.model.model);
  }
  const text::ChatTemplate chat_template(*source);
  nlohmann::ordered_json values = infer::template_values(tokenizer);
  values["messages"] = read_list(*options.messages, "messages");
  values["add_generation_prompt"] = options.add_generation_prompt;
  if (options.tools) {
    values["tools"] = read_list(*options.tools, "tools");
  }
  const std::string text = chat_template.render(values);
  if (options.common.json) {
    write_json_line({{"text", text}});
  } else {
    write_output(text);
  }
  return 0;
}

}  // namespace

core::Command template_command() {
  return {"template", "Render messages with a chat template", render};
}

}  // namespace adze::cli
