#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regular_expression.h"

#include <algorithm>
#include <ctime>
#include <limits>
#include <new>

#include <pcre2.h>

#include "core/error.h"
#include "text/printable.h"
#include "text/utf8.h"

namespace adze::text {

namespace {

constexpr size_t kMaxExpressionBytes = 1 << 16;
// Backtracking of one match: honest expressions look at each character a few times.
constexpr uint32_t kMatchLimit = 1U << 20;
constexpr uint32_t kMatchLimitPerByte = 8;
constexpr uint32_t kDepthLimit = 10'000;
// Where a match is looked for at once; between, the time is checked.
constexpr size_t kWindowBytes = 4096;
// All matching on one text. Expressions of known families take 0.05 microseconds a byte.
constexpr std::chrono::seconds kTimeLimit{1};
constexpr std::chrono::microseconds kTimeLimitPerByte{2};
constexpr uint32_t kCallsPerTimeCheck = 16;

struct Pcre2Deleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

std::chrono::nanoseconds processor_time() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

struct RegularExpression::Workspace::Memory {
  std::unique_ptr<pcre2_match_context, Pcre2Deleter> context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_match_data, Pcre2Deleter> data{pcre2_match_data_create(1, nullptr)};
};

struct RegularExpression::Code {
  std::unique_ptr<pcre2_code, Pcre2Deleter> code;
  bool compiled = false;  // to machine code
  bool watched = true;
};

RegularExpression::Workspace::Workspace() : memory_(std::make_unique<Memory>()) {
  if (!memory_->context || !memory_->data) {
    throw std::bad_alloc();
  }
  pcre2_set_depth_limit(memory_->context.get(), kDepthLimit);
  begin(0);
}

RegularExpression::Workspace::~Workspace() = default;

void RegularExpression::Workspace::begin(size_t text_bytes) {
  const uint64_t limit = kMatchLimit + kMatchLimitPerByte * static_cast<uint64_t>(text_bytes);
  pcre2_set_match_limit(memory_->context.get(),
                        static_cast<uint32_t>(std::min<uint64_t>(limit, 1U << 31)));
  const auto allowed = kTimeLimit + kTimeLimitPerByte * static_cast<int64_t>(text_bytes);
  deadline_ = std::chrono::steady_clock::now() + allowed;
  processor_time_limit_ = processor_time() + allowed;
}

// A process that was suspended is not at fault: what counts is the time this thread has worked.
void RegularExpression::Workspace::check_time() {
  if (std::chrono::steady_clock::now() > deadline_ && processor_time() > processor_time_limit_) {
    throw core::error("tokenizer", "text: an expression of the tokenizer takes too long on it");
  }
}

RegularExpression::RegularExpression(std::string_view expression, Cost cost)
    : code_(std::make_unique<Code>()) {
  code_->watched = cost == Cost::kUnknown;
  if (expression.size() > kMaxExpressionBytes) {
    throw core::error("tokenizer",
                      "expression: expected at most {} bytes, got {}",
                      kMaxExpressionBytes,
                      expression.size());
  }
  if (valid_prefix(expression) != expression.size()) {
    throw core::error("tokenizer", "expression: expected UTF-8, got other bytes");
  }
  const std::string pattern = translated_expression(expression);
  const std::unique_ptr<pcre2_compile_context, Pcre2Deleter> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  size_t offset = 0;
  code_->code.reset(pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()),
      pattern.size(),
      PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | (code_->watched ? PCRE2_USE_OFFSET_LIMIT : 0U),
      &error,
      &offset,
      context.get()));
  if (code_->code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    throw core::error("tokenizer",
                      "expression '{}': {}",
                      printable(expression, 200),
                      reinterpret_cast<const char*>(message));
  }
  // Where the platform has no just-in-time compiler, matching interprets: slower, same result.
  code_->compiled = pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE) == 0;
}

RegularExpression::~RegularExpression() = default;
RegularExpression::RegularExpression(RegularExpression&&) noexcept = default;
RegularExpression& RegularExpression::operator=(RegularExpression&&) noexcept = default;

bool RegularExpression::find(std::string_view text,
                             size_t start,
                             Workspace& workspace,
                             Match& match) const {
  return code_->watched ? find_watched(text, start, workspace, match)
                        : find_in(text, start, workspace, match);
}

// Looks for a match that begins within the next window, then the next, and minds the time.
bool RegularExpression::find_watched(std::string_view text,
                                     size_t start,
                                     Workspace& workspace,
                                     Match& match) const {
  pcre2_match_context* const context = workspace.memory_->context.get();
  if (++workspace.calls_ % kCallsPerTimeCheck == 0) {
    workspace.check_time();
  }
  while (true) {
    const size_t limit = start + std::min(kWindowBytes, text.size() - start);
    pcre2_set_offset_limit(context, limit);
    const bool found = find_in(text, start, workspace, match);
    pcre2_set_offset_limit(context, PCRE2_UNSET);
    if (found || limit == text.size()) {
      return found;
    }
    start = limit + 1;
    while (start < text.size() && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) {
      ++start;
    }
    workspace.check_time();
  }
}

bool RegularExpression::find_in(std::string_view text,
                                size_t start,
                                Workspace& workspace,
                                Match& match) const {
  pcre2_match_data* const data = workspace.memory_->data.get();
  const auto run = [&](auto function, uint32_t options) {
    return function(code_->code.get(),
                    reinterpret_cast<PCRE2_SPTR>(text.data()),
                    text.size(),
                    start,
                    options,
                    data,
                    workspace.memory_->context.get());
  };
  int result = code_->compiled ? run(pcre2_jit_match, 0) : run(pcre2_match, PCRE2_NO_UTF_CHECK);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
    result = run(pcre2_match, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
  }
  if (result == PCRE2_ERROR_NOMATCH) {
    return false;
  }
  if (result < 0) {
    throw core::error(
        "tokenizer", "text: an expression of the tokenizer gave up with PCRE2 error {}", result);
  }
  const size_t* bounds = pcre2_get_ovector_pointer(data);
  match = {std::max(bounds[0], start), std::max(bounds[1], start)};
  return true;
}

}  // namespace adze::text
