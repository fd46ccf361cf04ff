#pragma once
// What a client is told when a request cannot be served, in OpenAI's form.

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

namespace adze::serve {

class ApiError : public std::runtime_error {
 public:
  // type: OpenAI's class of errors; param: the field at fault, or ""; code: "" for none.
  ApiError(int status,
           std::string_view type,
           const std::string& message,
           std::string_view param = "",
           std::string_view code = "")
      : std::runtime_error(message), status_(status), type_(type), param_(param), code_(code) {}

  int status() const { return status_; }
  nlohmann::ordered_json body() const {
    const auto or_null = [](const std::string& text) {
      return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
    };
    return {{"error",
             {{"message", what()},
              {"type", type_},
              {"param", or_null(param_)},
              {"code", or_null(code_)}}}};
  }

 private:
  int status_;
  std::string type_;
  std::string param_;
  std::string code_;
};

inline ApiError bad_request(std::string_view param,
                            const std::string& message,
                            std::string_view code = "") {
  return {400, "invalid_request_error", message, param, code};
}

// What any exception of a request becomes: errors of the caller are 400, ours are 500.
ApiError to_api_error(const std::exception& error);

}  // namespace adze::serve
