#pragma once
// Text files -> token data (token_data.h). A pure map over documents: the same input gives the same
// bytes at any number of threads, and parts made apart (--shard) are, merged, the whole.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/documents.h"
#include "data/token_data.h"
#include "text/tokenizer.h"

namespace adze::data {

struct TokenizeRequest {
  std::vector<std::string> inputs;  // patterns of files
  std::string text_key = "text";    // of JSONL objects
  InputPart part;
  int32_t end_of_text = 0;  // put behind every document
  std::filesystem::path folder;
  // Called now and then: bytes of the input read, bytes in all, tokens so far.
  std::function<void(int64_t, int64_t, int64_t)> progress = [](int64_t, int64_t, int64_t) {};
};

// Writes the shard, the tokenizer and, where the part is the whole, the manifest; else a part's
// manifest that merge_token_data reads. Special tokens in the text are plain text. Documents
// without a token are left out. Returns the (part's) manifest. Throws core::Error: nothing is
// overwritten but a tokenizer by the same one, no documents at all, a text without UTF-8, ...
TokenManifest tokenize_documents(const text::Tokenizer& tokenizer, const TokenizeRequest& request);

// Makes one manifest of the parts that are in the folder. Throws core::Error: a part is missing, or
// parts disagree about the tokenizer.
TokenManifest merge_token_data(const std::filesystem::path& folder);

}  // namespace adze::data
