// Any tokenizer.model of SentencePiece and any text: refused with one core::Error, or usable, and
// written as another format or refused. Found otherwise: a crash, a sanitizer report, a hang, or a
// control token that came out of plain text.
//
// Input: a byte, that many bytes of text, the model.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/check.h"
#include "core/error.h"
#include "data/sentencepiece_model.h"
#include "data/tokenizer_files.h"
#include "data/tokenizer_json.h"
#include "text/tokenizer.h"

namespace {

using adze::text::SpecialTokens;
using adze::text::Tokenizer;

void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const SpecialTokens special : {SpecialTokens::kParse, SpecialTokens::kPlain}) {
    const auto ids = tokenizer.encode(text, special);
    tokenizer.decode(ids, special == SpecialTokens::kParse);
    for (const int32_t id : ids) {
      adze::core::check(special == SpecialTokens::kParse || !tokenizer.is_control(id) ||
                            tokenizer.spec().unknown == id,
                        "plain text became a control token");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t text_size = data[0];
  const std::string_view text = input.substr(0, text_size);
  const std::string_view model = input.substr(text.size());
  try {
    const auto spec = adze::data::sentencepiece_spec(model, "fuzz.model");
    const auto metadata = adze::data::gguf_tokenizer_metadata(spec, std::nullopt);
    use(Tokenizer(spec), text);
    adze::data::tokenizer_json(adze::data::for_tokenizers_library(spec));
  } catch (const adze::core::Error& failure) {
    adze::core::check(std::string_view(failure.what()).find('\n') == std::string_view::npos,
                      "an error of several lines");
  }
  return 0;
}
