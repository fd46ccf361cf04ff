// One answer: what is asked, and what the stream leaves in a message. Knows no element of the page.
import {ApiError, streamChat} from "./api.js";

export function requestBody(conversation, settings, model) {
  const messages = conversation.messages
    .filter((message) => message.role === "user" || message.content !== "")
    .map(({role, content}) => ({role, content}));
  const system = (settings.values.system ?? "").trim();
  if (system) {
    messages.unshift({role: "system", content: system});
  }
  return {
    ...(model && {model}),
    messages,
    ...settings.body(),
    stream: true,
    stream_options: {include_usage: true},
    cache_picture: true,
  };
}

export function emptyAnswer(model = "") {
  return {role: "assistant", content: "", model, finish: "", usage: null, adze: null, error: null};
}

// What the server says only with the last token, while they come in. The first picture of the cache
// comes with the first token: it holds the prompt and nothing else.
class Pace {
  take(tokens) {
    const now = performance.now();
    this.first ??= {tokens, now};
    const seconds = (now - this.first.now) / 1000;
    return {
      prompt_tokens: this.first.tokens,
      timings: seconds > 0 ? {decode_tokens_per_second: (tokens - this.first.tokens) / seconds} : {},
    };
  }
}

// Takes a chunk into the message; true if the picture of the cache has changed.
function takeChunk(message, chunk, pace) {
  message.content += chunk.choices?.[0]?.delta?.content ?? "";
  message.finish = chunk.choices?.[0]?.finish_reason ?? message.finish;
  message.model = chunk.model ?? message.model;
  message.usage = chunk.usage ?? message.usage;
  if (chunk.adze) {
    message.adze = {...message.adze, ...pace.take(chunk.adze.cache?.tokens ?? 0), ...chunk.adze};
  }
  return Boolean(chunk.adze || chunk.usage);
}

// Fills the message until the answer ends, well or not; `changed(picture)` is called with each chunk.
export async function receive(message, body, signal, changed) {
  const pace = new Pace();
  try {
    for await (const chunk of streamChat(body, signal)) {
      changed(takeChunk(message, chunk, pace));
    }
  } catch (error) {
    if (error.name === "AbortError") {
      message.finish = "stopped";
    } else if (error instanceof ApiError) {
      message.error = {...error, message: error.message};
    } else {
      message.error = {message: `This page could not read the answer: ${error.message}`};
    }
  }
}
