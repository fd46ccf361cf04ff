#include "cli/terminal.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>

#include <fcntl.h>
#include <unistd.h>

#include "core/env.h"
#include "core/error.h"
#include "core/parallel.h"
#include "kernels/simd.h"

namespace adze::cli {

void write_output(std::string_view text) {
  errno = 0;
  std::cout.write(text.data(), static_cast<std::streamsize>(text.size()));
  std::cout.flush();
  if (!std::cout) {
    throw core::error("stdout", "cannot write: {}", std::strerror(errno));
  }
}

void write_json_line(const nlohmann::ordered_json& object) {
  write_output(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void write_notice(std::string_view line) {
  std::cerr << line << '\n';
}

std::string read_input(const std::string& path) {
  const bool terminal = path == "-";
  const int descriptor = terminal ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string text;
  std::array<char, 1 << 16> buffer;
  ssize_t count = descriptor < 0 ? -1 : ::read(descriptor, buffer.data(), buffer.size());
  for (; count > 0; count = ::read(descriptor, buffer.data(), buffer.size())) {
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  const int reason = errno;
  if (!terminal && descriptor >= 0) {
    ::close(descriptor);
  }
  if (count < 0) {
    throw core::error(
        "file", "cannot read {}: {}", terminal ? "stdin" : path, std::strerror(reason));
  }
  return text;
}

std::string printable(std::string_view text) {
  std::string result;
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    result += byte < 0x20 || byte == 0x7f ? ' ' : character;
  }
  // C1 controls, which some terminals obey, are C2 80 to C2 9F in UTF-8.
  for (size_t i = 0; i + 1 < result.size(); ++i) {
    if (result[i] == '\xc2' && static_cast<unsigned char>(result[i + 1]) < 0xa0) {
      result[i] = result[i + 1] = ' ';
    }
  }
  return result;
}

std::string bytes_text(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes < 10'000) {
    return fmt::format("{} B", bytes);
  }
  if (value < 1e6) {
    return fmt::format("{:.1f} kB", value / 1e3);
  }
  return value < 1e9 ? fmt::format("{:.1f} MB", value / 1e6)
                     : fmt::format("{:.2f} GB", value / 1e9);
}

bool begin(const core::CommandLine& line,
           const std::vector<std::string>& arguments,
           const core::CommonOptions& options) {
  if (!core::parse_command_line(line, arguments)) {
    return false;
  }
  options.validate();
  if (options.threads > 0) {
    core::set_num_threads(static_cast<int>(options.threads));
  }
  if (const auto isa = core::forced_isa()) {
    kernels::force_isa(*isa);
  }
  return true;
}

core::Command command_group(const std::string& name,
                            const std::string& summary,
                            std::vector<core::Command> commands) {
  return {name, summary, [=](const std::vector<std::string>& arguments) {
            std::vector<std::string> names;
            for (const core::Command& command : commands) {
              if (!arguments.empty() && command.name == arguments[0]) {
                return command.run({arguments.begin() + 1, arguments.end()});
              }
              names.push_back(command.name);
            }
            if (!arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h")) {
              for (const core::Command& command : commands) {
                command.run({"--help"});
                write_output(&command == &commands.back() ? "" : "\n");
              }
              return 0;
            }
            const std::string given = arguments.empty() ? "none" : arguments[0];
            const std::string nearest = core::nearest_name(given, names);
            throw core::UsageError(
                fmt::format("[{}] expected one of {}, got {}{}",
                            name,
                            fmt::join(names, ", "),
                            given,
                            nearest.empty() ? "" : "; did you mean " + nearest + "?"));
          }};
}

}  // namespace adze::cli
