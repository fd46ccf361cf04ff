#pragma once
// Generation as a reader sees it: text in whole characters, ended by stop strings.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "infer/generator.h"
#include "text/tokenizer.h"

namespace adze::infer {

struct TextRequest {
  GenerationRequest generation;   // end_tokens are filled in from the tokenizer
  std::vector<std::string> stop;  // text ends before the first of these
};

struct TextAnswer {
  std::string text;              // without prompt and stop string
  bool stopped_by_text = false;  // the cache then holds more than the text says
  GenerationResult result;
};

// on_text receives what is safe to show; false ends the answer.
TextAnswer answer(Generator& generator,
                  const text::Tokenizer& tokenizer,
                  kv::Sequence& sequence,
                  std::span<const int32_t> prompt,
                  TextRequest request,
                  const std::function<bool(std::string_view)>& on_text,
                  const Generator::ProgressCallback& on_progress = {});

}  // namespace adze::infer
