#include "core/process.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::core {
namespace {

TEST(Process, CapturesBothStreamsAndTheExitCode) {
  const auto result = run_process({"sh", "-c", "printf out; printf err >&2; exit 3"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.output, "out");
  EXPECT_EQ(result.errors, "err");
}

TEST(Process, PassesArgumentsWithoutAShell) {
  const auto result = run_process({"printf", "%s|", "$HOME", "a b", "; exit 1", ""});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.output, "$HOME|a b|; exit 1||");
}

TEST(Process, HasEmptyInput) {
  EXPECT_EQ(run_process({"cat"}).output, "");
}

TEST(Process, ReadsStreamsThatAreLargerThanAPipe) {
  const auto result =
      run_process({"sh", "-c", "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; echo end"});
  EXPECT_EQ(result.output.size(), 300'004U);
  EXPECT_EQ(result.errors.size(), 300'000U);
}

TEST(Process, KeepsTheEndOfEndlessOutput) {
  const auto result = run_process({"sh", "-c", "head -c 5000000 /dev/zero; echo end"});
  EXPECT_EQ(result.output.size(), size_t{1} << 20);
  EXPECT_TRUE(result.output.ends_with("end\n"));
}

TEST(Process, ReportsSignals) {
  EXPECT_EQ(run_process({"sh", "-c", "kill -9 $$"}).exit_code, 128 + 9);
}

TEST(Process, NamesAProgramThatIsMissing) {
  try {
    run_process({"no-such-program-here"});
    FAIL();
  } catch (const Error& failure) {
    EXPECT_NE(std::string(failure.what()).find("no-such-program-here"), std::string::npos);
  }
}

}  // namespace
}  // namespace adze::core
