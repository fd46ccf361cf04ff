#include "serve/api_error.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "infer/scheduler.h"
#include "kv/page_pool.h"

namespace adze::serve {
namespace {

TEST(ToApiError, OnlyTheCallersFaultsAre400) {
  EXPECT_EQ(to_api_error(core::InvalidOption("top-k", "x", "a number")).status(), 400);
  EXPECT_EQ(to_api_error(core::InvalidOption("top-k", "x", "a number")).body()["error"]["param"],
            "top_k");
  EXPECT_EQ(to_api_error(infer::ContextExceeded("[prompt] too long")).status(), 400);
  EXPECT_EQ(to_api_error(infer::QueueFull("[queue] full")).status(), 429);
  EXPECT_EQ(to_api_error(infer::DeadlinePassed("[timeout_seconds] over")).status(), 504);
  EXPECT_EQ(to_api_error(kv::CacheFull("[cache] full")).status(), 503);
  EXPECT_EQ(to_api_error(std::bad_alloc()).status(), 500);
}

TEST(ToApiError, FaultsOfOursTellNothing) {
  const ApiError error = to_api_error(core::error("gguf", "/secret/model.gguf: expected a tensor"));
  EXPECT_EQ(error.status(), 500);
  EXPECT_EQ(std::string(error.what()).find("secret"), std::string::npos);
}

}  // namespace
}  // namespace adze::serve
