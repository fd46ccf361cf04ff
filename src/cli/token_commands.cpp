#include "cli/token_commands.h"

#include <algorithm>
#include <charconv>

#include "cli/model_argument.h"
#include "cli/terminal.h"
#include "core/error.h"

namespace adze::cli {
namespace {

struct TokenizeOptions {
  ModelOptions model;
  std::optional<std::string> file;
  std::optional<std::string> text;
  // As in Hugging Face's tokenizers; a program that passes on untrusted text takes plain.
  std::string special = "parse";
  bool begin_of_text = false;
  core::CommonOptions common;

  void validate() const {
    if (special != "parse" && special != "plain") {
      throw core::InvalidOption("special", special, "parse or plain");
    }
    if (file && text) {
      throw core::UsageError("[tokenize] expected --file or --text, got both");
    }
  }

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("file", self.file, "text to read, - for stdin; stdin if neither --file nor --text");
    visit("text", self.text, "the text itself");
    visit("special",
          self.special,
          "parse: <|im_end|> and the like become control tokens; plain: they are text");
    visit("begin-of-text", self.begin_of_text, "put the model's begin-of-text token first");
    visit("", self.common, "");
  }
};

struct DetokenizeOptions {
  ModelOptions model;
  std::vector<int64_t> ids;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("ids", self.ids, "token ids; without them, numbers from stdin");
    visit("", self.common, "");
  }
};

int tokenize(const std::vector<std::string>& arguments) {
  TokenizeOptions options;
  const core::CommandLine line{.name = "tokenize",
                               .summary = "Print the token ids of a text.",
                               .options = core::list_options(options),
                               .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  options.validate();
  const text::Tokenizer tokenizer = open_tokenizer(options.model.model);
  const std::string text = options.text ? *options.text : read_input(options.file.value_or("-"));
  if (const size_t lost = text.find_first_of(tokenizer.missing_bytes());
      lost != std::string::npos) {
    write_notice(fmt::format("note: {} has no token for byte 0x{:02x}; such bytes are left out",
                             options.model.model,
                             static_cast<unsigned char>(text[lost])));
  }
  std::vector<int32_t> ids = tokenizer.encode(
      text, options.special == "parse" ? text::SpecialTokens::kParse : text::SpecialTokens::kPlain);
  if (options.begin_of_text) {
    const auto begin = tokenizer.spec().begin_of_text;
    if (!begin) {
      throw core::error("tokenize", "--begin-of-text: {} has no such token", options.model.model);
    }
    ids.insert(ids.begin(), *begin);
  }
  if (options.common.json) {
    write_json_line({{"ids", ids}});
  } else {
    write_output(fmt::format("{}\n", fmt::join(ids, " ")));
  }
  return 0;
}

// Numbers between white space, commas and brackets, so that both outputs of tokenize are
// understood.
std::vector<int64_t> parse_ids(std::string_view text) {
  constexpr std::string_view kBetween = " \t\r\n,[]";
  std::vector<int64_t> ids;
  for (size_t begin = text.find_first_not_of(kBetween); begin != std::string_view::npos;
       begin = text.find_first_not_of(kBetween, begin)) {
    const size_t end = std::min(text.find_first_of(kBetween, begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    int64_t id = 0;
    const auto [stop, code] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (code != std::errc() || stop != word.data() + word.size()) {
      throw core::error(
          "detokenize", "expected token ids on stdin, got {}", printable(word.substr(0, 40)));
    }
    ids.push_back(id);
    begin = end;
  }
  return ids;
}

int detokenize(const std::vector<std::string>& arguments) {
  DetokenizeOptions options;
  const core::CommandLine line{.name = "detokenize",
                               .summary = "Print the text of token ids, and nothing else.",
                               .options = core::list_options(options),
                               .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  const text::Tokenizer tokenizer = open_tokenizer(options.model.model);
  const auto ids = options.ids.empty() ? parse_ids(read_input("-")) : options.ids;
  std::vector<int32_t> tokens;
  for (const int64_t id : ids) {
    if (id < 0 || id >= tokenizer.vocab_size()) {
      throw core::error(
          "detokenize", "expected ids from 0 to {}, got {}", tokenizer.vocab_size() - 1, id);
    }
    tokens.push_back(static_cast<int32_t>(id));
  }
  const std::string text = tokenizer.decode(tokens);
  if (options.common.json) {
    write_json_line({{"text", text}});
  } else {
    write_output(text);
  }
  return 0;
}

}  // namespace

core::Command tokenize_command() {
  return {"tokenize", "Print the token ids of a text", tokenize};
}
core::Command detokenize_command() {
  return {"detokenize", "Print the text of token ids", detokenize};
}

}  // namespace adze::cli
