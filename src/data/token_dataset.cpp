#include "data/token_dataset.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/parallel.h"
#include "data/tokenizer_files.h"
#include "text/utf8.h"

namespace adze::data {
namespace {

constexpr size_t kBlockBytes = size_t{8} << 20;  // of text that is tokenised together

std::string part_manifest_name(const InputPart& part) {
  return fmt::format("part-{:05}-of-{:05}.json", part.index, part.count);
}

std::string shard_name(const InputPart& part) {
  return fmt::format("shard-{:05}-of-{:05}", part.index, part.count);
}

void check_is_new(const std::filesystem::path& file) {
  if (std::filesystem::exists(file)) {
    throw core::error("data", "{} exists; nothing is overwritten", file.string());
  }
}

std::vector<int32_t> encode(const text::Tokenizer& tokenizer,
                            const TokenizeRequest& request,
                            const RawDocument& raw) {
  const std::string text = document_text(raw, request.text_key);
  if (const size_t valid = text::valid_prefix(text); valid < text.size()) {
    throw core::error("data",
                      "{}: byte {}: expected UTF-8, got 0x{:02x}",
                      raw.file->string(),
                      valid,
                      static_cast<unsigned char>(text[valid]));
  }
  std::vector<int32_t> ids = tokenizer.encode(text, text::SpecialTokens::kPlain);
  if (!ids.empty()) {
    ids.push_back(request.end_of_text);
  }
  return ids;
}

}  // namespace

TokenManifest tokenize_documents(const text::Tokenizer& tokenizer, const TokenizeRequest& request) {
  const bool whole = request.part.count == 1;
  const auto manifest_file =
      request.folder / (whole ? kTokenManifest : part_manifest_name(request.part));
  check_is_new(request.folder / kTokenManifest);
  check_is_new(manifest_file);
  check_tokenizer_files(request.folder, tokenizer.spec());
  DocumentReader reader(matching_files(request.inputs), request.part);
  std::filesystem::create_directories(request.folder);

  TokenManifest manifest;
  manifest.vocab_size = tokenizer.vocab_size();
  manifest.token_bytes = manifest.vocab_size <= 0x10000 ? 2 : 4;
  manifest.end_of_text = request.end_of_text;
  TokenShardWriter writer(request.folder, shard_name(request.part), manifest.token_bytes);
  int64_t tokens = 0;
  std::vector<RawDocument> block;
  bool more = true;
  while (more) {
    block.clear();
    for (size_t bytes = 0; more && bytes < kBlockBytes;) {
      RawDocument document;
      more = reader.next(document);
      if (more) {
        bytes += document.content.size();
        block.push_back(std::move(document));
      }
    }
    std::vector<std::vector<int32_t>> ids(block.size());
    core::parallel_items(static_cast<int64_t>(block.size()), 1, [&](int64_t item) {
      const auto i = static_cast<size_t>(item);
      ids[i] = encode(tokenizer, request, block[i]);
    });
    for (const std::vector<int32_t>& document : ids) {
      if (!document.empty()) {
        writer.append(document);
        tokens += static_cast<int64_t>(document.size());
      }
    }
    request.progress(reader.bytes_read(), reader.bytes_total(), tokens);
  }
  if (whole && tokens == 0) {
    throw core::error("data", "input: expected documents with text, got none");
  }
  manifest.shards.push_back(writer.finish());
  write_tokenizer_files(request.folder, tokenizer.spec(), std::nullopt);
  manifest.tokenizer_sha256 = formats::sha256_file(request.folder / "tokenizer.json");
  write_token_manifest(manifest_file, manifest);
  return manifest;
}

TokenManifest merge_token_data(const std::filesystem::path& folder) {
  check_is_new(folder / kTokenManifest);
  std::vector<std::filesystem::path> found;
  if (std::filesystem::is_directory(folder)) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("part-") && name.ends_with(".json")) {
        found.push_back(entry.path());
      }
    }
  }
  if (found.empty()) {
    throw core::error("data",
                      "{}: expected parts that adze data tokenize --shard I/N has made, got none",
                      folder.string());
  }
  std::sort(found.begin(), found.end());
  const auto count = static_cast<int64_t>(found.size());
  TokenManifest merged;
  for (int64_t index = 0; index < count; ++index) {
    const auto file = folder / part_manifest_name({index, count});
    if (found[static_cast<size_t>(index)] != file) {
      throw core::error("data",
                        "{}: expected all parts of one number, got {} files of which {} is none",
                        folder.string(),
                        count,
                        found[static_cast<size_t>(index)].filename().string());
    }
    const TokenManifest part = read_token_manifest(file);
    if (index == 0) {
      merged = part;
      continue;
    }
    if (part.tokenizer_sha256 != merged.tokenizer_sha256 ||
        part.end_of_text != merged.end_of_text || part.token_bytes != merged.token_bytes) {
      throw core::error("data", "{}: expected the tokenizer of the first part", file.string());
    }
    merged.shards.insert(merged.shards.end(), part.shards.begin(), part.shards.end());
  }
  if (merged.tokens() == 0) {
    throw core::error("data", "input: expected documents with text, got none");
  }
  write_token_manifest(folder / kTokenManifest, merged);
  return merged;
}

}  // namespace adze::data
