#include "core/env.h"

#include <cstdlib>

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::core {
namespace {

// Sets a variable for the life of the object; nullptr unsets it.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name), before_(environment(name)) {
    set(value);
  }
  ~Variable() { set(before_ ? before_->c_str() : nullptr); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  void set(const char* value) {
    if (value == nullptr) {
      ::unsetenv(name_);
    } else {
      ::setenv(name_, value, 1);
    }
  }

  const char* name_;
  std::optional<std::string> before_;
};

TEST(Environment, EmptyCountsAsUnset) {
  const Variable variable("ADZE_TEST_VARIABLE", "");
  EXPECT_FALSE(environment("ADZE_TEST_VARIABLE").has_value());
  const Variable other("ADZE_TEST_VARIABLE", "x");
  EXPECT_EQ(environment("ADZE_TEST_VARIABLE"), "x");
}

TEST(Environment, FoldersFollowXdg) {
  const Variable home("HOME", "/home/someone");
  {
    const Variable data("XDG_DATA_HOME", "/data");
    const Variable cache("XDG_CACHE_HOME", "/cache");
    EXPECT_EQ(data_folder(), "/data/adze");
    EXPECT_EQ(cache_folder(), "/cache/adze");
  }
  for (const char* ignored : {static_cast<const char*>(nullptr), "", "relative"}) {
    const Variable data("XDG_DATA_HOME", ignored);
    const Variable cache("XDG_CACHE_HOME", ignored);
    EXPECT_EQ(data_folder(), "/home/someone/.local/share/adze");
    EXPECT_EQ(cache_folder(), "/home/someone/.cache/adze");
  }
}

TEST(Environment, NeedsSomeHome) {
  const Variable home("HOME", nullptr);
  const Variable data("XDG_DATA_HOME", nullptr);
  EXPECT_THROW(data_folder(), Error);
}

}  // namespace
}  // namespace adze::core
