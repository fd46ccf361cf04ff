#include "core/check.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::core {
namespace {

TEST(Check, PassesSilently) {
  EXPECT_NO_THROW(check(true, "never shown"));
}

TEST(Check, NamesTheCallSiteAndTheParts) {
  try {
    check(1 + 1 == 3, "sum ", 2, " of ", "parts");
    FAIL();
  } catch (const CheckFailure& failure) {
    const std::string message = failure.what();
    EXPECT_NE(message.find("check_test.cpp"), std::string::npos) << message;
    EXPECT_NE(message.find("sum 2 of parts"), std::string::npos) << message;
  }
}

TEST(ErrorMessage, SaysWhereAndWhat) {
  EXPECT_STREQ(error("gguf", "tensor {} ends at byte {}", "a", 7).what(),
               "[gguf] tensor a ends at byte 7");
  EXPECT_STREQ(InvalidOption("top-p", "2", "0 to 1").what(), "[top-p] expected 0 to 1, got 2");
}

}  // namespace
}  // namespace adze::core
