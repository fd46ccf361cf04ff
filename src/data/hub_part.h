#pragma once
// A file on its way here: TARGET.part holds what has come, TARGET.part.json what it is a part of.
// Both survive whatever ends the program, and the next one goes on from there.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "data/hub_choice.h"
#include "data/hub_digest.h"

namespace adze::data {

class PartFile {
 public:
  // Takes up what an earlier PartFile left, unless it belongs to another content of `file`. Creates
  // the folders above. Throws core::Error: cannot write.
  PartFile(std::filesystem::path target, const HubFile& file);
  ~PartFile();
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  int64_t size() const { return size_; }  // bytes that are here
  // The server's name for the content that they are a part of (RFC 9110, 8.8.3); may be empty.
  const std::string& entity_tag() const { return entity_tag_; }

  // An answer begins whose first byte is byte `offset`: size() or 0, which drops what is here.
  void begin(int64_t offset, const std::string& entity_tag);
  // Throws core::Error: more than the file has, full disk.
  void append(std::span<const std::byte> bytes);
  // Gives the file its name and returns its sha256. Throws core::Error: not all is here; the
  // checksum differs, then the part is removed.
  std::string finish();
  void discard();

 private:
  void read_record();
  void write_record() const;
  void take_up();
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path target_;
  std::filesystem::path part_;
  std::filesystem::path record_;
  HubFile file_;
  FileDigest digest_;
  std::string entity_tag_;
  int64_t size_ = 0;
  int descriptor_ = -1;
};

// Bytes of TARGET.part, 0 where there is none.
int64_t part_size(const std::filesystem::path& target);

}  // namespace adze::data
