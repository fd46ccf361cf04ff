#pragma once
// Disk for texts that make room and cannot be recomputed. Room is reserved before a request is
// taken, so that what was begun can always go on. A text's file has no name: it is gone when it is
// closed, however the program ends, and nobody else can open it.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/error.h"

namespace adze::infer {

// Room on disk; gives it back.
class SwapReservation {
 public:
  SwapReservation() = default;
  SwapReservation(SwapReservation&& other) noexcept;
  SwapReservation& operator=(SwapReservation&& other) noexcept;
  ~SwapReservation();

  int64_t bytes() const { return bytes_; }
  SwapReservation split(int64_t bytes);  // takes so many of them, at most all

 private:
  friend class SwapSpace;
  SwapReservation(std::shared_ptr<std::atomic<int64_t>> used, int64_t bytes);

  std::shared_ptr<std::atomic<int64_t>> used_;  // of the space
  int64_t bytes_ = 0;
};

class SavedBytes {
 public:
  SavedBytes(int descriptor, int64_t bytes) : descriptor_(descriptor), bytes_(bytes) {}
  SavedBytes(SavedBytes&& other) noexcept;
  SavedBytes& operator=(SavedBytes&& other) noexcept;
  ~SavedBytes();

  int64_t bytes() const { return bytes_; }
  std::vector<std::byte> read() const;  // throws core::Error

 private:
  int descriptor_ = -1;
  int64_t bytes_ = 0;
};

class SwapSpace {
 public:
  SwapSpace(int64_t bytes, std::filesystem::path folder);

  // TMPDIR, or /var/tmp, which is a disk where /tmp may be memory.
  static std::filesystem::path default_folder();

  int64_t bytes() const { return bytes_; }
  int64_t reserved_bytes() const { return *used_; }
  std::optional<SwapReservation> reserve(int64_t bytes);   // any thread
  SavedBytes save(std::span<const std::byte> data) const;  // throws core::Error: full disk
  const std::filesystem::path& folder() const { return folder_; }

 private:
  int64_t bytes_;
  std::filesystem::path folder_;
  std::shared_ptr<std::atomic<int64_t>> used_ = std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace adze::infer
