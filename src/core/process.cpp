#include "core/process.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/check.h"
#include "core/error.h"

extern char** environ;  // NOLINT(readability-identifier-naming): POSIX names it

namespace adze::core {
namespace {

constexpr size_t kKeptBytes = 1 << 20;

// The two ends of a pipe, closed on destruction. Both close on exec, so that a program started at
// the same moment by another thread does not keep them open.
class Pipe {
 public:
  Pipe() {
    if (::pipe2(ends_.data(), O_CLOEXEC) != 0) {
      throw error("process", "cannot make a pipe: {}", std::strerror(errno));
    }
  }
  ~Pipe() {
    close_write();
    close_read();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }
  void close_read() { close_end(ends_[0]); }
  void close_write() { close_end(ends_[1]); }

 private:
  static void close_end(int& end) {
    if (end >= 0) {
      ::close(std::exchange(end, -1));
    }
  }

  std::array<int, 2> ends_{-1, -1};
};

class FileActions {
 public:
  FileActions() { check(::posix_spawn_file_actions_init(&actions_) == 0, "file actions"); }
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;

  void redirect(int from, int to) {
    check(::posix_spawn_file_actions_adddup2(&actions_, from, to) == 0, "file actions");
  }
  void empty_input() {
    check(
        ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0,
        "file actions");
  }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

// The program starts with the signals that it expects: ours ignore SIGPIPE.
class SpawnAttributes {
 public:
  SpawnAttributes() {
    check(::posix_spawnattr_init(&attributes_) == 0, "spawn attributes");
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGPIPE);
    ::posix_spawnattr_setsigdefault(&attributes_, &signals);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGDEF);
  }
  ~SpawnAttributes() { ::posix_spawnattr_destroy(&attributes_); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;

  const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_{};
};

pid_t start(const std::vector<std::string>& arguments, const Pipe& output, const Pipe& errors) {
  FileActions actions;
  actions.empty_input();
  actions.redirect(output.write_end(), STDOUT_FILENO);
  actions.redirect(errors.write_end(), STDERR_FILENO);
  const SpawnAttributes attributes;
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));  // POSIX promises not to write
  }
  pointers.push_back(nullptr);
  pid_t process = 0;
  const int reason = ::posix_spawnp(
      &process, pointers[0], actions.get(), attributes.get(), pointers.data(), environ);
  if (reason != 0) {
    throw error("process", "cannot start {}: {}", arguments[0], std::strerror(reason));
  }
  return process;
}

// Takes what is there; closes the pipe at its end.
void read_some(Pipe& pipe, std::string& text) {
  std::array<char, 16384> buffer;
  const ssize_t count = ::read(pipe.read_end(), buffer.data(), buffer.size());
  if (count > 0) {
    text.append(buffer.data(), static_cast<size_t>(count));
    if (text.size() > 2 * kKeptBytes) {
      text.erase(0, text.size() - kKeptBytes);
    }
  } else if (count == 0 || errno != EINTR) {
    pipe.close_read();
  }
}

int wait_for(pid_t process) {
  int status = 0;
  while (::waitpid(process, &status, 0) < 0) {
    check(errno == EINTR, "waitpid: ", std::strerror(errno));
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& arguments) {
  check(!arguments.empty(), "no program");
  Pipe output;
  Pipe errors;
  const pid_t process = start(arguments, output, errors);
  output.close_write();
  errors.close_write();
  ProcessResult result;
  // Both streams at once: a program that fills one pipe while the other is read would wait forever.
  while (output.read_end() >= 0 || errors.read_end() >= 0) {
    std::array<pollfd, 2> waiting{pollfd{output.read_end(), POLLIN, 0},
                                  pollfd{errors.read_end(), POLLIN, 0}};
    if (::poll(waiting.data(), waiting.size(), -1) < 0) {
      check(errno == EINTR, "poll: ", std::strerror(errno));
      continue;
    }
    if (waiting[0].revents != 0) {
      read_some(output, result.output);
    }
    if (waiting[1].revents != 0) {
      read_some(errors, result.errors);
    }
  }
  for (std::string* text : {&result.output, &result.errors}) {
    if (text->size() > kKeptBytes) {
      text->erase(0, text->size() - kKeptBytes);
    }
  }
  result.exit_code = wait_for(process);
  return result;
}

}  // namespace adze::core
