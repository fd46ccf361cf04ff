#include "serve/session_turn.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "model/model.h"
#include "serve/prompt_tokens.h"
#include "text/replaced.h"

namespace adze::serve {
namespace {

size_t text_bytes(const Json& messages) {
  size_t bytes = 0;
  for (const Json& message : messages) {
    const auto content = message.find("content");
    if (content != message.end() && content->is_string()) {
      bytes += content->get_ref<const std::string&>().size();
    }
  }
  return bytes;
}

// The system's message and the newer half of the others, from a user's message on and an even
// number less (templates tell turns apart by that).
Json newer_half(const Json& messages) {
  const auto is = [&](size_t i, std::string_view role) {
    return messages[i].value("role", "") == role;
  };
  const size_t head = is(0, "system") ? 1 : 0;
  size_t first = head + (messages.size() - head) / 4 * 2;
  while (first < messages.size() && !is(first, "user")) {
    first += 2;
  }
  Json result = Json::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i < head || i >= first) {
      result.push_back(messages[i]);
    }
  }
  return first < messages.size() ? result : messages;
}

// Forgets the older half of the messages. chat: all of them as the template writes them, of which
// `added` bytes at the end are this turn's.
void forget(const infer::LoadedModel& loaded,
            const CompletionRequest& request,
            RenderedChat& chat,
            size_t added,
            SessionState& state) {
  const Json newer = newer_half(state.messages);
  const RenderedChat shorter = render_request(loaded, request, newer, chat.mark, 0);
  const auto& [text, mark] = shorter;
  const auto front = std::mismatch(text.begin(), text.end(), chat.text.begin(), chat.text.end());
  const auto back = std::mismatch(text.rbegin(), text.rend(), chat.text.rbegin(), chat.text.rend());
  const auto same_front = static_cast<size_t>(front.first - text.begin());
  const auto same_back = static_cast<size_t>(back.first - text.rbegin());
  // A beginning and an end of the longer text, and nothing else.
  if (mark == chat.mark && same_back > added && same_front + same_back >= text.size()) {
    state.messages = newer;
    chat.text = text;
    state.text = text.substr(0, text.size() - added);
  }
}

}  // namespace

SessionBinding session_binding(const std::string& name,
                               const NamedModel& named,
                               const infer::CacheChoice& choice) {
  const infer::CacheChoice spelt = named.model->engine().spelt_out(choice);
  const model::Model& model = named.model->weights(named.adapter);
  return {.model = name,
          .weights = fmt::format("{}, {} bytes", model.spec.name, model.weight_bytes()),
          .store = spelt.store,
          .policy = spelt.policy};
}

SessionTurn next_turn(const infer::LoadedModel& loaded,
                      const CompletionRequest& request,
                      const SessionState& state,
                      int64_t most_tokens) {
  SessionTurn turn{.state = state, .tokens = {}, .anew = false};
  SessionState& next = turn.state;
  next.messages.insert(next.messages.end(), request.messages.begin(), request.messages.end());
  const std::string mark = next.mark.empty() ? std::string(kFirstMark) : next.mark;
  RenderedChat chat = render_request(loaded, request, next.messages, mark, most_tokens);
  if (chat.mark != mark) {
    next.text = text::replaced(next.text, mark, chat.mark);
  }
  next.mark = chat.mark;
  if (!next.cache || !chat.text.starts_with(next.text)) {
    turn.anew = state.tokens() > 0 || !state.messages.empty();
    next.text.clear();
    next.cache = nullptr;
  } else if (text_bytes(next.messages) > kMostSessionText) {
    forget(loaded, request, chat, chat.text.size() - next.text.size(), next);
  }
  try {
    if (next.cache) {
      turn.tokens = next.cache->pending;
    }
    const auto added = loaded.tokenizer.encode_protected(
        std::string_view(chat.text).substr(next.text.size()), next.mark);
    turn.tokens.insert(turn.tokens.end(), added.begin(), added.end());
  } catch (const core::Error& error) {  // a text that the tokenizer does not come to an end with
    throw bad_request("messages", error.what());
  }
  if (!next.cache) {
    infer::add_begin_of_text(loaded.tokenizer, turn.tokens);
  }
  next.text = std::move(chat.text);
  return turn;
}

void end_turn(SessionState& state,
              const text::Tokenizer& tokenizer,
              const std::string& text,
              std::shared_ptr<const infer::KeptText> kept) {
  state.messages.push_back({{"role", "assistant"}, {"content", text}});
  state.text += tokenizer.protect(text, state.mark);
  state.cache = std::move(kept);
}

}  // namespace adze::serve
