#include "tensor/process_group.h"

#include <cstdlib>
#include <future>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace adze::tensor {
namespace {

TEST(ProcessPlace, IsWhatTorchrunSays) {
  const std::map<std::string, std::string> variables = {{"WORLD_SIZE", "4"},
                                                        {"RANK", "3"},
                                                        {"MASTER_ADDR", "10.0.0.1"},
                                                        {"MASTER_PORT", "4711"},
                                                        {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                                        {"TORCHELASTIC_RESTART_COUNT", "2"}};
  for (const auto& [name, value] : variables) {
    ::setenv(name.c_str(), value.c_str(), 1);
  }
  const ProcessPlace place = ProcessPlace::from_environment();
  for (const auto& [name, value] : variables) {
    ::unsetenv(name.c_str());
  }
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.size, 4);
  EXPECT_EQ(place.address, "10.0.0.1");
  EXPECT_EQ(place.port, 4711);
  EXPECT_TRUE(place.launcher_listens);
  EXPECT_EQ(place.attempt, "2");
}

// An agent as torchrun has it: it listens before any process does and stays over all attempts.
TEST(ProcessGroup, JoinsWhereALauncherListens) {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.waitWorkers = false;
  options.useLibUV = false;
  const auto agent = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  for (const char* attempt : {"0", "1"}) {
    const auto sum_of = [&](int64_t rank) {
      const ProcessGroup group({.rank = rank,
                                .size = 2,
                                .port = agent->getPort(),
                                .launcher_listens = true,
                                .attempt = attempt},
                               20);
      double sum = static_cast<double>(rank) + 1;
      group.sum(std::span(&sum, 1));
      return sum;
    };
    std::future<double> other = std::async(std::launch::async, sum_of, 1);
    EXPECT_EQ(sum_of(0), 3.0);
    EXPECT_EQ(other.get(), 3.0);
  }
}

}  // namespace
}  // namespace adze::tensor
