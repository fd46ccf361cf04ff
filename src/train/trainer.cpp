#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include <sys/resource.h>

#include "core/check.h"
#include "core/error.h"
#include "data/batch_source.h"
#include "data/token_data.h"
#include "data/tokenizer_files.h"
#include "kernels/optimizer_update/optimizer_update.h"
#include "kv/rotation.h"
#include "model/architectures.h"
#include "model/checkpoint.h"
#include "model/kv_sharing.h"
#include "model/load_model.h"
#include "model/trainable_model.h"
#include "tensor/memory.h"
#include "tensor/process_group.h"
#include "tensor/threads.h"
#include "train/gradient_exchange.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/run_catalogue.h"
#include "train/run_documents.h"
#include "train/run_folder.h"
#include "train/sharded_optimizer.h"

namespace adze::train {
namespace {

constexpr const char* kSummary = "summary.json";
constexpr const char* kDocuments = "documents_sha256";  // in a checkpoint's info
constexpr int64_t kMostSkips = 50;                      // in a row: the run has diverged

core::TensorType save_type(const std::string& name) {
  if (name == "f32") {
    return core::TensorType::kF32;
  }
  return name == "f16" ? core::TensorType::kF16 : core::TensorType::kBF16;
}

// The highest resident memory of this process so far.
int64_t peak_memory_bytes() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

// What a resumed run goes on with beside values and optimiser.
struct Progress {
  int64_t step = 0;  // done
  int64_t tokens = 0;
  int64_t skipped = 0;
  int64_t skipped_in_a_row = 0;
  double loss = std::numeric_limits<double>::quiet_NaN();             // of the last step
  double validation_loss = std::numeric_limits<double>::quiet_NaN();  // of the last evaluation
  double seconds = 0;                                                 // of steps

  nlohmann::ordered_json to_json() const {
    return {{"step", step},
            {"tokens", tokens},
            {"skipped", skipped},
            {"skipped_in_a_row", skipped_in_a_row},
            {"loss", loss},
            {"validation_loss", validation_loss},
            {"seconds", seconds}};
  }
  static Progress from_json(const nlohmann::json& json) {
    const auto number = [&](const char* name) {
      return json.at(name).is_null() ? std::numeric_limits<double>::quiet_NaN()
                                     : json.at(name).get<double>();
    };
    return {json.at("step").get<int64_t>(),
            json.at("tokens").get<int64_t>(),
            json.at("skipped").get<int64_t>(),
            json.at("skipped_in_a_row").get<int64_t>(),
            number("loss"),
            number("validation_loss"),
            json.at("seconds").get<double>()};
  }
};

nlohmann::ordered_json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

class Run {
 public:
  Run(const TrainOptions& options,
      const std::filesystem::path& model_path,
      const tensor::ProcessGroup& group,
      const TrainHooks& hooks)
      : options_(options), hooks_(hooks), group_(group) {
    open_data();
    make_model(model_path);
    source_ = data::make_batch_source(
        options.batches,
        *training_,
        {.step_tokens = options.step_tokens, .steps = options.steps, .seed = options.seed});
    if (source_->longest() > model_->model().spec.context_length) {
      throw core::error("train",
                        "batches: expected sequences of at most {} rows, the model's "
                        "context-length, got {}",
                        model_->model().spec.context_length,
                        source_->longest());
    }
    rotation_ =
        std::make_unique<kv::Rotation>(model_->model().spec, model_->model().spec.context_length);
    plan_validation();
    int64_t longest = source_->longest();
    for (const data::TrainingSequence& sequence : validation_plan_) {
      longest = std::max(longest, sequence.rows());
    }
    rotation_->reserve_positions(longest);
    optimizer_ =
        std::make_unique<ShardedOptimizer>(group, parameters_of(*model_), options.optimizer);
  }

  // folder: of process 0; null in the others.
  void resume(RunFolder* folder) {
    ShardedOptimizer::WholeState state = optimizer_->whole_state();
    std::string info;
    if (folder != nullptr) {
      if (const auto loaded = folder->load_checkpoint(parts(state), hooks_.notice)) {
        info = loaded->dump();
      }
    }
    if (const std::string known = from_first(info); !known.empty()) {
      const nlohmann::json state_info = nlohmann::json::parse(known);
      // Checkpoints of older programs do not say.
      if (state_info.value(kDocuments, documents_) != documents_) {
        throw core::error("train",
                          "data: expected the documents that the run began with, got others in {}",
                          options_.data);
      }
      progress_ = Progress::from_json(state_info);
      group_.broadcast(value_bytes(), 0);
      optimizer_->scatter(state);
      if (folder != nullptr) {
        hooks_.notice(fmt::format("resuming after step {}", progress_.step));
      }
    }
    if (folder != nullptr) {
      folder->cut_metrics(progress_.step);
    }
  }

  TrainSummary run(RunFolder* folder) {
    while (progress_.step < options_.steps) {
      const bool stopped = step(folder) && progress_.step < options_.steps;
      const bool last = progress_.step == options_.steps;
      const int64_t every = options_.evaluate_every;
      if (!validation_plan_.empty() && (last || (every > 0 && progress_.step % every == 0))) {
        evaluate(folder);
      }
      if (stopped || last || progress_.step % options_.checkpoint_every == 0) {
        save(folder);
      }
      if (stopped) {
        return {};
      }
    }
    if (folder == nullptr) {
      await_end();  // process 0 writes the model
      return {true, {}};
    }
    const std::filesystem::path result = write_result(*folder);
    TrainSummary summary{true, {}};
    summary.json = {{"steps", progress_.step},
                    {"tokens", progress_.tokens},
                    {"train_loss", number_or_null(progress_.loss)},
                    {"validation_loss", number_or_null(progress_.validation_loss)},
                    {"tokens_per_second", tokens_per_second()},
                    {"peak_memory_bytes", peak_memory_bytes()},
                    {"parameters", model_->num_parameters()},
                    {"skipped_steps", progress_.skipped},
                    {"workers", group_.size()},
                    {options_.factors.rank > 0 ? "adapter" : "model", result.string()}};
    folder->write_json(kSummary, summary.json);
    await_end();
    return summary;
  }

 private:
  // All steps are done, so a process that has left, or takes longer to write than others wait,
  // fails nobody.
  void await_end() const {
    try {
      group_.barrier();
    } catch (const core::Error& failure) {
      hooks_.notice(failure.what());
    }
  }

  void open_data() {
    auto all = std::make_unique<data::TokenData>(options_.data, options_.verify_data);
    if (options_.validation_data) {
      validation_ =
          std::make_unique<data::TokenData>(*options_.validation_data, options_.verify_data);
      if (validation_->manifest().tokenizer_sha256 != all->manifest().tokenizer_sha256) {
        throw core::error(
            "train", "validation-data: expected the tokenizer of {}, got another", options_.data);
      }
    } else if (options_.validation_documents > 0) {
      const int64_t border = all->num_documents() - options_.validation_documents;
      if (border < 1) {
        throw core::error(
            "train",
            "validation-documents: expected fewer than the {} documents of {}, got {}",
            all->num_documents(),
            options_.data,
            options_.validation_documents);
      }
      validation_ = std::make_unique<data::TokenData>(all->documents(border, all->num_documents()));
      all = std::make_unique<data::TokenData>(all->documents(0, border));
    }
    training_ = std::move(all);
    if (training_->num_tokens() < 2) {
      throw core::error("train", "data: expected documents with text in {}", options_.data);
    }
    documents_ = documents_sha256(*training_, validation_.get());
  }

  void make_model(const std::filesystem::path& path) {
    const int64_t vocab_size = training_->vocab_size();
    if (!options_.model) {
      model_ = std::make_unique<model::TrainableModel>(new_model_spec(options_.shape, vocab_size));
      model::initialise(*model_, options_.seed);
      return;
    }
    const model::Checkpoint checkpoint = model::open_checkpoint(path);
    if (checkpoint.spec.vocab_size < vocab_size) {
      throw core::error("train",
                        "data: expected ids below {}, the rows of {}'s embedding, got a vocabulary "
                        "of {}",
                        checkpoint.spec.vocab_size,
                        *options_.model,
                        vocab_size);
    }
    check_tokenizer(*options_.model,
                    model::read_tokenizer(checkpoint),
                    data::tokenizer_spec(training_->folder()));
    chat_template_ = model::read_chat_template(checkpoint);
    if (options_.factors.rank > 0) {
      base_ = model::load_model(checkpoint, kernels::Arithmetic::kF32);
      model_ = std::make_unique<model::TrainableModel>(*base_, options_.factors);
      model::initialise_factors(*model_, options_.seed);
      return;
    }
    model_ = std::make_unique<model::TrainableModel>(checkpoint.spec);
    model::read_values(*model_, checkpoint);
  }

  // Returns its folder.
  std::filesystem::path write_result(const RunFolder& folder) const {
    if (options_.factors.rank > 0) {
      model::write_factors(*model_, options_.factors, *options_.model, folder.adapter_path());
      return folder.adapter_path();
    }
    model::write_model(*model_,
                       save_type(options_.save_type),
                       training_->folder(),
                       folder.model_path(),
                       chat_template_);
    return folder.model_path();
  }

  // Each document alone, cut where the model's context ends.
  void plan_validation() {
    if (!validation_) {
      return;
    }
    const int64_t context = model_->model().spec.context_length;
    int64_t left = options_.validation_tokens;
    for (int64_t document = 0; document < validation_->num_documents() && left > 0; ++document) {
      int64_t place = validation_->start(document);
      const int64_t end = validation_->start(document + 1);
      while (end - place > 1 && left > 0) {
        const int64_t rows = std::min({context, end - place - 1, left});
        validation_plan_.push_back({{{place, rows + 1}}, 0});
        place += rows;
        left -= rows;
      }
    }
  }

  std::span<std::byte> value_bytes() const {
    return std::as_writable_bytes(std::span(model_->values(), static_cast<size_t>(model_->size())));
  }

  std::vector<RunFolder::Part> parts(const ShardedOptimizer::WholeState& state) const {
    return {{"values.bin", {value_bytes()}}, {"optimizer.bin", state.pieces}};
  }

  // Process 0's text.
  std::string from_first(std::string text) const {
    auto size = static_cast<int64_t>(text.size());
    group_.broadcast(std::as_writable_bytes(std::span(&size, 1)), 0);
    text.resize(static_cast<size_t>(size));
    group_.broadcast(std::as_writable_bytes(std::span(text)), 0);
    return text;
  }

  void save(const RunFolder* folder) const {
    ShardedOptimizer::WholeState state = optimizer_->whole_state();
    optimizer_->gather(state);
    if (folder != nullptr) {
      nlohmann::ordered_json info = progress_.to_json();
      info[kDocuments] = documents_;
      folder->save_checkpoint(progress_.step, info, parts(state), options_.keep_checkpoints);
    }
  }

  // Sequences of a step for this process, as micro-batches: whatever their number, each process
  // gets its share.
  std::vector<std::span<const data::TrainingSequence>> own_parts(
      std::span<const data::TrainingSequence> plan, int64_t all_rows) const {
    const int64_t rows =
        std::min(options_.micro_batch_tokens, (all_rows + group_.size() - 1) / group_.size());
    const auto all = data::micro_batches(plan, rows);
    std::vector<std::span<const data::TrainingSequence>> own;
    for (size_t i = 0; i < all.size(); ++i) {
      if (std::cmp_equal(i % static_cast<size_t>(group_.size()), group_.rank())) {
        own.push_back(all[i]);
      }
    }
    return own;
  }

  // One optimiser step: gradients of all micro-batches of all processes, each weighted by the
  // targets of the whole step, so that the sum is the gradient of one large batch. Returns whether
  // somebody asked to stop.
  bool step(RunFolder* folder) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<data::TrainingSequence> plan = source_->plan(progress_.step);
    int64_t targets = 0;
    for (const data::TrainingSequence& sequence : plan) {
      targets += sequence.targets();
    }
    core::check(targets > 0, "a step with targets");
    const auto size = static_cast<size_t>(model_->size());
    std::fill_n(model_->gradients(), size, 0.0F);
    double shared[2] = {0, hooks_.stopped() ? 1.0 : 0.0};  // Σ losses; who wants to stop
    LossOptions loss_options{.scale = 1 / static_cast<double>(targets),
                             .z_loss = options_.z_loss,
                             .activations = options_.checkpoint_activations
                                                ? model::Activations::kRecomputed
                                                : model::Activations::kKept};
    GradientExchange exchange(group_, *model_);
    const auto parts = own_parts(plan, options_.step_tokens);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (group_.size() > 1 && i + 1 == parts.size()) {
        loss_options.above_is_done = [&](int64_t layer) { exchange.above_is_done(layer); };
      }
      shared[0] += add_gradients(
          model_->model(), *rotation_, data::read_batch(*training_, parts[i]), loss_options);
    }
    exchange.finish();
    group_.sum(std::span(shared));
    const double loss = shared[0] / static_cast<double>(targets);
    const double norm = std::sqrt(kernels::sum_of_squares(model_->gradients(), model_->size()));
    const double rate = learning_rate_at(options_.schedule, progress_.step, options_.steps);
    const bool finite = std::isfinite(loss) && std::isfinite(norm);
    if (finite) {
      const double limit = options_.clip_norm.value_or(optimizer_->usual_clip_norm());
      optimizer_->step(rate, limit > 0 && norm > limit ? limit / norm : 1.0);
    }
    ++progress_.step;
    progress_.tokens += targets;
    progress_.loss = loss;
    progress_.skipped += finite ? 0 : 1;
    progress_.skipped_in_a_row = finite ? 0 : progress_.skipped_in_a_row + 1;
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    progress_.seconds += seconds;
    if (folder != nullptr) {
      nlohmann::ordered_json row{{"step", progress_.step},
                                 {"loss", number_or_null(loss)},
                                 {"learning_rate", rate},
                                 {"gradient_norm", number_or_null(norm)},
                                 {"tokens", progress_.tokens},
                                 {"targets", targets},
                                 {"sequences", plan.size()},
                                 {"seconds", seconds},
                                 {"tokens_per_second", tokens_per_second()}};
      if (!finite) {
        row["skipped"] = true;
      }
      folder->add_metrics(row);
      hooks_.on_step(progress_.step, loss, tokens_per_second());
    }
    if (progress_.skipped_in_a_row == kMostSkips) {
      throw core::error("train",
                        "step {}: loss or gradients were not finite for {} steps in a row; a lower "
                        "learning-rate may help",
                        progress_.step,
                        kMostSkips);
    }
    return shared[1] > 0;
  }

  void evaluate(RunFolder* folder) {
    double sum = 0;
    int64_t targets = 0;
    for (const data::TrainingSequence& sequence : validation_plan_) {
      targets += sequence.targets();
    }
    for (const auto& part : own_parts(validation_plan_, options_.micro_batch_tokens)) {
      sum += loss_sum(model_->model(), *rotation_, data::read_batch(*validation_, part));
    }
    group_.sum(std::span(&sum, 1));
    progress_.validation_loss = sum / static_cast<double>(targets);
    if (folder != nullptr) {
      folder->add_metrics({{"step", progress_.step},
                           {"validation_loss", number_or_null(progress_.validation_loss)},
                           {"validation_tokens", targets},
                           {"tokens", progress_.tokens}});
    }
  }

  double tokens_per_second() const {
    return progress_.seconds > 0 ? static_cast<double>(progress_.tokens) / progress_.seconds : 0;
  }

  const TrainOptions& options_;
  const TrainHooks& hooks_;
  const tensor::ProcessGroup& group_;
  std::unique_ptr<data::TokenData> training_;
  std::unique_ptr<data::TokenData> validation_;
  std::string documents_;  // their checksum
  std::vector<data::TrainingSequence> validation_plan_;
  model::ModelPtr base_;                      // of an adapter
  std::optional<std::string> chat_template_;  // of the model that is gone on with
  std::unique_ptr<model::TrainableModel> model_;
  std::unique_ptr<data::BatchSource> source_;
  std::unique_ptr<kv::Rotation> rotation_;
  std::unique_ptr<ShardedOptimizer> optimizer_;
  Progress progress_;
};

void require(bool holds, const char* field, int64_t value, const char* legal) {
  if (!holds) {
    throw core::InvalidOption(field, std::to_string(value), legal);
  }
}

// A resumed run keeps its options, but for those that change no number.
void check_config(const std::filesystem::path& out, const nlohmann::json& now) {
  const auto before = read_json(out / kConfig);
  if (!before || !before->is_object()) {
    return;
  }
  for (const auto& [name, value] : now.items()) {
    const bool free = name == "checkpoint-every" || name == "keep-checkpoints" ||
                      name == "verify-data" || name == "save-type" || name == "worker-timeout" ||
                      name == "checkpoint-activations";
    if (!free && before->contains(name) && nlohmann::json((*before)[name]) != value) {
      throw core::error("train",
                        "{}: expected {} as the run began, got {}",
                        name,
                        (*before)[name].dump(),
                        value.dump());
    }
  }
}

}  // namespace

model::ModelSpec new_model_spec(const ModelShapeOptions& shape, int64_t vocab_size) {
  model::ModelSpec spec;
  spec.architecture = shape.architecture;
  spec.name = "adze";
  model::set_architecture_constants(spec);  // throws where the name is unknown
  if (shape.architecture != "llama" && shape.architecture != "mistral" &&
      shape.architecture != "qwen2" && shape.architecture != "qwen3") {
    throw core::InvalidOption(
        "architecture", shape.architecture, "llama, mistral, qwen2 or qwen3 for a new model");
  }
  spec.vocab_size = vocab_size;
  spec.hidden_size = shape.hidden_size;
  spec.intermediate_size = shape.intermediate_size;
  spec.num_layers = shape.num_layers;
  spec.heads = shape.heads;
  spec.kv_heads = shape.kv_heads;
  if (shape.heads < 1 || shape.hidden_size % shape.heads != 0) {
    throw core::InvalidOption(
        "heads", std::to_string(shape.heads), fmt::format("a divisor of {}", shape.hidden_size));
  }
  if (shape.num_layers < 1 || shape.num_layers > 4096) {
    throw core::InvalidOption("layers", std::to_string(shape.num_layers), "1 to 4096");
  }
  spec.head_dim = shape.hidden_size / shape.heads;
  spec.context_length = shape.context_length;
  spec.ropes = {{.base = shape.rope_base, .dims = spec.head_dim, .scaling = {}}};
  spec.tied_output = shape.tied_output;
  spec.kv_source =
      shape.kv_source.empty() ? model::own_kv_sources(shape.num_layers) : shape.kv_source;
  if (shape.separate_norms && spec.kv_source == model::own_kv_sources(shape.num_layers)) {
    throw core::InvalidOption(
        "separate-norms", "true", "false where kv-source has every layer read its own");
  }
  spec.key_value_norm = shape.separate_norms;
  return spec;
}

void TrainOptions::validate() const {
  constexpr int64_t kMost = int64_t{1} << 40;
  if (data.empty()) {
    throw core::UsageError("[train] expected --data, got none");
  }
  if (validation_data && validation_documents > 0) {
    throw core::UsageError("[train] expected validation-data or validation-documents, got both");
  }
  require(validation_documents >= 0, "validation-documents", validation_documents, "0 or more");
  require(validation_tokens >= 1, "validation-tokens", validation_tokens, "1 or more");
  require(step_tokens >= 1 && step_tokens <= kMost, "step-tokens", step_tokens, "1 to 2^40");
  require(micro_batch_tokens >= 1 && micro_batch_tokens <= int64_t{1} << 30,
          "micro-batch-tokens",
          micro_batch_tokens,
          "1 to 2^30");
  require(steps >= 1 && steps <= kMost, "steps", steps, "1 to 2^40");
  require(evaluate_every >= 0, "evaluate-every", evaluate_every, "0 or more");
  require(checkpoint_every >= 1, "checkpoint-every", checkpoint_every, "1 or more");
  require(keep_checkpoints >= 1 && keep_checkpoints <= 1'000'000,
          "keep-checkpoints",
          keep_checkpoints,
          "1 to 1000000");
  if (!(worker_timeout >= 1 && worker_timeout <= 86400)) {
    throw core::InvalidOption("worker-timeout", fmt::format("{}", worker_timeout), "1 to 86400");
  }
  if (clip_norm && !(*clip_norm >= 0 && *clip_norm <= 1e6)) {
    throw core::InvalidOption("clip-norm", fmt::format("{}", *clip_norm), "0 to 1e6");
  }
  if (!(z_loss >= 0 && z_loss <= 1)) {
    throw core::InvalidOption("z-loss", fmt::format("{}", z_loss), "0 to 1");
  }
  if (save_type != "f32" && save_type != "f16" && save_type != "bf16") {
    throw core::InvalidOption("save-type", save_type, "f32, f16 or bf16");
  }
  schedule.validate();
  factors.validate();
  if (factors.rank > 0 && !model) {
    throw core::UsageError("[train] lora-rank: expected a model to add factors to, got none");
  }
}

TrainSummary train(const TrainOptions& options,
                   const std::filesystem::path& model_path,
                   const std::filesystem::path& out,
                   bool resume,
                   const TrainHooks& hooks) {
  options.validate();
  TrainOptions effective = options;
  const nlohmann::json config = core::options_to_json(core::list_options(effective));
  const tensor::ProcessPlace place = tensor::ProcessPlace::from_environment();
  tensor::use_libtorch_threads();
  tensor::reuse_tensor_memory();
  const tensor::ProcessGroup group(place, options.worker_timeout);
  if (group.rank() == 0) {
    check_folder(out, resume);
    check_config(out, config);
  }
  double finished = 0;
  std::optional<nlohmann::ordered_json> summary;
  if (group.rank() == 0) {
    summary = read_json(out / kSummary);
    finished = summary ? 1 : 0;
  }
  group.sum(std::span(&finished, 1));
  if (finished > 0) {
    return {true, summary.value_or(nlohmann::ordered_json())};
  }
  Run run(
      options, model_path, group, hooks);  // whatever is wrong with the options leaves no folder
  std::optional<RunFolder> folder;
  if (group.rank() == 0) {
    folder.emplace(out, resume);
  }
  RunFolder* own_folder = folder ? &*folder : nullptr;
  const auto catalogue = [&](const char* state, const nlohmann::ordered_json& what) {
    try {
      if (folder) {
        RunCatalogue().set(out, state, config, what);
      }
    } catch (const core::Error& failure) {  // a run is worth more than its entry
      hooks.notice(failure.what());
    }
  };
  if (resume) {
    run.resume(own_folder);
  }
  if (folder) {
    folder->write_json(kConfig, config);  // where resuming is refused, the old one stays
  }
  catalogue("running", nullptr);
  TrainSummary result = run.run(own_folder);
  catalogue(result.finished ? "finished" : "stopped", result.json);
  return result;
}

}  // namespace adze::train
