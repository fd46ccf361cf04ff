#pragma once
// The default model, for tests that need real weights. Loaded once a program; a machine without it
// skips these tests.

#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "core/error.h"
#include "data/model_store.h"
#include "infer/loaded_model.h"

namespace adze::infer {

// Null, with the reason, where the model has not been pulled. A model that is there and cannot be
// read is an error.
inline const LoadedModel* default_model(std::string* reason) {
  static std::string missing;
  static const std::optional<LoadedModel> loaded = []() -> std::optional<LoadedModel> {
    std::filesystem::path path;
    try {
      path = data::ModelStore().resolve("smollm2-135m");
    } catch (const core::Error& failure) {
      missing = failure.what();
      return std::nullopt;
    }
    return load_model(path);
  }();
  *reason = missing;
  return loaded ? &*loaded : nullptr;
}

class DefaultModelTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    loaded_ = default_model(&reason);
    if (loaded_ == nullptr) {
      GTEST_SKIP() << reason;
    }
  }

  const LoadedModel* loaded_ = nullptr;
};

}  // namespace adze::infer
