// Debian's Gloo lends the types that c10d's header mentions; the code is libtorch's own.
#define USE_C10D_GLOO

#include "tensor/process_group.h"

#include <charconv>
#include <chrono>
#include <utility>
#include <vector>

#include <ATen/ops/from_blob.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "core/env.h"
#include "core/error.h"

namespace adze::tensor {
namespace {

int64_t number(const char* name, const std::string& text, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    throw core::error("train", "{}: expected {} to {}, got {}", name, least, most, text);
  }
  return value;
}

// The first of the variables that is set.
std::optional<std::pair<const char*, std::string>> first_of(
    std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (auto value = core::environment(name)) {
      return std::pair(name, std::move(*value));
    }
  }
  return std::nullopt;
}

at::Tensor alias(std::byte* memory, size_t count, at::ScalarType type) {
  return at::from_blob(memory, {static_cast<int64_t>(count)}, at::TensorOptions().dtype(type));
}

}  // namespace

ProcessPlace ProcessPlace::from_environment() {
  constexpr int64_t kMost = 1 << 20;
  ProcessPlace place;
  if (const auto size = first_of({"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"})) {
    place.size = number(size->first, size->second, 1, kMost);
  }
  if (place.size == 1) {
    return place;
  }
  const auto rank = first_of({"RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"});
  if (!rank) {
    throw core::error("train", "RANK: expected one beside WORLD_SIZE, got none");
  }
  place.rank = number(rank->first, rank->second, 0, place.size - 1);
  place.address = core::environment("MASTER_ADDR").value_or(place.address);
  if (const auto port = core::environment("MASTER_PORT")) {
    place.port = number("MASTER_PORT", *port, 1, 65535);
  }
  place.launcher_listens = core::environment("TORCHELASTIC_USE_AGENT_STORE") == "True";
  place.attempt = core::environment("TORCHELASTIC_RESTART_COUNT").value_or(place.attempt);
  return place;
}

struct ProcessGroup::Implementation {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group;

  // Runs a part of an operation; whatever libtorch says becomes one line.
  template <class Part>
  static auto told(const char* what, Part&& part) {
    try {
      return part();
    } catch (const std::exception& failure) {
      const std::string text = failure.what();
      throw core::error(
          "train", "{}: a process is lost or late: {}", what, text.substr(0, text.find('\n')));
    }
  }

  std::function<void()> begin_sum(at::Tensor tensor) const {
    std::vector<at::Tensor> tensors = {std::move(tensor)};
    const auto work =
        told("sum", [&] { return group->allreduce(tensors, c10d::AllreduceOptions()); });
    return [work] { told("sum", [&] { work->wait(); }); };
  }
  void sum(at::Tensor tensor) const { begin_sum(std::move(tensor))(); }
};

ProcessGroup::ProcessGroup(const ProcessPlace& place, double timeout_seconds) : place_(place) {
  if (place.size == 1) {
    return;
  }
  const std::chrono::milliseconds timeout(static_cast<int64_t>(timeout_seconds * 1000));
  implementation_ = std::make_unique<Implementation>();
  try {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(place.port);
    options.isServer = place.rank == 0 && !place.launcher_listens;
    options.numWorkers = static_cast<size_t>(place.size);
    options.timeout = timeout;
    options.useLibUV = false;
    // The agent's store outlives a failed attempt, and so do the keys in it.
    implementation_->store = c10::make_intrusive<c10d::PrefixStore>(
        "adze/attempt-" + place.attempt,
        c10::make_intrusive<c10d::TCPStore>(place.address, options));
    auto group_options = c10d::ProcessGroupGloo::Options::create(timeout);
    group_options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice(false));
    implementation_->group =
        c10::make_intrusive<c10d::ProcessGroupGloo>(implementation_->store,
                                                    static_cast<int>(place.rank),
                                                    static_cast<int>(place.size),
                                                    group_options);
  } catch (const std::exception& failure) {
    const std::string text = failure.what();
    throw core::error("train",
                      "cannot join {} processes at {}:{}: {}",
                      place.size,
                      place.address,
                      place.port,
                      text.substr(0, text.find('\n')));
  }
}

ProcessGroup::~ProcessGroup() = default;

void ProcessGroup::sum(std::span<float> values) const {
  if (implementation_) {
    implementation_->sum(alias(std::as_writable_bytes(values).data(), values.size(), at::kFloat));
  }
}

std::function<void()> ProcessGroup::begin_sum(std::span<float> values) const {
  if (!implementation_) {
    return [] {};
  }
  return implementation_->begin_sum(
      alias(std::as_writable_bytes(values).data(), values.size(), at::kFloat));
}

void ProcessGroup::sum(std::span<double> values) const {
  if (implementation_) {
    implementation_->sum(alias(std::as_writable_bytes(values).data(), values.size(), at::kDouble));
  }
}

void ProcessGroup::broadcast(std::span<std::byte> bytes, int64_t root) const {
  if (!implementation_ || bytes.empty()) {
    return;
  }
  std::vector<at::Tensor> tensors = {alias(bytes.data(), bytes.size(), at::kByte)};
  c10d::BroadcastOptions options;
  options.rootRank = root;
  Implementation::told("broadcast",
                       [&] { implementation_->group->broadcast(tensors, options)->wait(); });
}

void ProcessGroup::barrier() const {
  double one = 1;
  sum(std::span(&one, 1));
}

}  // namespace adze::tensor
