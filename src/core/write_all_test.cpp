#include "core/write_all.h"

#include <cerrno>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace adze::core {
namespace {

// More than a pipe holds: the system takes it in pieces.
TEST(WriteAll, BytesArriveWholeAndInOrder) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::fcntl(ends[0], F_SETPIPE_SZ, 4096), 4096);
  std::vector<std::byte> sent(1'000'003);
  for (size_t i = 0; i < sent.size(); ++i) {
    sent[i] = static_cast<std::byte>(i * 7 / 5);
  }
  std::vector<std::byte> received;
  std::thread reader([&] {
    std::byte block[1000];
    for (ssize_t count = 0; (count = ::read(ends[0], block, sizeof block)) > 0;) {
      received.insert(received.end(), block, block + count);
    }
  });
  EXPECT_TRUE(write_all(ends[1], sent));
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  EXPECT_EQ(received, sent);
}

TEST(WriteAll, SaysWhyItCannot) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  const std::byte byte{};
  EXPECT_TRUE(write_all(full, {}));
  EXPECT_FALSE(write_all(full, {&byte, 1}));
  EXPECT_EQ(errno, ENOSPC);
  ::close(full);
}

}  // namespace
}  // namespace adze::core
