#pragma once
// Documents out of text files: one a line of JSONL (an object with the text under a key), or a
// whole file of plain text. Files may be compressed with gzip or zstd.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace adze::data {

// Part `index` of `count`: documents whose first byte lies in the part-th share of all bytes of the
// files, one behind another as they lie on disk. A compressed file is read by the part in which it
// begins. Parts one behind another are the whole, in order.
struct InputPart {
  int64_t index = 0;
  int64_t count = 1;

  // "2/8"; throws InvalidOption.
  static InputPart parse(const std::string& text);
};

// Files that the patterns (glob(7)) match, each pattern's sorted by name; a file once. Throws
// core::Error: a pattern that matches nothing, a folder.
std::vector<std::filesystem::path> matching_files(const std::vector<std::string>& patterns);

// One document as it lies in its file.
struct RawDocument {
  std::string content;  // the line without its end, or the text
  const std::filesystem::path* file = nullptr;
  int64_t line = 0;  // from 1; 0: the file is one text
};

class DocumentReader {
 public:
  // JSONL: .jsonl, .ndjson and .json, with .gz or .zst behind. All else is plain text.
  DocumentReader(std::vector<std::filesystem::path> files, InputPart part);
  ~DocumentReader();

  // False at the end. Empty lines are passed over. Throws core::Error that names the file: cannot
  // be read, damaged compression, a line of more than 1 GiB.
  bool next(RawDocument& document);
  int64_t bytes_read() const;   // of the files, compressed as they are
  int64_t bytes_total() const;  // of this part

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

// The text of a document. Throws core::Error that names file, line and what was expected: no JSON,
// no object, no string under the key.
std::string document_text(const RawDocument& document, const std::string& key);

}  // namespace adze::data
