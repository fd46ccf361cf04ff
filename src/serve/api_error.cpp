#include "serve/api_error.h"

#include "core/error.h"
#include "infer/scheduler.h"

namespace adze::serve {
namespace {

// "[field] message" -> field
std::string field_of(const std::string& message) {
  const size_t end = message.find(']');
  return message.starts_with('[') && end != std::string::npos ? message.substr(1, end - 1) : "";
}

}  // namespace

ApiError to_api_error(const std::exception& error) {
  const std::string message = error.what();
  if (const auto* known = dynamic_cast<const ApiError*>(&error)) {
    return *known;
  }
  if (dynamic_cast<const infer::QueueFull*>(&error) != nullptr) {
    return {429, "rate_limit_error", message, "", "queue_full"};
  }
  if (dynamic_cast<const infer::DeadlinePassed*>(&error) != nullptr) {
    return {504, "timeout_error", message, "timeout_seconds", "timeout"};
  }
  if (dynamic_cast<const infer::ContextExceeded*>(&error) != nullptr) {
    return bad_request("messages", message, "context_length_exceeded");
  }
  if (dynamic_cast<const core::UsageError*>(&error) != nullptr) {
    std::string field = field_of(message);
    for (char& letter : field) {
      letter = letter == '-' ? '_' : letter;
    }
    return bad_request(field, message);
  }
  if (dynamic_cast<const core::Error*>(&error) != nullptr) {
    return bad_request(field_of(message), message);
  }
  return {500, "server_error", message};
}

}  // namespace adze::serve
