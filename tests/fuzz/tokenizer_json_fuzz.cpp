// Any tokenizer.json and any text: the file is refused with one core::Error of one line, or what it
// encodes decodes, and the tokenizer can be written again or is refused with an Error. Found
// otherwise: a crash, a sanitizer report, a hang (run with -timeout=20), or a control token that
// came out of plain text.
//
// Input: the file, a zero byte, the text.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/check.h"
#include "core/error.h"
#include "core/json.h"
#include "data/tokenizer_files.h"
#include "data/tokenizer_json.h"
#include "text/tokenizer.h"

namespace {

using adze::text::SpecialTokens;
using adze::text::Tokenizer;
using adze::text::TokenizerSpec;

constexpr size_t kMaxText = 256;  // a hostile expression may take a second for each

// False where the attempt ends in an error, which is a right answer.
bool attempt(const std::function<void()>& action) {
  try {
    action();
  } catch (const adze::core::Error& failure) {
    adze::core::check(std::string_view(failure.what()).find('\n') == std::string_view::npos,
                      "an error of several lines");
    return false;
  }
  return true;
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const SpecialTokens special : {SpecialTokens::kParse, SpecialTokens::kPlain}) {
    attempt([&] {
      const auto ids = tokenizer.encode(text, special);
      tokenizer.decode(ids);
      for (const int32_t id : ids) {
        adze::core::check(special == SpecialTokens::kParse || !tokenizer.is_control(id) ||
                              tokenizer.spec().unknown == id,
                          "plain text became a control token");
      }
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view text = input.substr(std::min(end + 1, size), kMaxText);
  attempt([&] {
    const TokenizerSpec spec = adze::data::tokenizer_from_json(
        adze::core::parse_json(input.substr(0, end), "fuzz.json"), "fuzz.json");
    use(Tokenizer(spec), text);
    attempt([&] { adze::data::gguf_tokenizer_metadata(spec, std::nullopt); });
    attempt([&] {
      const std::string written =
          adze::data::tokenizer_json(adze::data::for_tokenizers_library(spec));
      adze::data::tokenizer_from_json(adze::core::parse_json(written, "written"), "written");
    });
  });
  return 0;
}
