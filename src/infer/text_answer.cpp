#include "infer/text_answer.h"

#include <utility>

#include "text/stream.h"

namespace adze::infer {

TextAnswer answer(Generator& generator,
                  const text::Tokenizer& tokenizer,
                  kv::Sequence& sequence,
                  std::span<const int32_t> prompt,
                  TextRequest request,
                  const std::function<bool(std::string_view)>& on_text,
                  const Generator::ProgressCallback& on_progress) {
  text::Utf8Stream characters;
  text::StopMatcher stops(std::move(request.stop));
  request.generation.end_tokens = tokenizer.end_of_generation();
  TextAnswer answer;
  const auto show = [&](const std::string& text) {
    answer.text += text;
    return text.empty() || on_text(text);
  };
  answer.result = generator.generate(
      sequence,
      prompt,
      request.generation,
      [&](const SampledToken& sampled) {
        const std::string text = characters.push(tokenizer.token_bytes(sampled.token));
        return show(stops.push(text)) && !stops.stopped();
      },
      on_progress);
  if (!stops.stopped()) {
    show(stops.push(characters.finish()));
  }
  if (!stops.stopped()) {
    show(stops.finish());
  }
  answer.stopped_by_text = stops.stopped();
  return answer;
}

}  // namespace adze::infer
