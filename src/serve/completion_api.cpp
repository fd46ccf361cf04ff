#include "serve/completion_api.h"

#include <chrono>
#include <ctime>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "model/model.h"
#include "serve/answer_stream.h"
#include "serve/completion_json.h"
#include "serve/constraints.h"
#include "serve/tool_calls.h"

namespace adze::serve {
namespace {

using boost::asio::awaitable;

std::string random_id(std::string_view prefix) {
  static thread_local std::mt19937_64 random(std::random_device{}());
  return fmt::format("{}{:016x}{:08x}", prefix, random(), static_cast<uint32_t>(random()));
}

// What one choice has said so far.
struct Choice {
  explicit Choice(bool only_call) : calls(only_call) {}

  std::string text;
  std::vector<infer::SampledToken> tokens;
  ToolCallReader calls;
  Json tool_calls = Json::array();
  int64_t generated = 0;
  std::optional<infer::FinishReport> finish;
  int64_t text_offset = 0;  // characters, of log-probabilities
  bool begun = false;       // its first chunk has been sent
};

// Cancels what is still running when a client goes or an answer fails.
class Jobs {
 public:
  explicit Jobs(infer::Scheduler& scheduler) : scheduler_(scheduler) {}
  ~Jobs() {
    for (const auto& job : jobs_) {
      scheduler_.cancel(job);
    }
  }
  void add(infer::Scheduler::JobPtr job) { jobs_.push_back(std::move(job)); }
  void release() { jobs_.clear(); }

 private:
  infer::Scheduler& scheduler_;
  std::vector<infer::Scheduler::JobPtr> jobs_;
};

std::vector<int32_t> chat_tokens(const infer::LoadedModel& loaded,
                                 const CompletionRequest& request) {
  if (!loaded.chat_template) {
    throw bad_request("messages",
                      fmt::format("[messages] expected a model with a chat template, got {}; use "
                                  "/v1/completions",
                                  loaded.model->spec.name));
  }
  const auto render = [&](const Json& messages, bool with_tools) {
    Json values = infer::template_values(loaded.tokenizer);
    values["messages"] = messages;
    values["add_generation_prompt"] = true;
    if (with_tools) {
      Json tools = Json::array();
      for (const Tool& tool : request.tools) {
        tools.push_back(tool.definition);
      }
      values["tools"] = std::move(tools);
    }
    try {
      return loaded.chat_template->render(values);
    } catch (const core::Error& error) {  // what the template refuses is the messages' fault
      throw bad_request("messages", error.what());
    }
  };
  std::string text;
  if (request.tool_choice.kind == ToolChoice::Kind::kNone) {
    text = render(request.messages, false);
  } else {
    text = render(request.messages, true);
    if (text == render(request.messages, false)) {  // the template knows of no tools
      text = render(explain_tools(request.messages, request.tools), false);
    }
  }
  std::vector<int32_t> tokens = loaded.tokenizer.encode(text, text::SpecialTokens::kParse);
  infer::add_begin_of_text(loaded.tokenizer, tokens);
  return tokens;
}

std::vector<std::vector<int32_t>> prompt_tokens(const infer::LoadedModel& loaded,
                                                const CompletionRequest& request) {
  if (request.chat) {
    return {chat_tokens(loaded, request)};
  }
  std::vector<std::vector<int32_t>> prompts;
  for (const Prompt& prompt : request.prompts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) {
      prompts.push_back(loaded.tokenizer.encode(*text, text::SpecialTokens::kParse));
      infer::add_begin_of_text(loaded.tokenizer, prompts.back());
    } else {
      prompts.push_back(std::get<std::vector<int32_t>>(prompt));
    }
    if (prompts.back().empty()) {
      throw bad_request("prompt", "[prompt] expected at least one token, got none");
    }
  }
  return prompts;
}

// One request's way from events to JSON.
class Answer {
 public:
  Answer(const CompletionContext& context,
         const CompletionRequest& request,
         const NamedModel& named,
         std::string model_name)
      : context_(context),
        request_(request),
        model_(*named.model),
        model_name_(std::move(model_name)),
        id_(random_id(request.chat ? "chatcmpl-" : "cmpl-")),
        created_(std::time(nullptr)) {
    const bool only_call = request.tool_choice.kind == ToolChoice::Kind::kRequired;
    const size_t prompts = request.chat ? 1 : request.prompts.size();
    for (size_t i = 0; i < prompts * static_cast<size_t>(request.samples); ++i) {
      choices_.emplace_back(only_call);
    }
  }

  // Queues the request's prompts. Throws before any is queued, or cancels those that were.
  void submit(const NamedModel& named, Jobs& jobs, const std::shared_ptr<Mailbox>& mailbox) {
    const infer::LoadedModel& loaded = model_.loaded();
    infer::Scheduler& scheduler = named.model->scheduler();
    const infer::ModelEngine& engine = model_.engine();
    prompts_ = prompt_tokens(loaded, request_);
    infer::ScheduledRequest shared;
    shared.sampling = request_.sampling;
    shared.sampling.logprobs = request_.logprobs;
    shared.samples = request_.samples;
    shared.guesses = request_.guesses;
    shared.end_tokens = loaded.tokenizer.end_of_generation();
    shared.constraint = make_constraint(*named.model, request_);
    shared.cache = {.store = request_.kv_store,
                    .policy = request_.kv_policy,
                    .tenant = context_.tenant + "\n" + request_.cache_salt,
                    .adapter = named.adapter};
    shared.owner = context_.tenant;
    if (request_.echo && request_.logprobs) {
      shared.prompt_logprobs = request_.logprobs;
    }
    if (request_.timeout_seconds) {
      shared.deadline = started_ + std::chrono::duration_cast<infer::Clock::duration>(
                                       std::chrono::duration<double>(*request_.timeout_seconds));
    }
    const bool evicts = engine.evicts(shared.cache);
    const int64_t context = evicts ? engine.context() : scheduler.longest_text(shared.cache);
    for (const std::vector<int32_t>& prompt : prompts_) {
      const auto length = static_cast<int64_t>(prompt.size());
      const int64_t answer = request_.max_tokens.value_or(evicts ? context : context - length);
      if (!evicts && (length + answer > context || length >= context + (answer == 0 ? 1 : 0))) {
        throw bad_request(
            request_.chat ? "messages" : "prompt",
            fmt::format("[{}] expected at most {} tokens, prompt and answer together (the "
                        "context), got {} and max_tokens {}; nothing is cut: shorten the prompt, "
                        "ask for less, or choose an evicting kv_policy such as window",
                        request_.chat ? "messages" : "prompt",
                        context,
                        length,
                        request_.max_tokens ? fmt::format("{}", answer) : "not given"),
            "context_length_exceeded");
      }
    }
    for (size_t i = 0; i < prompts_.size(); ++i) {
      infer::ScheduledRequest one = shared;
      one.prompt = prompts_[i];
      const auto length = static_cast<int64_t>(one.prompt.size());
      one.max_tokens = request_.max_tokens.value_or(evicts ? context : context - length);
      auto stream = std::make_shared<AnswerStream>(
          mailbox,
          loaded.tokenizer,
          AnswerStreamOptions{.prompt = static_cast<int64_t>(i),
                              .stop = request_.stop,
                              .keep_tokens = request_.logprobs.has_value(),
                              // lm-eval drops the last of a completion's tokens, whatever it is.
                              .keep_end_token = request_.logprobs && !request_.chat,
                              .cache_picture = request_.cache_picture && request_.stream});
      jobs.add(scheduler.submit(std::move(one), std::move(stream)));
    }
  }

  bool finished() const { return open_ == 0; }

  // Takes an event in; returns the chunks that it makes.
  std::vector<Json> take(AnswerEvent event) {
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

  Json whole() const {
    Json choices = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i) {
      const Choice& choice = choices_[i];
      const bool called = choice.calls.calls() > 0;
      Json json = {{"index", i}};
      if (request_.chat) {
        json["message"] = {{"role", "assistant"},
                           {"content", called && choice.text.empty() ? Json() : Json(choice.text)},
                           {"refusal", nullptr}};
        if (called) {
          json["message"]["tool_calls"] = choice.tool_calls;
        }
        json["logprobs"] =
            request_.logprobs ? chat_logprobs(model_.loaded().tokenizer, choice.tokens) : Json();
      } else {
        json["text"] = choice.text;
        int64_t offset = 0;
        json["logprobs"] = request_.logprobs ? completion_logprobs(
                                                   model_.loaded().tokenizer, choice.tokens, offset)
                                             : Json();
      }
      json["finish_reason"] = finish_name(choice.finish->reason, called);
      choices.push_back(std::move(json));
    }
    Json json = head(request_.chat ? "chat.completion" : "text_completion");
    json["choices"] = std::move(choices);
    json["usage"] = usage();
    json["adze"] = last_figures_;
    return json;
  }

  Json usage_chunk() const {
    Json json = head(chunk_object());
    json["choices"] = Json::array();
    json["usage"] = usage();
    return json;
  }

 private:
  std::string_view chunk_object() const {
    return request_.chat ? "chat.completion.chunk" : "text_completion";
  }

  Json head(std::string_view object) const {
    return {{"id", id_},
            {"object", object},
            {"created", created_},
            {"model", model_name_},
            {"system_fingerprint", "adze"}};
  }

  Json usage() const {
    int64_t prompt = 0;
    int64_t generated = 0;
    for (const auto& tokens : prompts_) {
      prompt += static_cast<int64_t>(tokens.size());
    }
    for (const Choice& choice : choices_) {
      generated += choice.generated;
    }
    return {{"prompt_tokens", prompt},
            {"completion_tokens", generated},
            {"total_tokens", prompt + generated},
            {"prompt_tokens_details", {{"cached_tokens", cached_tokens_}}}};
  }

  // delta: of a chat; text and logprobs: of either.
  Json chunk(size_t index, Json delta, const std::string& text, Json logprobs, Json reason) const {
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

  void take_prompt(AnswerEvent& event, std::vector<Json>& chunks) {
    cached_tokens_ += event.prompt_report.cached_tokens;
    const auto& tokens = prompts_[static_cast<size_t>(event.prompt)];
    prompt_figures_ = {{"prompt_tokens", tokens.size()},
                       {"cached", event.prompt_report.cached_tokens},
                       {"queue", event.prompt_report.queue_seconds},
                       {"prefill", event.prompt_report.prefill_seconds}};
    context_.metrics.observe_prompt(static_cast<int64_t>(tokens.size()),
                                    event.prompt_report.cached_tokens);
    context_.metrics.observe_first_token(event.prompt_report.queue_seconds +
                                         event.prompt_report.prefill_seconds);
    for (int64_t sample = 0; sample < request_.samples; ++sample) {
      const auto index = static_cast<size_t>(event.prompt * request_.samples + sample);
      Choice& choice = choices_[index];
      if (request_.chat && request_.stream) {
        chunks.push_back(
            chunk(index, {{"role", "assistant"}, {"content", ""}}, "", nullptr, nullptr));
      }
      if (!request_.echo) {
        continue;
      }
      const std::string text =
          model_.loaded().tokenizer.decode(tokens, /*with_control_tokens=*/true);
      std::vector<infer::SampledToken> echoed;
      if (request_.logprobs) {
        echoed.push_back({.token = tokens.front(), .logprob = std::nullopt, .top_logprobs = {}});
        echoed.insert(
            echoed.end(), event.prompt_report.logprobs.begin(), event.prompt_report.logprobs.end());
      }
      say(index, choice, text, echoed, chunks);
    }
  }

  // Adds text and its tokens to a choice.
  void say(size_t index,
           Choice& choice,
           const std::string& text,
           const std::vector<infer::SampledToken>& tokens,
           std::vector<Json>& chunks) {
    if (!request_.stream) {
      choice.text += text;
      choice.tokens.insert(choice.tokens.end(), tokens.begin(), tokens.end());
      return;
    }
    Json logprobs;
    if (request_.logprobs) {
      logprobs = request_.chat
                     ? chat_logprobs(model_.loaded().tokenizer, tokens)
                     : completion_logprobs(model_.loaded().tokenizer, tokens, choice.text_offset);
    }
    chunks.push_back(chunk(index, {{"content", text}}, text, std::move(logprobs), nullptr));
  }

  void take_parts(size_t index,
                  Choice& choice,
                  const std::vector<AnswerPart>& parts,
                  const std::vector<infer::SampledToken>& tokens,
                  std::vector<Json>& chunks) {
    bool said = false;
    for (const AnswerPart& part : parts) {
      if (part.kind == AnswerPart::Kind::kText) {
        say(index, choice, part.text, said ? std::vector<infer::SampledToken>() : tokens, chunks);
        said = true;
        continue;
      }
      Json delta = {{"index", part.call}};
      if (part.kind == AnswerPart::Kind::kCall) {
        const std::string id = random_id("call_");
        choice.tool_calls.push_back({{"id", id},
                                     {"type", "function"},
                                     {"function", {{"name", part.name}, {"arguments", ""}}}});
        delta = choice.tool_calls.back();
        delta["index"] = part.call;
      } else {
        auto& call = choice.tool_calls[static_cast<size_t>(part.call)]["function"]["arguments"];
        call = call.get<std::string>() + part.text;
        delta["function"] = {{"arguments", part.text}};
      }
      if (request_.stream) {
        chunks.push_back(
            chunk(index, {{"tool_calls", Json::array({delta})}}, "", nullptr, nullptr));
      }
    }
    if (!said && !tokens.empty()) {
      say(index, choice, "", tokens, chunks);
    }
  }

  void take_text(AnswerEvent& event, std::vector<Json>& chunks) {
    const auto index = static_cast<size_t>(event.prompt * request_.samples + event.sample);
    Choice& choice = choices_[index];
    const bool tools = request_.tool_choice.kind != ToolChoice::Kind::kNone;
    std::vector<AnswerPart> parts;
    if (tools) {
      parts = choice.calls.push(event.text);
      if (event.finish) {
        const auto rest = choice.calls.finish();
        parts.insert(parts.end(), rest.begin(), rest.end());
      }
    } else if (!event.text.empty()) {
      parts.push_back({AnswerPart::Kind::kText, 0, event.text, ""});
    }
    take_parts(index, choice, parts, event.tokens, chunks);
    if (event.finish) {
      choice.finish = event.finish;
      choice.generated = event.generated;
      --open_;
      context_.metrics.observe_answer(event.generated);
      if (event.generated > 1) {
        context_.metrics.observe_token(event.finish->timings.decode_seconds /
                                       static_cast<double>(event.generated - 1));
      }
      last_figures_ = figures(*event.cache, *event.finish, event.generated);
    }
    if (!request_.stream) {
      return;
    }
    if (event.finish) {
      chunks.push_back(chunk(index,
                             Json::object(),
                             "",
                             nullptr,
                             finish_name(choice.finish->reason, choice.calls.calls() > 0)));
      chunks.back()["adze"] = last_figures_;
    } else if (event.cache) {
      if (chunks.empty()) {
        chunks.push_back(chunk(index, {{"content", ""}}, "", nullptr, nullptr));
      }
      chunks.back()["adze"] = {{"cache", cache_json(*event.cache, request_.cache_picture)}};
    }
  }

  Json figures(const CacheState& cache,
               const infer::FinishReport& finish,
               int64_t generated) const {
    const infer::SampleTimings& timings = finish.timings;
    const auto rate = [](double count, double seconds) {
      return seconds > 0 ? count / seconds : 0;
    };
    const auto computed =
        prompt_figures_["prompt_tokens"].get<double>() - prompt_figures_["cached"].get<double>();
    return {{"seed", request_.sampling.seed},
            {"cache", cache_json(cache, request_.cache_picture)},
            {"timings",
             {{"queue_seconds", timings.queue_seconds},
              {"prefill_seconds", timings.prefill_seconds},
              {"prefill_tokens_per_second", rate(computed, timings.prefill_seconds)},
              {"decode_seconds", timings.decode_seconds},
              {"decode_tokens_per_second",
               rate(static_cast<double>(std::max<int64_t>(generated - 1, 0)),
                    timings.decode_seconds)}}},
            {"warnings", Json::array()}};
  }

  const CompletionContext& context_;
  const CompletionRequest& request_;
  const ServedModel& model_;
  std::string model_name_;
  std::string id_;
  int64_t created_;
  infer::Clock::time_point started_ = infer::Clock::now();
  std::vector<std::vector<int32_t>> prompts_;
  std::vector<Choice> choices_;
  int64_t open_ = static_cast<int64_t>(0);
  int64_t cached_tokens_ = 0;
  Json prompt_figures_;
  Json last_figures_;

 public:
  void open_all() { open_ = static_cast<int64_t>(choices_.size()); }
};

}  // namespace

awaitable<void> answer_completion(const CompletionContext& context,
                                  Exchange& exchange,
                                  const CompletionRequest& request,
                                  NamedModel named) {
  if (!named.model->generates()) {
    throw bad_request("model",
                      fmt::format("[model] expected a model that writes text, got the encoder {}; "
                                  "use /v1/embeddings",
                                  named.model->loaded().model->spec.name));
  }
  const auto mailbox = Mailbox::make(context.io);
  Answer answer(context, request, named, request.model);
  answer.open_all();
  Jobs jobs(named.model->scheduler());
  answer.submit(named, jobs, mailbox);
  exchange.watch_peer(mailbox->signal());
  bool streaming = false;
  std::optional<ApiError> failure;
  while (!answer.finished()) {
    if (exchange.peer_gone()) {
      co_return;
    }
    if (mailbox->empty()) {
      co_await mailbox->signal()->wait();
      continue;
    }
    try {
      for (const Json& chunk : answer.take(mailbox->take())) {
        if (!streaming) {
          streaming = true;
          co_await exchange.begin_events();
        }
        co_await exchange.send_event(dump(chunk));
      }
    } catch (const boost::system::system_error&) {
      throw;  // the peer has gone
    } catch (const std::exception& error) {
      if (!streaming) {
        throw;
      }
      failure = to_api_error(error);
    }
    if (failure) {
      co_await exchange.send_event(dump(failure->body()));
      co_await exchange.end_events();
      co_return;
    }
  }
  jobs.release();
  if (!request.stream) {
    HttpResponse response;
    response.body = dump(answer.whole());
    co_await exchange.respond(std::move(response));
    co_return;
  }
  if (!streaming) {
    co_await exchange.begin_events();
  }
  if (request.include_usage) {
    co_await exchange.send_event(dump(answer.usage_chunk()));
  }
  co_await exchange.send_event("[DONE]");
  co_await exchange.end_events();
}

}  // namespace adze::serve
