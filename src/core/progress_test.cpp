#include "core/progress.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace adze::core {
namespace {

// Under a test stderr is no terminal: one line at the end.
template <class Use>
std::string printed(Use&& use) {
  testing::internal::CaptureStderr();
  use();
  return testing::internal::GetCapturedStderr();
}

TEST(Progress, PrintsOneFinalLineWhereThereIsNoTerminal) {
  const std::string text = printed([] {
    Progress progress("reading", 10, "chunks");
    for (int64_t done = 0; done <= 10; ++done) {
      progress.update(done);
    }
    progress.finish("perplexity 19.03");
    progress.finish("again");
  });
  EXPECT_TRUE(text.starts_with("reading 10/10 chunks, ")) << text;
  EXPECT_NE(text.find("chunks/s"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with(", perplexity 19.03\n")) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST(Progress, FinishesWithTheScope) {
  const std::string text = printed([] {
    Progress progress("reading", 10, "chunks");
    progress.update(4, "stopped");
  });
  EXPECT_TRUE(text.starts_with("reading 4/10 chunks, ")) << text;
  EXPECT_NE(text.find("stopped"), std::string::npos);
}

TEST(Progress, WorksWithoutATotal) {
  const std::string text = printed([] {
    Progress progress("fetching", 0, "MB");
    progress.update(3);
  });
  EXPECT_TRUE(text.starts_with("fetching 3 MB, ")) << text;
  EXPECT_EQ(text.find("3/0"), std::string::npos);
}

}  // namespace
}  // namespace adze::core
