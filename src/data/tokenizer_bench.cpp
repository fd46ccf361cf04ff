// Encoding, by kind of tokenizer: bytes of text a second on one thread. The vocabularies are those
// of tests/golden/tokenizers (some 500 tokens), so that tokens are short and more of them are made
// than with a vocabulary of a real size.

#include <filesystem>
#include <fstream>
#include <string>

#include <benchmark/benchmark.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "data/sentencepiece_model.h"
#include "data/tokenizer_json.h"
#include "text/tokenizer.h"

namespace adze::data {
namespace {

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  core::check(static_cast<bool>(file), "run in the repository's root");
  return {std::istreambuf_iterator<char>(file), {}};
}

text::Tokenizer open(const std::string& name) {
  const std::filesystem::path folder = "tests/golden/tokenizers";
  const auto path = folder / (name + ".json");
  if (std::filesystem::exists(path)) {
    return text::Tokenizer(tokenizer_from_json(nlohmann::json::parse(bytes_of(path)), name));
  }
  return text::Tokenizer(sentencepiece_spec(bytes_of(folder / (name + ".model")), name));
}

void encode(benchmark::State& state, const char* name) {
  const text::Tokenizer tokenizer = open(name);
  std::string text;
  while (text.size() < 1'000'000) {
    text += bytes_of("README.md");
  }
  const auto expected = tokenizer.encode(text.substr(0, 1000), text::SpecialTokens::kPlain).size();
  core::check(expected > 100, "few tokens");
  for (auto _ : state) {
    benchmark::DoNotOptimize(tokenizer.encode(text, text::SpecialTokens::kPlain));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}

BENCHMARK_CAPTURE(encode, byte_level_bpe, "bytes");
BENCHMARK_CAPTURE(encode, merges_of_characters, "pairs_prefix");
BENCHMARK_CAPTURE(encode, scores_of_characters, "scored");
BENCHMARK_CAPTURE(encode, unigram, "unigram");
BENCHMARK_CAPTURE(encode, unigram_sentencepiece, "likely");
BENCHMARK_CAPTURE(encode, word_piece, "word_piece");

}  // namespace
}  // namespace adze::data
