// adze data: text becomes token data; tokenizers are learnt; what is in the data.

#include <algorithm>
#include <bit>

#include "cli/length_histogram.h"
#include "cli/model_argument.h"
#include "cli/terminal.h"
#include "cli/train_commands.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/progress.h"
#include "data/token_dataset.h"
#include "data/tokenizer_files.h"
#include "data/tokenizer_training.h"
#include "methods/dataset_decomposition/dataset_decomposition.h"

namespace adze::cli {
namespace {

namespace decomposition = methods::dataset_decomposition;

struct TokenizeOptions {
  std::vector<std::string> input;
  std::string tokenizer = kDefaultModel;
  std::string out;
  std::string text_key = "text";
  std::string end_token;
  std::string shard = "0/1";
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("input",
          self.input,
          "patterns of files: .jsonl holds a document a line, any other file is one document; .gz "
          "and .zst are decompressed");
    visit("tokenizer", self.tokenizer, "a model, or a folder with tokenizer.json");
    visit("out", self.out, "folder for the token data");
    visit("text-key", self.text_key, "key of a document's text in JSONL");
    visit("end-token", self.end_token, "token behind each document; without it, the tokenizer's");
    visit("shard",
          self.shard,
          "I/N: read the I-th of N parts of the input alone; adze data merge joins the parts");
    visit("", self.common, "");
  }
};

// A model by name or path, or a folder that has a tokenizer alone.
text::Tokenizer tokenizer_of(const std::string& argument) {
  std::filesystem::path path = argument;
  if (path.filename() == "tokenizer.json") {
    path = path.has_parent_path() ? path.parent_path() : ".";
  }
  if (std::filesystem::exists(path / "tokenizer.json")) {
    return text::Tokenizer(data::tokenizer_spec(path));
  }
  return open_tokenizer(argument);
}

int32_t end_token(const text::Tokenizer& tokenizer, const TokenizeOptions& options) {
  const auto found =
      options.end_token.empty() ? tokenizer.spec().end_of_text : tokenizer.find(options.end_token);
  if (!found) {
    throw core::error("data",
                      "end-token: expected a token of {}, got {}",
                      options.tokenizer,
                      options.end_token.empty() ? "none; name one" : options.end_token);
  }
  return *found;
}

void require_text(const char* flag, bool given) {
  if (!given) {
    throw core::UsageError(fmt::format("[data] expected --{}, got none", flag));
  }
}

nlohmann::ordered_json manifest_json(const data::TokenManifest& manifest,
                                     const std::string& folder) {
  return {{"folder", folder},
          {"documents", manifest.documents()},
          {"tokens", manifest.tokens()},
          {"vocab_size", manifest.vocab_size},
          {"shards", manifest.shards.size()}};
}

void write_manifest_line(const data::TokenManifest& manifest,
                         const std::string& folder,
                         bool json) {
  if (json) {
    write_json_line(manifest_json(manifest, folder));
  } else {
    write_output(fmt::format(
        "{} documents, {} tokens in {}\n", manifest.documents(), manifest.tokens(), folder));
  }
}

int tokenize(const std::vector<std::string>& arguments) {
  TokenizeOptions options;
  const core::CommandLine line{.name = "data tokenize",
                               .summary = "Turn text files into token data for training.",
                               .options = core::list_options(options),
                               .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  require_text("input", !options.input.empty());
  require_text("out", !options.out.empty());
  data::TokenizeRequest request;
  request.inputs = options.input;
  request.text_key = options.text_key;
  request.part = data::InputPart::parse(options.shard);
  request.folder = options.out;
  const text::Tokenizer tokenizer = tokenizer_of(options.tokenizer);
  request.end_of_text = end_token(tokenizer, options);
  std::optional<core::Progress> progress;
  request.progress = [&](int64_t done, int64_t all, int64_t tokens) {
    if (!progress) {
      progress.emplace("tokenize", all / 1'000'000, "MB");
    }
    progress->update(done / 1'000'000, fmt::format("{} tokens", tokens));
  };
  const data::TokenManifest manifest = data::tokenize_documents(tokenizer, request);
  progress.reset();
  write_manifest_line(manifest, options.out, options.common.json);
  return 0;
}

int merge(const std::vector<std::string>& arguments) {
  core::CommonOptions options;
  std::string folder;
  const core::CommandLine line{
      .name = "data merge",
      .summary = "Make one whole of the parts that adze data tokenize --shard has made.",
      .options = core::list_options(options),
      .positionals = {{"FOLDER", &folder, "the --out of the parts"}}};
  if (!begin(line, arguments, options)) {
    return 0;
  }
  write_manifest_line(data::merge_token_data(folder), folder, options.json);
  return 0;
}

struct TrainTokenizerOptions {
  std::vector<std::string> input;
  std::string out;
  std::string text_key = "text";
  data::TokenizerTrainingOptions training;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("input", self.input, "patterns of files, as in adze data tokenize");
    visit("out", self.out, "folder for tokenizer.json");
    visit("text-key", self.text_key, "key of a document's text in JSONL");
    visit("", self.training, "");
    visit("", self.common, "");
  }
};

void count_words(const TrainTokenizerOptions& options, data::WordCounts& words) {
  data::DocumentReader reader(data::matching_files(options.input), {});
  core::Progress progress("count words", reader.bytes_total() / 1'000'000, "MB");
  std::vector<std::string> texts;
  size_t bytes = 0;
  data::RawDocument document;
  bool more = true;
  while (more) {
    more = reader.next(document);
    if (more) {
      texts.push_back(data::document_text(document, options.text_key));
      bytes += texts.back().size();
    }
    if (bytes > 16'000'000 || !more) {
      words.add(texts);
      texts.clear();
      bytes = 0;
      progress.update(reader.bytes_read() / 1'000'000);
    }
  }
}

int train_tokenizer(const std::vector<std::string>& arguments) {
  TrainTokenizerOptions options;
  const core::CommandLine line{.name = "data train-tokenizer",
                               .summary = "Learn a byte-level BPE tokenizer from text files.",
                               .options = core::list_options(options),
                               .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  require_text("input", !options.input.empty());
  require_text("out", !options.out.empty());
  options.training.validate();
  const std::filesystem::path folder = options.out;
  for (const char* name : data::kTokenizerFiles) {
    if (std::filesystem::exists(folder / name)) {
      throw core::error("data", "{} exists; nothing is overwritten", (folder / name).string());
    }
  }
  data::WordCounts words(options.training.pre_tokenizer);
  count_words(options, words);
  const auto merges = data::learn_merges(words.counts(), options.training.vocab_size - 257);
  const text::TokenizerSpec spec =
      data::byte_pair_tokenizer(merges, options.training.pre_tokenizer);
  std::filesystem::create_directories(folder);
  data::write_tokenizer_files(folder, spec, std::nullopt);
  if (static_cast<int64_t>(spec.tokens.size()) < options.training.vocab_size) {
    write_notice(fmt::format("note: the text gave {} tokens, fewer than {}",
                             spec.tokens.size(),
                             options.training.vocab_size));
  }
  if (options.common.json) {
    write_json_line({{"folder", options.out},
                     {"vocab_size", spec.tokens.size()},
                     {"merges", merges.size()},
                     {"words", words.counts().size()}});
  } else {
    write_output(fmt::format("{} tokens in {}\n", spec.tokens.size(), options.out));
  }
  return 0;
}

struct InspectOptions {
  std::string out;
  int64_t shortest = 64;
  int64_t longest = 8192;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("out", self.out, "file for a drawing of the lengths (SVG)");
    visit("shortest", self.shortest, "buckets: rows of the shortest sequences, a power of two");
    visit("longest", self.longest, "buckets: rows of the longest, a power of two");
    visit("", self.common, "");
  }
};

std::vector<LengthBin> length_bins(const data::TokenData& data) {
  std::vector<LengthBin> bins;
  for (int64_t document = 0; document < data.num_documents(); ++document) {
    const int64_t length = data.length(document);
    const auto bin = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(length)) - 1);
    while (bins.size() <= bin) {
      const int64_t first = int64_t{1} << bins.size();
      bins.push_back({first, 2 * first - 1});
    }
    ++bins[bin].documents;
    bins[bin].tokens += length;
  }
  return bins;
}

int inspect(const std::vector<std::string>& arguments) {
  InspectOptions options;
  std::string folder;
  const core::CommandLine line{
      .name = "data inspect",
      .summary = "Show what is in token data: documents, lengths, buckets; compares checksums.",
      .options = core::list_options(options),
      .positionals = {{"FOLDER", &folder, "made by adze data tokenize"}}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  const decomposition::DecompositionOptions buckets{.shortest = options.shortest,
                                                    .longest = options.longest};
  buckets.validate("data inspect");
  const data::TokenData data(folder, true);
  const std::vector<LengthBin> bins = length_bins(data);
  if (!options.out.empty()) {
    core::AtomicFile file(options.out);
    file.write(draw_length_histogram(bins));
    file.commit();
  }
  auto histogram = nlohmann::ordered_json::array();
  for (const LengthBin& bin : bins) {
    histogram.push_back(
        {{"from", bin.from}, {"to", bin.to}, {"documents", bin.documents}, {"tokens", bin.tokens}});
  }
  auto counts = nlohmann::ordered_json::array();
  std::string text =
      fmt::format("{} documents, {} tokens, vocabulary {}\n\nlength        documents     tokens\n",
                  data.num_documents(),
                  data.num_tokens(),
                  data.vocab_size());
  for (const LengthBin& bin : bins) {
    text += fmt::format("{:>6}-{:<6} {:>10} {:>10}\n", bin.from, bin.to, bin.documents, bin.tokens);
  }
  text += "\nbucket        sequences    targets\n";
  for (const decomposition::BucketCount& count : decomposition::count_buckets(data, buckets)) {
    counts.push_back(
        {{"length", count.rows}, {"sequences", count.sequences}, {"tokens", count.targets}});
    text += fmt::format("{:>6}        {:>10} {:>10}\n", count.rows, count.sequences, count.targets);
  }
  if (options.common.json) {
    nlohmann::ordered_json object = manifest_json(data.manifest(), folder);
    object["length_histogram"] = histogram;
    object["buckets"] = counts;
    write_json_line(object);
  } else {
    write_output(text);
  }
  return 0;
}

}  // namespace

core::Command data_command() {
  return command_group("data",
                       "Token data for training: tokenize, merge, train-tokenizer, inspect",
                       {{"tokenize", "Turn text files into token data", tokenize},
                        {"merge", "Join parts of token data", merge},
                        {"train-tokenizer", "Learn a byte-level BPE tokenizer", train_tokenizer},
                        {"inspect", "Show what is in token data", inspect}});
}

}  // namespace adze::cli
