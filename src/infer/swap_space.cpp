#include "infer/swap_space.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "core/write_all.h"

namespace adze::infer {

SwapReservation::SwapReservation(std::shared_ptr<std::atomic<int64_t>> used, int64_t bytes)
    : used_(std::move(used)), bytes_(bytes) {}

SwapReservation::SwapReservation(SwapReservation&& other) noexcept
    : used_(std::move(other.used_)), bytes_(std::exchange(other.bytes_, 0)) {}

SwapReservation& SwapReservation::operator=(SwapReservation&& other) noexcept {
  std::swap(used_, other.used_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

SwapReservation::~SwapReservation() {
  if (used_) {
    *used_ -= bytes_;
  }
}

SwapReservation SwapReservation::split(int64_t bytes) {
  bytes = std::min(bytes, bytes_);
  bytes_ -= bytes;
  return {used_, bytes};
}

SavedBytes::SavedBytes(SavedBytes&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), bytes_(other.bytes_) {}

SavedBytes& SavedBytes::operator=(SavedBytes&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

SavedBytes::~SavedBytes() {
  if (descriptor_ >= 0) {
    close(descriptor_);
  }
}

std::vector<std::byte> SavedBytes::read() const {
  std::vector<std::byte> data(static_cast<size_t>(bytes_));
  for (size_t done = 0; done < data.size();) {
    const ssize_t count =
        pread(descriptor_, data.data() + done, data.size() - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      throw core::error(
          "swap", "cannot read {} bytes back: {}", bytes_, count < 0 ? strerror(errno) : "it ends");
    }
    done += static_cast<size_t>(count);
  }
  return data;
}

SwapSpace::SwapSpace(int64_t bytes, std::filesystem::path folder)
    : bytes_(bytes), folder_(std::move(folder)) {}

std::filesystem::path SwapSpace::default_folder() {
  const char* chosen = std::getenv("TMPDIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : "/var/tmp";
}

std::optional<SwapReservation> SwapSpace::reserve(int64_t bytes) {
  int64_t used = *used_;
  do {
    if (bytes > bytes_ - used) {
      return std::nullopt;
    }
  } while (!used_->compare_exchange_weak(used, used + bytes));
  return SwapReservation(used_, bytes);
}

SavedBytes SwapSpace::save(std::span<const std::byte> data) const {
  std::string name = (folder_ / "adze-swap-XXXXXX").string();
  const int descriptor = mkostemp(name.data(), O_CLOEXEC);  // mode 0600
  if (descriptor < 0) {
    throw core::error("swap", "cannot make a file in {}: {}", folder_.string(), strerror(errno));
  }
  unlink(name.c_str());
  SavedBytes saved(descriptor, static_cast<int64_t>(data.size()));
  if (!core::write_all(descriptor, data)) {
    throw core::error("swap",
                      "cannot write {} bytes to {}: {}",
                      saved.bytes(),
                      folder_.string(),
                      strerror(errno));
  }
  return saved;
}

}  // namespace adze::infer
