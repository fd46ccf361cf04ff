#pragma once
// Several processes that train one model. They find each other as torchrun, mpirun and SLURM start
// them; sums go over c10d inside libtorch (Gloo).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace adze::tensor {

struct ProcessPlace {
  int64_t rank = 0;
  int64_t size = 1;
  std::string address = "127.0.0.1";  // where rank 0 listens
  int64_t port = 29500;
  bool launcher_listens = false;  // torchrun's agent is there already, not rank 0
  std::string attempt = "0";      // torchrun starts all processes again where one fails

  // RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and what else torchrun sets; else Open MPI's or
  // SLURM's numbers of the process with these addresses; else one process. Throws core::Error: a
  // variable that is no number or out of range.
  static ProcessPlace from_environment();
};

class ProcessGroup {
 public:
  // Waits until all have come. timeout_seconds: for that, and for every operation below. Throws
  // core::Error that says so where somebody is missing; so does every operation where one is lost.
  ProcessGroup(const ProcessPlace& place, double timeout_seconds);
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int64_t rank() const { return place_.rank; }
  int64_t size() const { return place_.size; }

  // Every process gets the sum of all, the same bits; in an order that depends on the number of
  // processes alone. Under one process nothing happens.
  void sum(std::span<float> values) const;
  void sum(std::span<double> values) const;
  // Begins such a sum; the function waits for it. `values` must stay until then. Begun by all
  // processes in the same order.
  [[nodiscard]] std::function<void()> begin_sum(std::span<float> values) const;
  // Every process gets what `root` has.
  void broadcast(std::span<std::byte> bytes, int64_t root) const;
  void barrier() const;

 private:
  struct Implementation;
  ProcessPlace place_;
  std::unique_ptr<Implementation> implementation_;  // null where there is one process
};

}  // namespace adze::tensor
