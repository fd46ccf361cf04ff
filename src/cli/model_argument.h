#pragma once
// What every command with a model shares: the --model flag, and opening what it names.

#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace adze::cli {

inline constexpr const char* kDefaultModel = "smollm2-135m";

struct ModelOptions {
  std::string model = kDefaultModel;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("model", self.model, "a GGUF file, a Hugging Face folder, or a name from adze list");
  }
};

// Throws core::Error: nothing there, no model, damaged.
text::Tokenizer open_tokenizer(std::string_view argument);

}  // namespace adze::cli
