#pragma once
// Tokenised documents on disk, read through memory mappings. A folder holds
//
//   manifest.json    what it is: vocabulary, tokenizer, shards with their checksums
//   NAME.tokens      the documents' ids one behind another, u16 or u32, little-endian
//   NAME.lengths     tokens of each document, u32, little-endian
//   tokenizer.json, tokenizer_config.json, special_tokens_map.json
//
// Shards follow each other in the manifest's order; documents and tokens are numbered through.
// A document is never cut between shards and ends with the end-of-text token.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "formats/sha256.h"

namespace adze::data {

struct TokenShard {
  std::string name;
  int64_t documents = 0;
  int64_t tokens = 0;
  std::string tokens_sha256;
  std::string lengths_sha256;
};

struct TokenManifest {
  int64_t vocab_size = 0;
  int64_t token_bytes = 2;            // 2 or 4
  int64_t end_of_text = 0;            // the id behind every document
  std::string tokenizer_sha256 = {};  // of tokenizer.json
  std::vector<TokenShard> shards = {};

  int64_t documents() const;
  int64_t tokens() const;
};

inline constexpr const char* kTokenManifest = "manifest.json";

nlohmann::ordered_json to_json(const TokenManifest& manifest);
// Throws core::Error that names file, field and legal range.
TokenManifest read_token_manifest(const std::filesystem::path& file);
// Complete or absent.
void write_token_manifest(const std::filesystem::path& file, const TokenManifest& manifest);

class TokenData {
 public:
  // Checks sizes and the index of lengths. verify: reads all tokens and compares their checksums.
  // Throws core::Error that names the file and what was expected.
  TokenData(const std::filesystem::path& folder, bool verify);

  const TokenManifest& manifest() const { return manifest_; }
  const std::filesystem::path& folder() const { return folder_; }
  int64_t vocab_size() const { return manifest_.vocab_size; }
  int64_t num_documents() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t num_tokens() const { return starts_.back() - starts_.front(); }
  // Place of a document's first token among all tokens of the files; document num_documents()
  // starts where the last one ends.
  int64_t start(int64_t document) const { return starts_[static_cast<size_t>(document)]; }
  int64_t length(int64_t document) const { return start(document + 1) - start(document); }

  // Documents [begin, end) alone, over the same files; places stay what they are.
  TokenData documents(int64_t begin, int64_t end) const;

  // Tokens [first, first + target.size()). Throws core::Error: an id outside the vocabulary.
  void read(int64_t first, std::span<int32_t> target) const;

 private:
  struct Shard {
    core::MappedFile tokens;
    int64_t first;  // place of its first token
  };

  std::filesystem::path folder_;
  TokenManifest manifest_;
  std::shared_ptr<const std::vector<Shard>> shards_;
  std::vector<int64_t> starts_;  // [documents + 1]
};

// Writes NAME.tokens and NAME.lengths; under other names until finish(), so that what is there
// under these names is complete. Throws core::Error (full disk) naming the file.
class TokenShardWriter {
 public:
  TokenShardWriter(const std::filesystem::path& folder, std::string name, int64_t token_bytes);
  ~TokenShardWriter();
  TokenShardWriter(const TokenShardWriter&) = delete;
  TokenShardWriter& operator=(const TokenShardWriter&) = delete;

  void append(std::span<const int32_t> document);  // 1 to 2^32 - 1 ids below 2^(8 token_bytes)
  TokenShard finish();

 private:
  class File;
  TokenShard shard_;
  int64_t token_bytes_;
  std::unique_ptr<File> tokens_;
  std::unique_ptr<File> lengths_;
};

}  // namespace adze::data
