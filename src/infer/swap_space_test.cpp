#include "infer/swap_space.h"

#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

namespace adze::infer {
namespace {

TEST(SwapSpace, PromisesNoMoreThanItHas) {
  SwapSpace space(100, "/tmp");
  auto first = space.reserve(60);
  ASSERT_TRUE(first);
  EXPECT_FALSE(space.reserve(41));
  auto second = space.reserve(40);
  ASSERT_TRUE(second);
  {
    const SwapReservation part = first->split(25);
    EXPECT_EQ(part.bytes(), 25);
    EXPECT_EQ(first->bytes(), 35);
    EXPECT_EQ(space.reserved_bytes(), 100);
  }
  EXPECT_EQ(space.reserved_bytes(), 75);
  EXPECT_EQ(first->split(1000).bytes(), 35);
  EXPECT_EQ(space.reserved_bytes(), 40);
  second.reset();
  EXPECT_EQ(space.reserved_bytes(), 0);
}

TEST(SwapSpace, FilesHaveNoName) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("adze-swap-test-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  const SwapSpace space(100, folder);
  std::vector<std::byte> data;
  for (int i = 0; i < 100000; ++i) {
    data.push_back(static_cast<std::byte>(i % 251));
  }
  const SavedBytes saved = space.save(data);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  EXPECT_EQ(saved.bytes(), 100000);
  EXPECT_EQ(saved.read(), data);
  EXPECT_EQ(saved.read(), data);
  EXPECT_TRUE(space.save({}).read().empty());
  std::filesystem::remove(folder);
}

TEST(SwapSpace, SaysWhatIsWrong) {
  const SwapSpace space(100, "/nonexistent");
  try {
    space.save({});
    FAIL();
  } catch (const core::Error& error) {
    EXPECT_NE(std::string(error.what()).find("/nonexistent"), std::string::npos);
  }
}

}  // namespace
}  // namespace adze::infer
