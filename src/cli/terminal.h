#pragma once
// stdin and stdout of commands: results on stdout, everything else on stderr; under --json the last
// line of stdout is one object.

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/command.h"

namespace adze::cli {

// Throws core::Error where the text cannot be written (full disk, closed pipe).
void write_output(std::string_view text);
// One line; bytes that are not UTF-8 become U+FFFD.
void write_json_line(const nlohmann::ordered_json& object);
void write_notice(std::string_view line);  // stderr

// All of a file, or of stdin where `path` is "-". Throws core::Error: missing, a folder, no read.
std::string read_input(const std::string& path);

// A stranger's text as it may stand on a terminal: one line without control characters.
std::string printable(std::string_view text);
std::string bytes_text(int64_t bytes);  // "98.4 MB": decimal units

// How every command begins: reads its line, then checks the common options and sets threads and
// instruction set. False: the line asked for help, which was printed.
bool begin(const core::CommandLine& line,
           const std::vector<std::string>& arguments,
           const core::CommonOptions& options);

// A command whose first word chooses one of several; its --help shows them all.
core::Command command_group(const std::string& name,
                            const std::string& summary,
                            std::vector<core::Command> commands);

}  // namespace adze::cli
