#include "serve/constraints.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "core/error.h"
#include "model/model.h"
#include "serve/tool_calls.h"

namespace adze::serve {
namespace {

using ConstraintPtr = std::shared_ptr<const infer::SamplingConstraint>;

std::vector<uint64_t> no_bits(int64_t rows) {
  return std::vector<uint64_t>((static_cast<size_t>(rows) + 63) / 64);
}

class KnownTokens : public infer::SamplingConstraint {
 public:
  KnownTokens(int64_t known, int64_t rows) {
    std::vector<uint64_t> bits = no_bits(rows);
    for (int64_t token = 0; token < known; ++token) {
      bits[static_cast<size_t>(token / 64)] |= uint64_t{1} << (token % 64);
    }
    bits_ = std::make_shared<const std::vector<uint64_t>>(std::move(bits));
  }
  std::unique_ptr<SamplingConstraint> clone() const override {
    return std::make_unique<KnownTokens>(*this);
  }
  std::span<const uint64_t> allowed() override { return *bits_; }
  void accept(int32_t /*token*/) override {}

 private:
  std::shared_ptr<const std::vector<uint64_t>> bits_;
};

class JsonConstraint : public infer::SamplingConstraint {
 public:
  JsonConstraint(std::shared_ptr<const infer::TokenVocabulary> vocabulary,
                 std::shared_ptr<const text::JsonGrammar> grammar,
                 int64_t rows)
      : constraint_(std::move(vocabulary), std::move(grammar)), bits_(no_bits(rows)) {}

  std::unique_ptr<SamplingConstraint> clone() const override {
    return std::make_unique<JsonConstraint>(*this);
  }
  std::span<const uint64_t> allowed() override {
    constraint_.allowed(bits_);
    return bits_;
  }
  void accept(int32_t token) override { constraint_.accept(token); }

 private:
  infer::TokenConstraint constraint_;
  std::vector<uint64_t> bits_;
};

class ToolCallConstraint : public infer::SamplingConstraint {
 public:
  ToolCallConstraint(std::shared_ptr<const infer::TokenVocabulary> vocabulary,
                     std::shared_ptr<const text::JsonGrammar> grammar,
                     std::unique_ptr<infer::SamplingConstraint> outside,
                     int64_t rows,
                     bool parallel)
      : vocabulary_(vocabulary),
        call_(std::move(vocabulary), std::move(grammar)),
        current_(call_),
        outside_(std::move(outside)),
        bits_(no_bits(rows)),
        parallel_(parallel) {
    for (const char* space : {"\n", " "}) {
      if (const auto token = vocabulary_->tokenizer().find(space)) {
        spaces_.push_back(*token);
      }
    }
  }
  ToolCallConstraint(const ToolCallConstraint& other)
      : SamplingConstraint(other),
        vocabulary_(other.vocabulary_),
        call_(other.call_),
        current_(other.current_),
        outside_(other.outside_ ? other.outside_->clone() : nullptr),
        bits_(other.bits_),
        spaces_(other.spaces_),
        parallel_(other.parallel_),
        state_(other.state_),
        may_space_(other.may_space_),
        tail_(other.tail_) {}

  std::unique_ptr<SamplingConstraint> clone() const override {
    return std::make_unique<ToolCallConstraint>(*this);
  }

  std::span<const uint64_t> allowed() override {
    if (state_ == State::kText) {
      return outside_ ? outside_->allowed() : std::span<const uint64_t>();
    }
    // Of a complete call nothing but the end may follow.
    current_.allowed(bits_);
    for (const int32_t token : spaces_) {
      const uint64_t bit = uint64_t{may_space_} << (token % 64);
      bits_[static_cast<size_t>(token / 64)] |= bit;
    }
    return bits_;
  }

  void accept(int32_t token) override {
    if (state_ == State::kText) {
      read_text(vocabulary_->tokenizer().token_bytes(token));
    } else if (!std::exchange(may_space_, false) ||
               std::find(spaces_.begin(), spaces_.end(), token) == spaces_.end()) {
      current_.accept(token);
    }
    if (state_ == State::kCall && current_.complete()) {
      state_ = parallel_ ? State::kText : State::kOver;
    }
  }

 private:
  enum class State { kText, kCall, kOver };

  void read_text(std::string_view bytes) {
    tail_ += bytes;
    const size_t found = tail_.find(kCallOpen);
    if (found == std::string::npos) {
      tail_.erase(0, tail_.size() - std::min(tail_.size(), kCallOpen.size() - 1));
      return;
    }
    current_ = call_;
    std::string_view rest = std::string_view(tail_).substr(found + kCallOpen.size());
    rest.remove_prefix(std::min(rest.find_first_not_of(" \n"), rest.size()));
    // A token that goes on with what is no call leaves text, and so ToolCallReader sees it.
    if (current_.accept_bytes(rest)) {
      state_ = State::kCall;
      may_space_ = rest.empty();
    }
    tail_.clear();
  }

  std::shared_ptr<const infer::TokenVocabulary> vocabulary_;
  infer::TokenConstraint call_;  // at its start
  infer::TokenConstraint current_;
  std::unique_ptr<infer::SamplingConstraint> outside_;
  std::vector<uint64_t> bits_;
  std::vector<int32_t> spaces_;  // which the grammar has none of in front
  bool parallel_;
  State state_ = State::kText;
  bool may_space_ = false;  // once, between the tag and the call
  std::string tail_;        // of the text, as long as it may be the front of a tag
};

// The schema's error as one of the field that holds it.
std::shared_ptr<const text::JsonGrammar> compile(const Json& schema, const std::string& field) {
  try {
    return text::JsonGrammar::from_schema(schema);
  } catch (const core::Error& error) {
    throw bad_request(field, fmt::format("[{}] {}", field, error.what()), "unsupported");
  }
}

std::shared_ptr<const infer::TokenVocabulary> vocabulary_of(ServedModel& model,
                                                            const std::string& field) {
  try {
    return model.vocabulary();
  } catch (const core::Error& error) {
    throw bad_request(field, fmt::format("[{}] {}", field, error.what()), "unsupported");
  }
}

}  // namespace

ConstraintPtr known_tokens(int64_t known, int64_t rows) {
  return std::make_shared<KnownTokens>(known, rows);
}

ConstraintPtr tool_call_constraint(std::shared_ptr<const infer::TokenVocabulary> vocabulary,
                                   std::shared_ptr<const text::JsonGrammar> grammar,
                                   ConstraintPtr outside,
                                   int64_t rows,
                                   bool parallel) {
  return std::make_shared<ToolCallConstraint>(std::move(vocabulary),
                                              std::move(grammar),
                                              outside ? outside->clone() : nullptr,
                                              rows,
                                              parallel);
}

ConstraintPtr make_constraint(ServedModel& model, const CompletionRequest& request) {
  const int64_t rows = model.loaded().model->spec.vocab_size;
  const int64_t known = model.loaded().tokenizer.vocab_size();
  ConstraintPtr outside = known < rows ? known_tokens(known, rows) : nullptr;
  if (request.tool_choice.kind != ToolChoice::Kind::kNone) {
    auto grammar = compile(call_schema(request.tools, request.tool_choice.name), "tools");
    if (request.tool_choice.kind == ToolChoice::Kind::kAuto) {
      return tool_call_constraint(vocabulary_of(model, "tools"),
                                  std::move(grammar),
                                  std::move(outside),
                                  rows,
                                  request.parallel_calls);
    }
    return std::make_shared<JsonConstraint>(
        vocabulary_of(model, "tools"), std::move(grammar), rows);
  }
  if (request.format.kind == ResponseFormat::Kind::kText) {
    return outside;
  }
  auto grammar = request.format.kind == ResponseFormat::Kind::kJsonSchema
                     ? compile(request.format.schema, "response_format.json_schema.schema")
                     : text::JsonGrammar::any_object();
  return std::make_shared<JsonConstraint>(
      vocabulary_of(model, "response_format"), std::move(grammar), rows);
}

}  // namespace adze::serve
