#include "data/hub_part.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/atomic_file.h"
#include "core/error.h"
#include "formats/quote_untrusted.h"

namespace adze::data {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLargestRecord = 4096;

fs::path with_ending(const fs::path& path, const char* ending) {
  fs::path longer = path;
  longer += ending;
  return longer;
}

// Equal contents have equal ones; empty where the hub states none.
const std::string& checksum(const HubFile& file) {
  return file.sha256.empty() ? file.git_blob : file.sha256;
}

}  // namespace

PartFile::PartFile(fs::path target, const HubFile& file)
    : target_(std::move(target)),
      part_(with_ending(target_, ".part")),
      record_(with_ending(target_, ".part.json")),
      file_(file),
      digest_(file) {
  std::error_code failure;
  fs::create_directories(target_.parent_path(), failure);
  descriptor_ = ::open(part_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    fail("open");
  }
  read_record();
  take_up();
}

PartFile::~PartFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

void PartFile::fail(const char* action) const {
  throw core::error("pull", "cannot {} {}: {}", action, part_.string(), std::strerror(errno));
}

// Sets size_ to what may be kept, 0 where the record is missing or of other content.
void PartFile::read_record() {
  std::string text(kLargestRecord, '\0');
  std::ifstream stream(record_, std::ios::binary);
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(stream.gcount()));
  const auto record = nlohmann::json::parse(text, nullptr, false);
  try {
    const auto tag = record.at("entity_tag").get<std::string>();
    const bool identified = !checksum(file_).empty() || !tag.empty();
    if (identified && record.at("checksum").get<std::string>() == checksum(file_) &&
        record.at("bytes").get<int64_t>() == file_.bytes) {
      size_ = part_size(target_);
      entity_tag_ = tag;
    }
  } catch (const nlohmann::json::exception&) {
    // Missing or cut off: begin anew.
  }
  if (size_ > file_.bytes) {
    size_ = 0;
  }
}

void PartFile::write_record() const {
  const nlohmann::ordered_json record = {
      {"checksum", checksum(file_)}, {"bytes", file_.bytes}, {"entity_tag", entity_tag_}};
  core::AtomicFile file(record_);
  file.write(record.dump() + "\n");
  file.commit();
}

// What is here goes through the checksum again: it is compared at the end, over all bytes.
void PartFile::take_up() {
  if (::ftruncate(descriptor_, size_) != 0) {
    fail("write");
  }
  std::vector<std::byte> buffer(size_t{1} << 20);
  for (int64_t done = 0; done < size_;) {
    const size_t wanted = std::min<size_t>(buffer.size(), static_cast<size_t>(size_ - done));
    const ssize_t count = ::pread(descriptor_, buffer.data(), wanted, done);
    if (count <= 0) {
      fail("read");
    }
    digest_.update(std::span(buffer).first(static_cast<size_t>(count)));
    done += count;
  }
}

void PartFile::begin(int64_t offset, const std::string& entity_tag) {
  if (offset != 0 && offset != size_) {
    throw core::error("pull", "expected bytes from {}, got bytes from {}", size_, offset);
  }
  if (offset == 0) {
    size_ = 0;
    digest_ = FileDigest(file_);
    if (::ftruncate(descriptor_, 0) != 0) {
      fail("write");
    }
  }
  if (offset == 0 || entity_tag != entity_tag_) {
    entity_tag_ = entity_tag;
    write_record();
  }
}

void PartFile::append(std::span<const std::byte> bytes) {
  if (static_cast<int64_t>(bytes.size()) > file_.bytes - size_) {
    throw core::error("pull",
                      "{}: expected {} bytes, as listed, got more",
                      formats::quote_untrusted(file_.path),
                      file_.bytes);
  }
  digest_.update(bytes);
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(descriptor_, bytes.data(), bytes.size(), size_);
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      fail("write");
    }
    bytes = bytes.subspan(static_cast<size_t>(count));
    size_ += count;
  }
}

std::string PartFile::finish() {
  if (size_ != file_.bytes) {
    throw core::error("pull",
                      "{}: expected {} bytes, got {}",
                      formats::quote_untrusted(file_.path),
                      file_.bytes,
                      size_);
  }
  const DigestResult result = digest_.finish();
  if (!result.problem.empty()) {
    discard();
    throw core::error("pull",
                      "{} came damaged and was removed: {}; pull again",
                      formats::quote_untrusted(file_.path),
                      result.problem);
  }
  if (::fsync(descriptor_) != 0 || ::rename(part_.c_str(), target_.c_str()) != 0) {
    fail("finish");
  }
  std::error_code ignored;
  fs::remove(record_, ignored);
  return result.sha256;
}

void PartFile::discard() {
  std::error_code ignored;
  fs::remove(record_, ignored);
  fs::remove(part_, ignored);
}

int64_t part_size(const fs::path& target) {
  std::error_code missing;
  const auto bytes = fs::file_size(with_ending(target, ".part"), missing);
  return missing ? 0 : static_cast<int64_t>(bytes);
}

}  // namespace adze::data
