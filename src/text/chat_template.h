#pragma once
// Chat templates are data from strangers: a bounded interpreter of the Jinja subset that published
// models use. No file, network or attribute access beyond the given values; steps, recursion and
// output are limited (what that costs elsewhere: CVE-2024-34359).

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace adze::text {

struct ChatTemplateLimits {
  int64_t steps = 1'000'000;  // evaluated nodes
  int64_t output_bytes = 16 << 20;
  int64_t depth = 100;  // nesting of the source and of macro calls
  int64_t source_bytes = 1 << 20;
  int64_t memory_bytes = 256 << 20;  // values alive at once, the given ones included
};

class ChatTemplate {
 public:
  // Throws core::Error with line number: syntax, unsupported construct.
  explicit ChatTemplate(std::string_view source, ChatTemplateLimits limits = {});
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;

  // `values` is the template's whole world: messages, add_generation_prompt, tools, bos_token,
  // eos_token, ... (an object; insertion order is kept). Throws core::Error: raise_exception(),
  // undefined operations, a limit.
  std::string render(const nlohmann::ordered_json& values) const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace adze::text
