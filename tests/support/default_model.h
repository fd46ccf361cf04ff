#pragma once
// The default model, for tests that need real weights. Loaded once a program and arithmetic; a
// machine without it skips these tests.

#include <map>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "core/error.h"
#include "data/model_store.h"
#include "infer/loaded_model.h"

namespace adze::infer {

// Null, with the reason, where the model has not been pulled. A model that is there and cannot be
// read is an error.
inline const LoadedModel* default_model(const std::string& compute, std::string* reason) {
  static std::map<std::string, LoadedModel> loaded;
  const auto found = loaded.find(compute);
  if (found != loaded.end()) {
    return &found->second;
  }
  std::filesystem::path path;
  try {
    path = data::ModelStore().resolve("smollm2-135m");
  } catch (const core::Error& failure) {
    *reason = failure.what();
    return nullptr;
  }
  return &loaded.emplace(compute, load_model(path, {.compute = compute})).first->second;
}

class DefaultModelTest : public testing::Test {
 protected:
  // As users run it, or in the exact arithmetic.
  explicit DefaultModelTest(std::string compute = LoadOptions().compute)
      : compute_(std::move(compute)) {}

  void SetUp() override {
    std::string reason;
    loaded_ = default_model(compute_, &reason);
    if (loaded_ == nullptr) {
      GTEST_SKIP() << reason;
    }
  }

  std::string compute_;
  const LoadedModel* loaded_ = nullptr;
};

}  // namespace adze::infer
