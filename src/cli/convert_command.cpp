// adze convert: a model in another format or another element type.

#include "cli/convert_command.h"

#include <algorithm>
#include <filesystem>

#include "cli/model_argument.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "core/progress.h"
#include "core/tensor_type.h"
#include "data/model_store.h"
#include "methods/cross_layer_attention/cross_layer_attention.h"
#include "model/convert.h"
#include "model/kv_sharing.h"

namespace adze::cli {
namespace {

struct ConvertOptions {
  ModelOptions model;
  std::string to = "gguf";
  std::optional<std::string> out;
  std::string type;
  std::string cla;
  core::CommonOptions common;

  void validate() const {
    if (to != "gguf" && to != "hf") {
      throw core::InvalidOption("to", to, "gguf or hf");
    }
    if (!out) {
      throw core::UsageError("[convert] expected --out, got none");
    }
  }

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("to", self.to, "gguf (one file) or hf (a Hugging Face folder)");
    visit("out",
          self.out,
          "what to write; for gguf a name that ends in .gguf, or a folder to put model.gguf in");
    visit("type",
          self.type,
          "f32 f16 bf16, for gguf also q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k_s q4_k_m q5_k_m "
          "q6_k iq4_nl iq4_xs; without it the types stay, and hf gets f16 for quantised weights");
    visit("cla",
          self.cla,
          "a copy whose layers share keys and values, for further training, which it needs: a "
          "factor (2, 3:remainder=last), keep-ends, dense-front, dense-back, or each layer's owner "
          "(0,0,2,2); owners get the mean of their group, without --type in f16 where that was "
          "quantised");
    visit("", self.common, "");
  }
};

core::TensorType float_type(const ConvertOptions& options, const model::Checkpoint& checkpoint) {
  if (options.type.empty()) {
    return model::natural_float_type(checkpoint);
  }
  const auto type = core::tensor_type_from_name(options.type);
  if (type != core::TensorType::kF32 && type != core::TensorType::kF16 &&
      type != core::TensorType::kBF16) {
    throw core::InvalidOption("type", options.type, "f32, f16 or bf16 for --to hf");
  }
  return *type;
}

std::filesystem::path gguf_path(const std::filesystem::path& out) {
  return out.extension() == ".gguf" ? out : out / "model.gguf";
}

// Writing over the model that is being read would destroy it.
void refuse_same(const std::filesystem::path& source, const std::filesystem::path& target) {
  std::error_code ignored;
  if (std::filesystem::equivalent(source, target, ignored)) {
    throw core::InvalidOption("out", target.string(), "another place than the model's own");
  }
}

nlohmann::ordered_json fallback_list(const model::ConversionReport& report) {
  auto list = nlohmann::ordered_json::array();
  for (const model::TypeFallback& fallback : report.fallbacks) {
    list.push_back({{"tensor", fallback.tensor},
                    {"wanted", core::info(fallback.wanted).name},
                    {"used", core::info(fallback.used).name}});
  }
  return list;
}

std::string sharing_text(const model::ModelSpec& spec) {
  return fmt::format("{} of {} layers own keys and values: {}",
                     spec.owning_layers().size(),
                     spec.num_layers,
                     model::kv_groups_text(spec.kv_source));
}

void print(const model::ConversionReport& report,
           const std::optional<model::ModelChange>& change,
           const std::filesystem::path& target) {
  std::string text = fmt::format(
      "{}: {} tensors, {}\n", target.string(), report.tensors, bytes_text(report.tensor_bytes));
  if (change) {
    text += fmt::format("  {}; until it is trained, its answers are poor\n",
                        sharing_text(change->spec));
  }
  for (const model::TypeFallback& fallback : report.fallbacks) {
    text += fmt::format("  {}: {} instead of {}, whose blocks its rows do not fill\n",
                        printable(fallback.tensor),
                        core::info(fallback.used).name,
                        core::info(fallback.wanted).name);
  }
  for (const std::string& name : report.ignored) {
    text += fmt::format("  left out, not used by a text model: {}\n", printable(name));
  }
  write_output(text);
}

int convert(const std::vector<std::string>& arguments) {
  ConvertOptions options;
  const core::CommandLine line{
      .name = "convert",
      .summary = "Write a model as a GGUF file or as a Hugging Face folder, in other types.",
      .options = core::list_options(options),
      .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  options.validate();
  const model::Checkpoint checkpoint =
      model::open_checkpoint(data::ModelStore().resolve(options.model.model));
  std::optional<model::ModelChange> change;
  if (!options.cla.empty()) {
    change = methods::sharing_copy(checkpoint,
                                   methods::kv_layout(options.cla, checkpoint.spec.num_layers));
  }
  const model::ModelChange* changed = change ? &*change : nullptr;
  std::optional<core::Progress> progress;
  const auto on_tensor = [&](int64_t done, int64_t all, const std::string& name) {
    if (!progress) {
      progress.emplace("convert", all, "tensors");
    }
    progress->update(done, name);
  };
  model::ConversionReport report;
  std::filesystem::path target = *options.out;
  if (options.to == "gguf") {
    target = gguf_path(target);
    refuse_same(checkpoint.path, target);
    if (target.has_parent_path()) {
      std::filesystem::create_directories(target.parent_path());
    }
    report = model::write_gguf_model(checkpoint, options.type, target, on_tensor, changed);
  } else {
    refuse_same(checkpoint.path, target);
    report = model::write_hugging_face_model(
        checkpoint, float_type(options, checkpoint), target, on_tensor, changed);
  }
  if (progress) {
    progress->update(report.tensors);
    progress->finish();
  }
  if (options.common.json) {
    const model::ModelSpec& spec = change ? change->spec : checkpoint.spec;
    write_json_line({{"path", target.string()},
                     {"tensors", report.tensors},
                     {"tensor_bytes", report.tensor_bytes},
                     {"kv_source", spec.kv_source},
                     {"fallbacks", fallback_list(report)},
                     {"left_out", report.ignored}});
  } else {
    print(report, change, target);
  }
  return 0;
}

}  // namespace

core::Command convert_command() {
  return {"convert", "Write a model in another format or type", convert};
}

}  // namespace adze::cli
