// Any source, parsed and rendered over an ordinary conversation, ends in text or in one core::Error
// within its limits. Found otherwise: a crash, a sanitizer report, a run that takes seconds or
// memory beyond the limits (run with -rss_limit_mb=512 -timeout=5).

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/check.h"
#include "core/error.h"
#include "text/chat_template.h"

namespace {

using Json = nlohmann::ordered_json;

const Json& conversation() {
  static const Json values = Json::parse(R"({
    "messages": [
      {"role": "system", "content": "Be brief."},
      {"role": "user", "content": "H\u00e9llo, \u4e16\u754c 123"},
      {"role": "assistant", "content": null,
       "tool_calls": [{"id": "123456789", "type": "function",
                       "function": {"name": "f", "arguments": {"x": 1, "y": [true, 2.5]}}}]},
      {"role": "tool", "content": "{\"z\": 1}"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
    "a": 1, "b": "text", "c": [3, 1, 2], "d": {"k": "v"}, "e": 2.5, "f": false})");
  return values;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  adze::text::ChatTemplateLimits limits;
  limits.steps = 100'000;
  limits.output_bytes = 1 << 20;
  limits.memory_bytes = 16 << 20;
  try {
    const adze::text::ChatTemplate chat_template(
        std::string(reinterpret_cast<const char*>(data), size), limits);
    const std::string output = chat_template.render(conversation());
    adze::core::check(output.size() <= static_cast<size_t>(limits.output_bytes),
                      "output above its limit");
  } catch (const adze::core::Error&) {
    return 0;  // an error is a right answer
  }
  return 0;
}
