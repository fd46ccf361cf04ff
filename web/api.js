// The server's HTTP interface. Paths are relative, so the page also works below a proxy's folder.

const kKey = "adze.key";

export class ApiError extends Error {
  constructor(error, status = 0, retryAfter = "") {
    super(error.message || "The server gave no reason.");
    this.field = error.param ?? "";
    this.code = error.code ?? "";
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

let key = "";
try {
  key = sessionStorage.getItem(kKey) ?? "";
} catch {
  // Storage is blocked: the key lives as long as the page.
}

export function setKey(value) {
  key = value;
  try {
    sessionStorage.setItem(kKey, value);
  } catch {
    // As above.
  }
}

async function errorOf(response) {
  const text = await response.text();
  let error = {message: text.trim().slice(0, 500) || response.statusText};
  try {
    error = JSON.parse(text).error ?? error;
  } catch {
    // Not JSON, perhaps from a proxy: its text is shown.
  }
  return new ApiError(error, response.status, response.headers.get("Retry-After") ?? "");
}

async function request(path, options = {}) {
  const headers = {...options.headers};
  if (key) {
    headers.Authorization = `Bearer ${key}`;
  }
  let response;
  try {
    response = await fetch(path, {...options, headers});
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    throw new ApiError({message: "The server does not answer. Is it still running?"});
  }
  if (!response.ok) {
    throw await errorOf(response);
  }
  return response;
}

export async function getJson(path) {
  return (await request(path)).json();
}

// The objects of a stream of server-sent events; an error in mid-stream is thrown.
export async function* streamChat(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(body),
    signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const {value, done} = await reader.read().catch((error) => {
        throw error.name === "AbortError"
          ? error
          : new ApiError({message: "The connection broke before the answer was complete."});
      });
      if (done) {
        throw new ApiError({message: "The server ended the answer without saying that it is complete."});
      }
      buffer += value;
      const lines = buffer.split(/\r?\n/);
      buffer = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) {
          continue;
        }
        const data = line.slice(5).trim();
        if (data === "[DONE]") {
          return;
        }
        const chunk = JSON.parse(data);
        if (chunk.error) {
          throw new ApiError(chunk.error);
        }
        yield chunk;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
