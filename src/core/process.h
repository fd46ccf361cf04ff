#pragma once
// Runs another program and waits for it. No shell: arguments reach the program as they are.

#include <string>
#include <vector>

namespace adze::core {

struct ProcessResult {
  int exit_code = 0;   // 128 + signal where a signal ended it
  std::string output;  // stdout; of each stream the last MiB is kept
  std::string errors;  // stderr
};

// arguments[0] is looked up in PATH unless it contains a slash. stdin is empty.
// Throws Error where the program cannot be started; a failing program is a result.
ProcessResult run_process(const std::vector<std::string>& arguments);

}  // namespace adze::core
