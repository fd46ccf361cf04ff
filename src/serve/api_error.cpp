#include "serve/api_error.h"

#include <algorithm>
#include <iostream>

#include "core/error.h"
#include "infer/scheduler.h"
#include "kv/page_pool.h"

namespace adze::serve {
namespace {

// "[field] message" -> field, as a request spells it
std::string field_of(const std::string& message) {
  const size_t end = message.find(']');
  std::string field =
      message.starts_with('[') && end != message.npos ? message.substr(1, end - 1) : "";
  std::replace(field.begin(), field.end(), '-', '_');
  return field;
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
    return bad_request(field_of(message), message);
  }
  if (dynamic_cast<const kv::CacheFull*>(&error) != nullptr) {
    return {503, "server_error", "[cache] has no room now; try again later", "", "cache_full"};
  }
  // Ours, with paths and figures that are no stranger's business.
  std::cerr << "fault: " + message + "\n";
  return {500, "server_error", "[server] failed at this request; its log says why"};
}

}  // namespace adze::serve
