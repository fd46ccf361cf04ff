#include "core/markup.h"

#include <gtest/gtest.h>

namespace adze::core {
namespace {

TEST(Markup, EscapesWhatWouldEndTextOrAValue) {
  EXPECT_EQ(escape_markup("a <b onload=\"x\"> & 'c' ü"),
            "a &lt;b onload=&quot;x&quot;&gt; &amp; 'c' ü");
  EXPECT_EQ(escape_markup("&lt;"), "&amp;lt;");
  EXPECT_EQ(escape_markup(""), "");
}

}  // namespace
}  // namespace adze::core
