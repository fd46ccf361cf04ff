#pragma once
// What every command with a model shares: the --model flag, and opening what it names.

#include <string>
#include <string_view>

#include "formats/gguf.h"
#include "text/tokenizer.h"

namespace adze::cli {

inline constexpr const char* kDefaultModel = "smollm2-135m";

struct ModelOptions {
  std::string model = kDefaultModel;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("model", self.model, "a GGUF file, or a name from adze list");
  }
};

// Throws core::Error: nothing there, not a GGUF file, damaged.
formats::GgufFile open_model(std::string_view argument);
text::Tokenizer open_tokenizer(const formats::GgufFile& file);

}  // namespace adze::cli
