#include "train/event_file.h"

#include <vector>

#include <gtest/gtest.h>

namespace adze::train {
namespace {

TEST(EventFile, ChecksumsAreThoseOfTheStandard) {
  // RFC 3720, appendix B.4, and the usual check value.
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

TEST(EventFile, AnEventIsTheBytesOfItsMessage) {
  const std::vector<Scalar> scalars = {{"loss", 1.5}};
  // wall_time 2.0, step 300, summary { value { tag: "loss" simple_value: 1.5 } }, by hand.
  const std::string expected(
      "\x09\0\0\0\0\0\0\0\x40"
      "\x10\xAC\x02"
      "\x2A\x0D\x0A\x0B\x0A\x04loss\x15\0\0\xC0\x3F",
      27);
  EXPECT_EQ(scalars_event(2.0, 300, scalars), expected);
}

TEST(EventFile, FramesHoldLengthAndTwoChecksums) {
  const std::string record = frame_record("abc");
  ASSERT_EQ(record.size(), 8 + 4 + 3 + 4U);
  EXPECT_EQ(record.substr(0, 8), std::string("\x03\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 3), "abc");
}

}  // namespace
}  // namespace adze::train
