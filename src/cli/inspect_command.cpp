#include "cli/inspect_command.h"

#include <algorithm>
#include <utility>

#include "cli/model_argument.h"
#include "cli/model_summary.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "data/model_store.h"
#include "model/kv_sharing.h"

namespace adze::cli {
namespace {

struct InspectOptions {
  bool tensors = false;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("tensors", self.tensors, "list every tensor");
    visit("", self.common, "");
  }
};

template <class T>
nlohmann::ordered_json or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

nlohmann::ordered_json tensor_list(const std::vector<formats::StoredTensor>& tensors) {
  auto list = nlohmann::ordered_json::array();
  for (const formats::StoredTensor& tensor : tensors) {
    list.push_back({{"name", tensor.name},
                    {"type", core::info(tensor.type).name},
                    {"shape", tensor.shape},
                    {"bytes", tensor.data.size()}});
  }
  return list;
}

nlohmann::ordered_json to_json(const ModelSummary& summary, const std::filesystem::path& path) {
  auto types = nlohmann::ordered_json::object();
  for (const auto& [name, total] : summary.types) {
    types[name] = {
        {"tensors", total.tensors}, {"parameters", total.parameters}, {"bytes", total.bytes}};
  }
  return {{"path", path.string()},
          {"architecture", summary.architecture},
          {"name", summary.name},
          {"parameters", summary.parameters},
          {"tensors", summary.tensors},
          {"tensor_bytes", summary.tensor_bytes},
          {"file_bytes", summary.file_bytes},
          {"types", types},
          {"context_length", or_null(summary.context_length)},
          {"num_layers", or_null(summary.num_layers)},
          {"hidden_size", or_null(summary.hidden_size)},
          {"intermediate_size", or_null(summary.intermediate_size)},
          {"heads", or_null(summary.heads)},
          {"kv_heads", or_null(summary.kv_heads)},
          {"head_dim", or_null(summary.head_dim)},
          {"vocab_size", or_null(summary.vocab_size)},
          {"tokenizer", or_null(summary.tokenizer)},
          {"cache_bytes_per_token", or_null(summary.cache_bytes_per_token)},
          {"unshared_cache_bytes_per_token", or_null(summary.unshared_cache_bytes_per_token)},
          {"kv_owners", or_null(summary.kv_owners)},
          {"kv_source", or_null(summary.kv_source)},
          {"chat_template", or_null(summary.chat_template)}};
}

std::string number(const std::optional<int64_t>& value) {
  return value ? std::to_string(*value) : "not stated";
}

std::string parameters_text(int64_t count) {
  const auto value = static_cast<double>(count);
  return value >= 1e9   ? fmt::format("{:.2f} billion ({})", value / 1e9, count)
         : value >= 1e6 ? fmt::format("{:.1f} million ({})", value / 1e6, count)
                        : std::to_string(count);
}

std::string cache_text(const ModelSummary& summary) {
  if (!summary.cache_bytes_per_token) {
    return "not stated";
  }
  const int64_t per_token = *summary.cache_bytes_per_token;
  std::string text = fmt::format("{} a token in f16", bytes_text(per_token));
  int64_t whole = 0;
  if (summary.context_length &&
      !__builtin_mul_overflow(per_token, *summary.context_length, &whole)) {
    text += fmt::format(", {} at full context", bytes_text(whole));
  }
  if (summary.unshared_cache_bytes_per_token != summary.cache_bytes_per_token) {
    text += fmt::format("; without sharing {} a token, which is also what a step reads",
                        bytes_text(summary.unshared_cache_bytes_per_token.value_or(0)));
  }
  return text;
}

std::string sharing_text(const ModelSummary& summary) {
  if (!summary.kv_owners || summary.kv_owners == summary.num_layers) {
    return "every layer has its own";
  }
  const std::string text =
      fmt::format("{} of {} layers have their own", *summary.kv_owners, number(summary.num_layers));
  return summary.kv_source ? text + ": " + model::kv_groups_text(*summary.kv_source)
                           : text + ", the last ones share";
}

std::string table(const ModelSummary& summary, const std::filesystem::path& path) {
  const std::vector<std::pair<const char*, std::string>> rows = {
      {"file", fmt::format("{} ({})", path.string(), bytes_text(summary.file_bytes))},
      {"architecture", summary.architecture.empty() ? "not stated" : summary.architecture},
      {"name", summary.name.empty() ? "not stated" : summary.name},
      {"parameters", parameters_text(summary.parameters)},
      {"context", number(summary.context_length)},
      {"layers", number(summary.num_layers)},
      {"hidden size", number(summary.hidden_size)},
      {"intermediate", number(summary.intermediate_size)},
      {"heads",
       fmt::format("{} for queries, {} for keys and values, {} wide",
                   number(summary.heads),
                   number(summary.kv_heads),
                   number(summary.head_dim))},
      {"vocabulary",
       fmt::format("{} tokens ({})",
                   number(summary.vocab_size),
                   summary.tokenizer.value_or("tokenizer not stated"))},
      {"keys, values", sharing_text(summary)},
      {"cache", cache_text(summary)},
      {"chat template",
       summary.chat_template
           ? fmt::format("yes, {}", bytes_text(static_cast<int64_t>(summary.chat_template->size())))
           : "none"}};
  std::string text;
  for (const auto& [label, value] : rows) {
    text += fmt::format("{:<15} {}\n", label, printable(value));
  }
  text += fmt::format("\n{:<8} {:>8} {:>14} {:>12}\n", "type", "tensors", "parameters", "bytes");
  for (const auto& [name, total] : summary.types) {
    text += fmt::format("{:<8} {:>8} {:>14} {:>12}\n",
                        name,
                        total.tensors,
                        total.parameters,
                        bytes_text(total.bytes));
  }
  text += fmt::format("{:<8} {:>8} {:>14} {:>12}\n",
                      "all",
                      summary.tensors,
                      summary.parameters,
                      bytes_text(summary.tensor_bytes));
  return text;
}

std::string tensor_table(const std::vector<formats::StoredTensor>& tensors) {
  size_t width = 0;
  for (const formats::StoredTensor& tensor : tensors) {
    width = std::max(width, tensor.name.size());
  }
  std::string text = "\n";
  for (const formats::StoredTensor& tensor : tensors) {
    text += fmt::format("{:<{}}  {:<7} {:>10}  [{}]\n",
                        printable(tensor.name),
                        width,
                        core::info(tensor.type).name,
                        bytes_text(static_cast<int64_t>(tensor.data.size())),
                        fmt::join(tensor.shape, ", "));
  }
  return text;
}

void show(const ModelSummary& summary,
          const std::vector<formats::StoredTensor>& tensors,
          const std::filesystem::path& path,
          const InspectOptions& options) {
  if (options.common.json) {
    nlohmann::ordered_json object = to_json(summary, path);
    if (options.tensors) {
      object["tensor_list"] = tensor_list(tensors);
    }
    write_json_line(object);
  } else {
    write_output(table(summary, path) + (options.tensors ? tensor_table(tensors) : ""));
  }
}

int inspect(const std::vector<std::string>& arguments) {
  InspectOptions options;
  std::string model = kDefaultModel;
  const core::CommandLine line{
      .name = "inspect",
      .summary = "Show what is in a model file: sizes, types, context, cache, chat template.",
      .options = core::list_options(options),
      .positionals = {{"MODEL",
                       &model,
                       "a GGUF file, a Hugging Face folder, or a name from adze list"}},
      .optional_positionals = true};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  const std::filesystem::path path = data::ModelStore().resolve(model);
  if (std::filesystem::is_directory(path)) {
    const model::Checkpoint folder = model::open_checkpoint(path);
    show(summarise(folder), folder.tensors, path, options);
  } else {  // any GGUF file, even one without a language model
    const formats::GgufFile file(path);
    show(summarise(file), file.tensors(), path, options);
  }
  return 0;
}

}  // namespace

core::Command inspect_command() {
  return {"inspect", "Show what is in a model file", inspect};
}

}  // namespace adze::cli
