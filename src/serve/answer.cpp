#include "serve/answer.h"

#include <algorithm>
#include <ctime>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "serve/completion_json.h"

namespace adze::serve {

std::string random_id(std::string_view prefix) {
  static thread_local std::mt19937_64 random(std::random_device{}());
  return fmt::format("{}{:016x}{:08x}", prefix, random(), static_cast<uint32_t>(random()));
}

Answer::Answer(const CompletionRequest& request,
               const text::Tokenizer& tokenizer,
               const std::vector<std::vector<int32_t>>& prompts,
               const std::vector<std::string>& warnings,
               Metrics& metrics)
    : request_(request),
      tokenizer_(tokenizer),
      prompts_(prompts),
      warnings_(warnings),
      metrics_(metrics),
      id_(random_id(request.chat ? "chatcmpl-" : "cmpl-")),
      created_(std::time(nullptr)),
      figures_(prompts.size()),
      open_(prompts.size() * static_cast<size_t>(request.samples)) {
  const bool only_call = request.tool_choice.kind == ToolChoice::Kind::kRequired;
  choices_.resize(open_, Choice(ToolCallReader(request.tools, only_call)));
}

std::vector<Json> Answer::take(AnswerEvent event) {
  std::vector<Json> chunks;
  switch (event.kind) {
    case AnswerEvent::Kind::kFailure:
      std::rethrow_exception(event.failure);
    case AnswerEvent::Kind::kPrompt:
      take_prompt(event, chunks);
      break;
    case AnswerEvent::Kind::kText:
    case AnswerEvent::Kind::kFinish:
      take_text(event, chunks);
      break;
  }
  return chunks;
}

Json Answer::message(const Choice& choice) const {
  const bool called = choice.calls.calls() > 0;
  Json message = {{"role", "assistant"},
                  {"content", called && choice.text.empty() ? Json() : Json(choice.text)},
                  {"refusal", nullptr}};
  if (called) {
    message["tool_calls"] = choice.tool_calls;
  }
  return message;
}

Json Answer::whole() const {
  Json choices = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    Json json = {{"index", i}};
    Json logprobs;
    if (request_.chat) {
      json["message"] = message(choice);
      if (request_.logprobs) {
        logprobs = chat_logprobs(tokenizer_, choice.tokens);
      }
    } else {
      json["text"] = choice.text;
      int64_t offset = 0;
      if (request_.logprobs) {
        logprobs = completion_logprobs(tokenizer_, choice.tokens, choice.echoed, offset);
      }
    }
    json["logprobs"] = std::move(logprobs);
    json["finish_reason"] = finish_name(choice.finish->reason, choice.calls.whole());
    choices.push_back(std::move(json));
  }
  Json json = head(request_.chat ? "chat.completion" : "text_completion");
  json["choices"] = std::move(choices);
  json["usage"] = usage();
  json["adze"] = last_figures_;
  return json;
}

Json Answer::usage_chunk() const {
  Json json = head(chunk_object());
  json["choices"] = Json::array();
  json["usage"] = usage();
  return json;
}

Json Answer::head(std::string_view object) const {
  return {{"id", id_},
          {"object", object},
          {"created", created_},
          {"model", request_.model},
          {"system_fingerprint", "adze"}};
}

Json Answer::usage() const {
  int64_t prompt = 0;
  int64_t cached = 0;
  int64_t generated = 0;
  for (size_t i = 0; i < prompts_.size(); ++i) {
    prompt += static_cast<int64_t>(prompts_[i].size());
    cached += figures_[i].cached;
  }
  for (const Choice& choice : choices_) {
    generated += choice.generated;
  }
  return {{"prompt_tokens", prompt},
          {"completion_tokens", generated},
          {"total_tokens", prompt + generated},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

// delta: of a chat; text and logprobs: of either.
Json Answer::chunk(
    size_t index, Json delta, const std::string& text, Json logprobs, Json reason) const {
  Json json = head(chunk_object());
  Json choice = {{"index", index}};
  if (request_.chat) {
    choice["delta"] = std::move(delta);
  } else {
    choice["text"] = text;
  }
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = std::move(reason);
  json["choices"] = Json::array({std::move(choice)});
  if (request_.include_usage) {
    json["usage"] = nullptr;
  }
  return json;
}

void Answer::take_prompt(const AnswerEvent& event, std::vector<Json>& chunks) {
  const infer::PromptReport& report = event.prompt_report;
  const auto& tokens = prompts_[static_cast<size_t>(event.prompt)];
  const auto length = static_cast<int64_t>(tokens.size());
  figures_[static_cast<size_t>(event.prompt)] = {.tokens = length, .cached = report.cached_tokens};
  metrics_.observe_prompt(length, report.cached_tokens);
  metrics_.observe_first_token(report.queue_seconds + report.prefill_seconds);
  std::string text;
  std::vector<infer::SampledToken> echoed;
  bool begin_added = false;
  if (request_.echo) {
    const Prompt& prompt = request_.prompts[static_cast<size_t>(event.prompt)];
    if (const auto* given = std::get_if<std::string>(&prompt)) {
      text = *given;
      begin_added = tokens.front() == tokenizer_.spec().begin_of_text &&
                    !text.starts_with(tokenizer_.token_bytes(tokens.front()));
    } else {
      text = tokenizer_.decode(tokens, /*with_control_tokens=*/true);
    }
    if (request_.logprobs) {
      echoed.push_back({.token = tokens.front(), .logprob = std::nullopt, .top_logprobs = {}});
      echoed.insert(echoed.end(), report.logprobs.begin(), report.logprobs.end());
    }
  }
  for (int64_t sample = 0; sample < request_.samples; ++sample) {
    const auto index = static_cast<size_t>(event.prompt * request_.samples + sample);
    if (request_.chat && request_.stream) {
      chunks.push_back(
          chunk(index, {{"role", "assistant"}, {"content", ""}}, "", nullptr, nullptr));
    }
    if (request_.echo) {
      choices_[index].echoed = {.count = echoed.size(), .begin_added = begin_added};
      say(index, text, echoed, chunks);
    }
  }
}

// Adds text and its tokens to a choice.
void Answer::say(size_t index,
                 const std::string& text,
                 const std::vector<infer::SampledToken>& tokens,
                 std::vector<Json>& chunks) {
  Choice& choice = choices_[index];
  if (!request_.stream) {
    choice.text += text;
    choice.tokens.insert(choice.tokens.end(), tokens.begin(), tokens.end());
    return;
  }
  Json logprobs;
  if (request_.logprobs) {
    logprobs = request_.chat
                   ? chat_logprobs(tokenizer_, tokens)
                   : completion_logprobs(
                         tokenizer_, tokens, std::exchange(choice.echoed, {}), choice.text_offset);
  }
  chunks.push_back(chunk(index, {{"content", text}}, text, std::move(logprobs), nullptr));
}

// Returns what is new.
Json Answer::add_to_call(Choice& choice, const AnswerPart& part) const {
  if (part.kind == AnswerPart::Kind::kCall) {
    choice.tool_calls.push_back({{"id", random_id("call_")},
                                 {"type", "function"},
                                 {"function", {{"name", part.name}, {"arguments", ""}}}});
    Json delta = {{"index", part.call}};
    delta.update(choice.tool_calls.back());
    return delta;
  }
  auto& arguments = choice.tool_calls[static_cast<size_t>(part.call)]["function"]["arguments"];
  arguments.get_ref<std::string&>() += part.text;
  return {{"index", part.call}, {"function", {{"arguments", part.text}}}};
}

void Answer::take_parts(size_t index,
                        const std::vector<AnswerPart>& parts,
                        const std::vector<infer::SampledToken>& tokens,
                        std::vector<Json>& chunks) {
  bool said = false;
  for (const AnswerPart& part : parts) {
    if (part.kind == AnswerPart::Kind::kText) {
      say(index, part.text, said ? std::vector<infer::SampledToken>() : tokens, chunks);
      said = true;
      continue;
    }
    Json delta = add_to_call(choices_[index], part);
    if (request_.stream) {
      chunks.push_back(
          chunk(index, {{"tool_calls", Json::array({std::move(delta)})}}, "", nullptr, nullptr));
    }
  }
  if (!said && !tokens.empty()) {
    say(index, "", tokens, chunks);
  }
}

void Answer::take_text(const AnswerEvent& event, std::vector<Json>& chunks) {
  const auto index = static_cast<size_t>(event.prompt * request_.samples + event.sample);
  Choice& choice = choices_[index];
  if (!request_.session.empty()) {
    choice.said += event.text;
  }
  std::vector<AnswerPart> parts;
  if (request_.tool_choice.kind != ToolChoice::Kind::kNone) {
    parts = choice.calls.push(event.text);
    if (event.finish) {
      const auto rest = choice.calls.finish();
      parts.insert(parts.end(), rest.begin(), rest.end());
    }
  } else if (!event.text.empty()) {
    parts.push_back({AnswerPart::Kind::kText, 0, event.text, ""});
  }
  take_parts(index, parts, event.tokens, chunks);
  if (event.finish) {
    choice.finish = event.finish;
    choice.generated = event.generated;
    --open_;
    metrics_.observe_answer(event.generated);
    if (event.generated > 1) {
      metrics_.observe_token(event.timings.decode_seconds /
                             static_cast<double>(event.generated - 1));
    }
    last_figures_ = figures(event);
  }
  if (!request_.stream) {
    return;
  }
  if (event.finish) {
    const std::string reason = finish_name(choice.finish->reason, choice.calls.whole());
    chunks.push_back(chunk(index, Json::object(), "", nullptr, reason));
    chunks.back()["adze"] = last_figures_;
  } else if (event.cache) {
    if (chunks.empty()) {
      chunks.push_back(chunk(index, {{"content", ""}}, "", nullptr, nullptr));
    }
    chunks.back()["adze"] = {{"cache", cache_json(*event.cache, request_.cache_picture)},
                             {"timings", timings(event)}};
  }
}

Json Answer::timings(const AnswerEvent& event) const {
  const auto rate = [](int64_t count, double seconds) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0;
  };
  const PromptFigures& prompt = figures_[static_cast<size_t>(event.prompt)];
  const infer::SampleTimings& timings = event.timings;
  return {
      {"queue_seconds", timings.queue_seconds},
      {"prefill_seconds", timings.prefill_seconds},
      {"prefill_tokens_per_second", rate(prompt.tokens - prompt.cached, timings.prefill_seconds)},
      {"decode_seconds", timings.decode_seconds},
      {"decode_tokens_per_second",
       rate(std::max<int64_t>(event.generated - 1, 0), timings.decode_seconds)}};
}

Json Answer::figures(const AnswerEvent& event) const {
  return {{"seed", request_.sampling.seed},
          {"cache", cache_json(*event.cache, request_.cache_picture)},
          {"timings", timings(event)},
          {"warnings", warnings_}};
}

}  // namespace adze::serve
