// Any vocabulary and any text: the vocabulary is refused with one core::Error, or what it encodes
// decodes again. Found otherwise: a crash, a sanitizer report, a lost byte, or a control token that
// came out of plain text.
//
// Input: a byte of flags and pre-tokenizer, then lines: vocabulary tokens (their first byte the
// kind), merges (marked by '\1' in front), and after an empty line the text.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/check.h"
#include "core/error.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer.h"

namespace {

using adze::text::SpecialTokens;
using adze::text::Tokenizer;
using adze::text::TokenizerSpec;
using adze::text::TokenKind;

constexpr std::array kPreTokenizers{
    "smollm", "gpt-2", "llama-bpe", "qwen2", "falcon", "tekken", "deepseek-v3", "deepseek-coder"};

std::string_view take_line(std::string_view& input) {
  const size_t end = input.find('\n');
  const std::string_view line = input.substr(0, end);
  input.remove_prefix(end == std::string_view::npos ? input.size() : end + 1);
  return line;
}

TokenizerSpec read_spec(std::string_view& input) {
  TokenizerSpec spec;
  const auto flags = static_cast<uint8_t>(input.front());
  input.remove_prefix(1);
  spec.pre_tokenizer = kPreTokenizers[flags % kPreTokenizers.size()];
  if ((flags & 0x80) == 0) {
    for (int byte = 0; byte < 256; ++byte) {
      const char text = static_cast<char>(byte);
      spec.tokens.push_back(adze::text::alphabet_from_bytes({&text, 1}));
      spec.kinds.push_back(TokenKind::kNormal);
    }
  }
  for (std::string_view line = take_line(input); !line.empty(); line = take_line(input)) {
    if (line.front() == '\1') {
      spec.merges.emplace_back(line.substr(1));
    } else {
      spec.tokens.emplace_back(line.substr(1));
      spec.kinds.push_back(static_cast<TokenKind>(static_cast<uint8_t>(line.front()) % 7));
    }
  }
  return spec;
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const SpecialTokens special : {SpecialTokens::kParse, SpecialTokens::kPlain}) {
    const auto ids = tokenizer.encode(text, special);
    const std::string decoded = tokenizer.decode(ids);
    const bool normalizes = tokenizer.spec().pre_tokenizer == "qwen2";
    adze::core::check(!tokenizer.missing_bytes().empty() || normalizes || decoded == text,
                      "bytes were lost");
    for (const int32_t id : ids) {
      adze::core::check(special == SpecialTokens::kParse || !tokenizer.is_control(id),
                        "plain text became a control token");
    }
  }
  if (const auto id = tokenizer.find(text)) {
    adze::core::check(tokenizer.token_bytes(*id) == text, "found another token");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  std::string_view input(reinterpret_cast<const char*>(data), size);
  try {
    const Tokenizer tokenizer(read_spec(input));
    use(tokenizer, input);
  } catch (const adze::core::Error&) {
    return 0;  // an error is a right answer
  }
  return 0;
}
