// adze embed: texts to vectors.

#include <chrono>

#include "cli/model_argument.h"
#include "cli/model_commands.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "core/progress.h"
#include "data/model_store.h"
#include "infer/embedder.h"
#include "infer/loaded_model.h"
#include "model/model.h"

namespace adze::cli {
namespace {

struct EmbedOptions {
  ModelOptions model;
  infer::LoadOptions loading;
  std::optional<std::string> file;
  bool truncate = false;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("", self.loading, "");
    visit("file", self.file, "texts to embed, one a line, - for stdin");
    visit("truncate", self.truncate, "cut texts that are longer than the model's context");
    visit("", self.common, "");
  }
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    const size_t next = end + 1;
    if (end > begin && text[end - 1] == '\r') {
      --end;
    }
    lines.push_back(text.substr(begin, end - begin));
    begin = next;
  }
  return lines;
}

// The last token marks the end where the model puts one there.
void cut(std::vector<int32_t>& tokens, int64_t limit) {
  if (static_cast<int64_t>(tokens.size()) > limit) {
    const int32_t last = tokens.back();
    tokens.resize(static_cast<size_t>(limit));
    tokens.back() = last;
  }
}

int embed(const std::vector<std::string>& arguments) {
  EmbedOptions options;
  const core::CommandLine line{
      .name = "embed",
      .summary = "Turn each line of a file into a vector; alike texts have large dot products.",
      .options = core::list_options(options),
      .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  if (!options.file) {
    throw core::UsageError("[embed] expected --file, got none");
  }
  const infer::LoadedModel loaded =
      infer::load_model(data::ModelStore().resolve(options.model.model), options.loading);
  const int64_t limit = infer::longest_embedded_text(*loaded.model);
  std::vector<std::vector<int32_t>> texts;
  int64_t tokens = 0;
  int64_t truncated = 0;
  for (const std::string& text : lines_of(read_input(*options.file))) {
    texts.push_back(infer::embedding_tokens(loaded.tokenizer, text));
    if (options.truncate && static_cast<int64_t>(texts.back().size()) > limit) {
      cut(texts.back(), limit);
      ++truncated;
    }
    tokens += static_cast<int64_t>(texts.back().size());
  }
  const auto start = std::chrono::steady_clock::now();
  core::Progress progress("embed", static_cast<int64_t>(texts.size()), "texts");
  const auto embeddings =
      infer::embed(*loaded.model, texts, [&](int64_t done) { progress.update(done); });
  progress.finish();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (options.common.json) {
    write_json_line({{"model", loaded.model->spec.name},
                     {"dimensions", loaded.model->spec.hidden_size},
                     {"tokens", tokens},
                     {"truncated", truncated},
                     {"seconds", seconds},
                     {"embeddings", embeddings}});
    return 0;
  }
  for (const infer::Embedding& embedding : embeddings) {
    write_output(nlohmann::json(embedding).dump() + "\n");
  }
  return 0;
}

}  // namespace

core::Command embed_command() {
  return {"embed", "Turn texts into vectors", embed};
}

}  // namespace adze::cli
