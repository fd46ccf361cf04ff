// adze choices: which continuation a model prefers, turn by turn, under a cache that may forget.

#include <optional>

#include "cli/cache_commands.h"
#include "cli/model_argument.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "core/json.h"
#include "core/progress.h"
#include "data/model_store.h"
#include "eval/choice_stream.h"
#include "infer/loaded_model.h"

namespace adze::cli {
namespace {

struct ChoicesOptions {
  ModelOptions model;
  infer::LoadOptions loading;
  std::optional<std::string> file;
  infer::CacheOptions cache;
  core::CommonOptions common;

  void validate() const {
    if (!file) {
      throw core::UsageError("[choices] expected --file, got none");
    }
    cache.validate();
  }

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("", self.loading, "");
    visit("file",
          self.file,
          "turns, one JSON object a line, - for stdin: text (as the model sees it, control tokens "
          "included), choices (texts; none: read only), answer (index), stream (a new one starts "
          "with an empty cache)");
    visit("", self.cache, "");
    visit("", self.common, "");
  }
};

struct Line {
  std::string text;
  std::string stream;
  std::vector<std::string> choices;
  std::optional<int64_t> answer;
};

Line read_line(const nlohmann::json& object, const std::string& place) {
  const auto fail = [&](std::string_view field, std::string_view expected) {
    return core::error("choices", "{}: {}: expected {}", place, field, expected);
  };
  if (!object.is_object() || !object.contains("text") || !object["text"].is_string()) {
    throw fail("text", "a string");
  }
  Line line{.text = object["text"].get<std::string>(), .stream = {}, .choices = {}, .answer = {}};
  if (object.contains("stream")) {
    if (!object["stream"].is_string() && !object["stream"].is_number_integer()) {
      throw fail("stream", "a string or an integer");
    }
    line.stream = object["stream"].dump();
  }
  const nlohmann::json choices = object.value("choices", nlohmann::json::array());
  if (!choices.is_array()) {
    throw fail("choices", "a list of texts");
  }
  for (const auto& choice : choices) {
    if (!choice.is_string() || choice.get_ref<const std::string&>().empty()) {
      throw fail("choices", "texts that are not empty");
    }
    line.choices.push_back(choice.get<std::string>());
  }
  if (object.contains("answer")) {
    const auto& answer = object["answer"];
    const auto count = static_cast<int64_t>(line.choices.size());
    if (!answer.is_number_integer() || answer.get<int64_t>() < 0 ||
        answer.get<int64_t>() >= count) {
      throw fail("answer", fmt::format("an index of one of {} choices", count));
    }
    line.answer = answer.get<int64_t>();
  }
  return line;
}

std::vector<Line> read_lines(const std::string& path) {
  const std::string text = read_input(path);
  std::vector<Line> lines;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    const std::string place = fmt::format("{}: line {}", path, ++number);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      lines.push_back(read_line(core::parse_json(line, place), place));
    }
    begin = end + 1;
  }
  if (lines.empty()) {
    throw core::error("choices", "{}: expected at least one turn, got none", path);
  }
  return lines;
}

// What became of the turns with a known answer.
struct Score {
  int64_t answered = 0;
  int64_t right = 0;

  void add(bool is_right) {
    ++answered;
    right += is_right ? 1 : 0;
  }
  double accuracy() const {
    return answered > 0 ? static_cast<double>(right) / static_cast<double>(answered) : 0;
  }
};

int choices(const std::vector<std::string>& arguments) {
  ChoicesOptions options;
  const core::CommandLine line{
      .name = "choices",
      .summary =
          "Measure which of several continuations a model prefers, in texts that grow turn "
          "by turn; what it prefers becomes part of the text.",
      .options = core::list_options(options),
      .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  options.validate();
  const std::vector<Line> lines = read_lines(*options.file);
  const infer::LoadedModel loaded =
      infer::load_model(data::ModelStore().resolve(options.model.model), options.loading);
  infer::Generator generator(loaded.model, options.cache);
  eval::ChoiceStream stream(generator);
  const auto encode = [&](const std::string& text) {
    return loaded.tokenizer.encode(text, text::SpecialTokens::kParse);
  };
  nlohmann::ordered_json turns = nlohmann::ordered_json::array();
  Score all;
  Score evicted;  // the turns whose choice was made without some of the text
  std::optional<core::Progress> progress;
  for (size_t i = 0; i < lines.size(); ++i) {
    const bool fresh = i == 0 || lines[i].stream != lines[i - 1].stream;
    if (fresh) {
      stream.restart();
    }
    eval::ChoiceTurn turn{.tokens = encode(lines[i].text), .choices = {}};
    if (fresh) {
      infer::add_begin_of_text(loaded.tokenizer, turn.tokens);
    }
    for (const std::string& choice : lines[i].choices) {
      turn.choices.push_back(encode(choice));
    }
    const eval::Choice choice = stream.take(turn);
    if (lines[i].answer) {
      const bool is_right = choice.chosen == *lines[i].answer;
      all.add(is_right);
      if (choice.attended < choice.tokens) {
        evicted.add(is_right);
      }
    }
    turns.push_back({{"chosen", choice.chosen},
                     {"logprobs", choice.logprobs},
                     {"tokens", choice.tokens},
                     {"attended", choice.attended}});
    if (!progress) {
      progress.emplace("choices", static_cast<int64_t>(lines.size()), "turns");
    }
    progress->update(static_cast<int64_t>(i) + 1);
  }
  progress.reset();
  if (options.common.json) {
    write_json_line({{"answered", all.answered},
                     {"accuracy", all.accuracy()},
                     {"answered_after_eviction", evicted.answered},
                     {"accuracy_after_eviction", evicted.accuracy()},
                     {"turns", turns}});
  } else {
    write_output(
        fmt::format("{} turns; {:.4f} of {} answers right, {:.4f} of the {} that were "
                    "given after tokens had been dropped\n",
                    lines.size(),
                    all.accuracy(),
                    all.answered,
                    evicted.accuracy(),
                    evicted.answered));
  }
  return 0;
}

}  // namespace

core::Command choices_command() {
  return {
      .name = "choices", .summary = "Choose between continuations, turn by turn", .run = choices};
}

}  // namespace adze::cli
