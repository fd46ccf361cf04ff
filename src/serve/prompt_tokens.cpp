#include "serve/prompt_tokens.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "model/model.h"
#include "serve/tool_calls.h"

namespace adze::serve {
namespace {

// Longer tokens are runs of one character, and texts of nothing else are nobody's loss.
constexpr int64_t kLongestToken = 256;

template <class Function>
void each_text(const Json& value, const Function& function) {
  if (value.is_string()) {
    function(value.get_ref<const std::string&>());
  } else if (value.is_structured()) {
    for (const auto& [key, item] : value.items()) {
      if (value.is_object()) {
        function(key);
      }
      each_text(item, function);
    }
  }
}

// Texts of strangers in a template's values, marked so that none of them becomes a control token.
class Protection {
 public:
  Protection(const text::Tokenizer& tokenizer, std::string mark)
      : tokenizer_(tokenizer), mark_(std::move(mark)) {}

  Json protect(const Json& value) {
    // A mark that is part of a text would vanish from it.
    std::vector<std::string_view> texts;
    each_text(value, [&texts](const std::string& text) { texts.push_back(text); });
    if (std::any_of(texts.begin(), texts.end(), [this](std::string_view text) {
          return text.find(mark_) != std::string_view::npos;
        })) {
      mark_ = absent_mark(texts);
    }
    return marked(value);
  }
  const std::string& mark() const { return mark_; }

 private:
  Json marked(const Json& value) const {
    if (value.is_string()) {
      return tokenizer_.protect(value.get_ref<const std::string&>(), mark_);
    }
    if (!value.is_structured()) {
      return value;
    }
    Json result = value.is_array() ? Json::array() : Json::object();
    for (const auto& [key, item] : value.items()) {
      if (value.is_array()) {
        result.push_back(marked(item));
      } else {
        result.get_ref<Json::object_t&>().emplace_back(tokenizer_.protect(key, mark_),
                                                       marked(item));
      }
    }
    return result;
  }

  const text::Tokenizer& tokenizer_;
  std::string mark_;
};

void check_length(size_t bytes, int64_t most_tokens, std::string_view field) {
  if (most_tokens > 0 && static_cast<int64_t>(bytes) / kLongestToken > most_tokens) {
    throw bad_request(field,
                      fmt::format("[{}] expected at most {} tokens, the context, got {} bytes",
                                  field,
                                  most_tokens,
                                  bytes),
                      "context_length_exceeded");
  }
}

}  // namespace

RenderedChat render_request(const infer::LoadedModel& loaded,
                            const CompletionRequest& request,
                            const Json& all_messages,
                            std::string mark,
                            int64_t most_tokens) {
  if (!loaded.chat_template) {
    throw bad_request("messages",
                      fmt::format("[messages] expected a model with a chat template, got {}; use "
                                  "/v1/completions",
                                  loaded.model->spec.name));
  }
  size_t bytes = 0;
  each_text(all_messages, [&bytes](const std::string& text) { bytes += text.size(); });
  check_length(bytes, most_tokens, "messages");
  Json given = {{"messages", all_messages}, {"tools", Json::array()}};
  for (const Tool& tool : request.tools) {
    given["tools"].push_back(tool.definition);
  }
  Protection protection(loaded.tokenizer, std::move(mark));
  given = protection.protect(given);
  const auto render = [&](const Json& messages, bool with_tools) {
    Json values = infer::template_values(loaded.tokenizer);
    values["messages"] = messages;
    values["add_generation_prompt"] = true;
    if (with_tools) {
      values["tools"] = given["tools"];
    }
    try {
      return loaded.chat_template->render(values);
    } catch (const core::Error& error) {  // what the template refuses is the messages' fault
      throw bad_request("messages", error.what());
    }
  };
  std::string text;
  if (request.tool_choice.kind == ToolChoice::Kind::kNone) {
    text = render(given["messages"], false);
  } else {
    text = render(given["messages"], true);
    if (text == render(given["messages"], false)) {  // the template knows of no tools
      text = render(explain_tools(given["messages"], given["tools"]), false);
    }
  }
  return {std::move(text), protection.mark()};
}

namespace {

std::vector<int32_t> chat_tokens(const infer::LoadedModel& loaded,
                                 const CompletionRequest& request,
                                 int64_t most_tokens) {
  const RenderedChat chat =
      render_request(loaded, request, request.messages, std::string(kFirstMark), most_tokens);
  std::vector<int32_t> tokens = loaded.tokenizer.encode_protected(chat.text, chat.mark);
  infer::add_begin_of_text(loaded.tokenizer, tokens);
  return tokens;
}

std::vector<std::vector<int32_t>> completion_tokens(const infer::LoadedModel& loaded,
                                                    const CompletionRequest& request,
                                                    int64_t most_tokens) {
  const int64_t vocab_size = loaded.tokenizer.vocab_size();
  std::vector<std::vector<int32_t>> prompts;
  for (const Prompt& prompt : request.prompts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) {
      check_length(text->size(), most_tokens, "prompt");
      // The caller writes the whole text, control tokens included.
      prompts.push_back(loaded.tokenizer.encode(*text, text::SpecialTokens::kParse));
      infer::add_begin_of_text(loaded.tokenizer, prompts.back());
    } else {
      prompts.push_back(std::get<std::vector<int32_t>>(prompt));
    }
    if (prompts.back().empty()) {
      throw bad_request("prompt", "[prompt] expected at least one token, got none");
    }
    for (const int32_t token : prompts.back()) {
      if (token >= vocab_size) {
        throw bad_request(
            "prompt",
            fmt::format("[prompt] expected ids from 0 to {}, got {}", vocab_size - 1, token));
      }
    }
  }
  return prompts;
}

}  // namespace

std::vector<std::vector<int32_t>> prompt_tokens(const infer::LoadedModel& loaded,
                                                const CompletionRequest& request,
                                                int64_t most_tokens) {
  try {
    if (request.chat) {
      return {chat_tokens(loaded, request, most_tokens)};
    }
    return completion_tokens(loaded, request, most_tokens);
  } catch (const core::Error& error) {  // a text that the tokenizer does not come to an end with
    throw bad_request(request.chat ? "messages" : "prompt", error.what());
  }
}

}  // namespace adze::serve
