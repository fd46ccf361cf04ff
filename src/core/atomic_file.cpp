#include "core/atomic_file.h"

#include <atomic>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "core/error.h"
#include "core/write_all.h"

namespace adze::core {
namespace {

// Two writers of one target, in two processes or in one, must not share a temporary file.
std::string unique_suffix() {
  static std::atomic<int64_t> count = 0;
  return fmt::format(".partial-{}-{}", ::getpid(), count++);
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& target)
    // A link stays a link: what it points to is replaced.
    : target_(std::filesystem::weakly_canonical(target)),
      temporary_(target_.string() + unique_suffix()) {
  // The rename would turn a device or a pipe into a file, /dev/null for all programs.
  if (std::filesystem::exists(target_) && !std::filesystem::is_regular_file(target_)) {
    throw error("file", "expected a regular file or a new name, got {}", target.string());
  }
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) {
    fail("create");
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::fail(const char* action) const {
  throw error("file", "cannot {} {}: {}", action, target_.string(), std::strerror(errno));
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (!write_all(descriptor_, bytes)) {
    fail("write");
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) {
    fail("write");
  }
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0 || ::rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    errno = reason;
    fail("write");
  }
  // The rename itself is durable only once the folder is.
  const auto folder = target_.parent_path().empty() ? "." : target_.parent_path();
  const int folder_descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_descriptor >= 0) {
    ::fsync(folder_descriptor);
    ::close(folder_descriptor);
  }
}

}  // namespace adze::core
