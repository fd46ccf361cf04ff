// adze serve: the models over HTTP.

#include "app/serve_command.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/model_argument.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "data/model_store.h"
#include "eval/cache_lab_page.h"
#include "kv/cache_registry.h"
#include "serve/server.h"

namespace adze::app {
namespace {

constexpr double kSwapGib = 4;

struct ServeOptions {
  std::vector<std::string> model = {cli::kDefaultModel};
  std::vector<std::string> lora;
  std::string compute = infer::LoadOptions().compute;
  std::string host = "127.0.0.1";
  int64_t port = 8080;
  std::optional<std::string> api_key_file;
  std::optional<std::string> cors_origin;
  int64_t max_sequences = 16;
  int64_t max_queue = 1024;
  int64_t step_rows = 256;
  int64_t context = 0;
  std::string kv_store = infer::CacheChoice().store;
  std::string kv_policy = infer::CacheChoice().policy;
  std::optional<double> cache_gib;
  std::optional<double> swap_gib;
  int64_t max_sessions = serve::SessionLimits().most;
  double session_minutes = 60;
  std::optional<std::string> cache_lab;
  double memory_gib = 0;
  int64_t max_tokens = 0;
  double request_timeout = 0;
  int64_t max_connections = 4096;
  int64_t max_body_mib = 16;
  double drain_seconds = 30;
  std::string log_format = "text";
  core::CommonOptions common;

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("model", self.model, "models, each PATH or NAME=PATH; the first one is the default");
    visit("lora", self.lora, "adapters of the first model, NAME=FOLDER, chosen by model: NAME");
    visit("compute", self.compute, "products of quantised weights: int8 or f32");
    visit("host", self.host, "address to bind to; others than loopback are reachable from outside");
    visit("port", self.port, "0 takes a free one");
    visit("api-key-file", self.api_key_file, "keys, one a line; requests then need one of them");
    visit("cors-origin", self.cors_origin, "origin whose pages may call this server; * for all");
    visit("max-sequences", self.max_sequences, "texts computed at once, 1 to 4096");
    visit("max-queue", self.max_queue, "requests that wait; more get 429");
    visit("step-rows", self.step_rows, "prompt tokens a step, 32 to 65536");
    visit("context", self.context, "longest text in tokens; 0 takes the model's trained context");
    visit("kv-store",
          self.kv_store,
          "storage format of the cache where a request names none, NAME[:key=value,...]");
    visit("kv-policy",
          self.kv_policy,
          "which tokens the cache keeps where a request names none, NAME[:key=value,...]");
    visit("cache-gib",
          self.cache_gib,
          "cache of each model; without it a quarter of the memory, divided among the models");
    visit("swap-gib",
          self.swap_gib,
          "disk, in TMPDIR or /var/tmp, for sessions and for texts that make room and cannot be "
          "recomputed; more get 429; without it 4, at most half of what is free");
    visit("max-sessions", self.max_sessions, "kept for each key, 0 to 1048576; more get 429");
    visit("session-minutes", self.session_minutes, "after which an idle session is dropped");
    visit("cache-lab", self.cache_lab, "what adze cache-lab --json wrote, drawn at /lab");
    visit("memory-gib", self.memory_gib, "models and caches together; idle ones go; 0: no limit");
    visit("max-tokens", self.max_tokens, "longest answer in tokens; more get 400; 0: the context");
    visit("request-timeout",
          self.request_timeout,
          "seconds an answer may take before it ends with 504; 0: no limit");
    visit("max-connections", self.max_connections, "open at once, 1 to 100000; more get 503");
    visit("max-body-mib", self.max_body_mib, "longest request, 1 to 1024");
    visit("drain-seconds", self.drain_seconds, "time for running answers after SIGTERM");
    visit("log-format", self.log_format, "access log on stderr: text, json or none");
    visit("", self.common, "");
  }
};

void require(bool legal, std::string_view field, const std::string& value, std::string_view range) {
  if (!legal) {
    throw core::InvalidOption(field, value, range);
  }
}

void ServeOptions::validate() const {
  const auto between = [](std::string_view field, int64_t value, int64_t least, int64_t most) {
    require(value >= least && value <= most,
            field,
            std::to_string(value),
            fmt::format("{} to {}", least, most));
  };
  between("port", port, 0, 65535);
  between("max-sequences", max_sequences, 1, 4096);
  between("max-queue", max_queue, 1, 1 << 20);
  between("step-rows", step_rows, 32, 65536);
  between("context", context, 0, 1 << 30);
  between("max-sessions", max_sessions, 0, 1 << 20);
  between("max-tokens", max_tokens, 0, 1 << 30);
  between("max-connections", max_connections, 1, 100'000);
  between("max-body-mib", max_body_mib, 1, 1024);
  const auto positive = [](std::string_view field, double value, double least) {
    require(value >= least && value <= 1 << 20,
            field,
            fmt::format("{}", value),
            fmt::format("{} to 1048576", least));
  };
  positive("cache-gib", cache_gib.value_or(1), 0.001);
  positive("swap-gib", swap_gib.value_or(0), 0);
  positive("session-minutes", session_minutes, 0.001);
  positive("memory-gib", memory_gib, 0);
  positive("request-timeout", request_timeout, 0);
  positive("drain-seconds", drain_seconds, 0);
  require(log_format == "text" || log_format == "json" || log_format == "none",
          "log-format",
          log_format,
          "text, json or none");
  require(!model.empty(), "model", "none", "at least one model");
  kv::check_store(kv_store);
  kv::make_policy(kv_policy);
}

// Raises the process' limit of open files as far as it goes; returns how many connections it
// allows.
int64_t allowed_connections(int64_t wanted) {
  constexpr int64_t kOtherFiles = 512;  // weights, logs, connections that are turned away
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return wanted;
  }
  const auto needed = static_cast<rlim_t>(wanted + kOtherFiles);
  if (limit.rlim_cur < needed) {
    limit.rlim_cur = std::min(needed, limit.rlim_max);
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  if (limit.rlim_cur >= needed) {
    return wanted;
  }
  const int64_t allowed = std::max<int64_t>(static_cast<int64_t>(limit.rlim_cur) - kOtherFiles, 1);
  std::cerr << fmt::format(
      "max-connections: {} instead of {}, by the limit of open files (ulimit -n)\n",
      allowed,
      wanted);
  return allowed;
}

int64_t bytes_of(double gib) {
  return static_cast<int64_t>(gib * (1 << 30));
}

int64_t quarter_of_memory() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE) / 4;
}

std::shared_ptr<infer::SwapSpace> swap_space(const std::optional<double>& gib) {
  const std::filesystem::path folder = infer::SwapSpace::default_folder();
  std::error_code error;
  const auto free = static_cast<int64_t>(std::filesystem::space(folder, error).available);
  if (error && !gib) {
    return std::make_shared<infer::SwapSpace>(0, folder);
  }
  if (error) {
    throw core::error("swap-gib", "cannot use {}: {}", folder.string(), error.message());
  }
  require(!gib || bytes_of(*gib) <= free,
          "swap-gib",
          fmt::format("{}", gib.value_or(0)),
          fmt::format("at most {:.2f}, what is free in {}",
                      static_cast<double>(free) / (1 << 30),
                      folder.string()));
  const int64_t bytes = gib ? bytes_of(*gib) : std::min(bytes_of(kSwapGib), free / 2);
  return std::make_shared<infer::SwapSpace>(bytes, folder);
}

std::vector<std::string> read_keys(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    throw core::error("api-key-file", "cannot read {}", path);
  }
  std::vector<std::string> keys;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') {
      line.pop_back();
    }
    if (!line.empty()) {
      keys.push_back(line);
    }
  }
  if (keys.empty()) {
    throw core::error("api-key-file", "{}: expected at least one key, got none", path);
  }
  return keys;
}

// NAME=PATH; a path alone is named after its last part.
std::pair<std::string, std::string> name_and_path(const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals != std::string::npos && argument.find('/') > equals) {
    return {argument.substr(0, equals), argument.substr(equals + 1)};
  }
  std::filesystem::path path(argument);
  if (!path.has_filename()) {
    path = path.parent_path();
  }
  return {path.extension() == ".gguf" ? path.stem().string() : path.filename().string(), argument};
}

int serve(const std::vector<std::string>& arguments) {
  ServeOptions options;
  const core::CommandLine line{
      .name = "serve",
      .summary = "Serve models over HTTP: OpenAI's routes, and a page to chat in at /.",
      .options = core::list_options(options),
      .positionals = {}};
  if (!cli::begin(line, arguments, options.common)) {
    return 0;
  }
  options.validate();
  const data::ModelStore store;
  std::vector<serve::ModelEntry> models;
  for (const std::string& argument : options.model) {
    auto [name, path] = name_and_path(argument);
    for (const serve::ModelEntry& other : models) {
      require(other.name != name, "model", argument, "a name of its own (NAME=PATH)");
    }
    models.push_back({name, store.resolve(path)});
  }
  std::vector<serve::AdapterEntry> adapters;
  for (const std::string& argument : options.lora) {
    const size_t equals = argument.find('=');
    require(equals != std::string::npos && equals > 0, "lora", argument, "NAME=FOLDER");
    const std::string name = argument.substr(0, equals);
    const auto named = [&](const auto& other) { return other.name == name; };
    require(std::none_of(models.begin(), models.end(), named) &&
                std::none_of(adapters.begin(), adapters.end(), named),
            "lora",
            argument,
            "a name of its own (NAME=FOLDER)");
    adapters.push_back({name, argument.substr(equals + 1), models.front().name});
  }
  serve::ServerOptions server_options;
  server_options.host = options.host;
  server_options.port = options.port;
  if (options.api_key_file) {
    server_options.keys = read_keys(*options.api_key_file);
  }
  server_options.cors_origin = options.cors_origin;
  server_options.json_log = options.log_format == "json";
  server_options.quiet = options.log_format == "none";
  server_options.drain_seconds = options.drain_seconds;
  server_options.limits.body_bytes = options.max_body_mib << 20;
  // Some of the longest at once, whatever that is.
  server_options.limits.bodies_bytes =
      std::max(server_options.limits.bodies_bytes, 4 * server_options.limits.body_bytes);
  server_options.limits.connections = allowed_connections(options.max_connections);
  if (options.max_tokens > 0) {
    server_options.answers.max_tokens = options.max_tokens;
  }
  if (options.request_timeout > 0) {
    server_options.answers.timeout_seconds = options.request_timeout;
  }
  server_options.sessions.most = options.max_sessions;
  server_options.sessions.idle = std::chrono::duration<double>(options.session_minutes * 60);
  if (options.cache_lab) {
    const core::MappedFile file(*options.cache_lab);
    const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                                file.bytes().size());
    server_options.lab_page = eval::cache_lab_page(
        eval::read_cache_lab(core::parse_json(text, *options.cache_lab), *options.cache_lab));
  }
  serve::ModelHostOptions hosting;
  hosting.loading.compute = options.compute;
  hosting.loading.arithmetic();  // legal
  hosting.scheduling.max_sequences = options.max_sequences;
  hosting.scheduling.max_queue = options.max_queue;
  hosting.scheduling.step_rows = options.step_rows;
  hosting.scheduling.swap = swap_space(options.swap_gib);
  hosting.context = options.context;
  hosting.cache_bytes = options.cache_gib
                            ? bytes_of(*options.cache_gib)
                            : quarter_of_memory() / static_cast<int64_t>(models.size());
  hosting.memory_bytes = bytes_of(options.memory_gib);
  hosting.cache.store = options.kv_store;
  hosting.cache.policy = options.kv_policy;

  // One heap for all threads: few of them allocate much, and each heap more keeps holes of its own.
  // Under the load of tests/serve/soak.py memory then swings by 1 % and not by 4.
  ::mallopt(M_ARENA_MAX, 1);
  serve::Server server(server_options, std::move(models), std::move(adapters), hosting);
  server.load_first();
  const int port = server.listen();
  const bool bracket = options.host.find(':') != std::string::npos;
  std::cerr << fmt::format("listening on http://{}{}{}:{}\n",
                           bracket ? "[" : "",
                           options.host,
                           bracket ? "]" : "",
                           port)
            << std::flush;
  return server.run() ? 0 : 1;
}

}  // namespace

core::Command serve_command() {
  return {"serve", "Serve models over HTTP, with a page to chat in", serve};
}

}  // namespace adze::app
