#pragma once
// JSON read event by event: no tree, so that memory is what the receiver keeps, and equal keys are
// seen. A receiver overrides the events that its format has; any other is refused.

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace adze::formats {

class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  // Throws core::Error, naming `file`: what fault() says, or the place where `text` is no JSON.
  void read(std::string_view text, std::string_view file);

  bool null() override;
  bool boolean(bool value) override;
  bool number_integer(number_integer_t value) override;  // only negative ones
  bool number_unsigned(number_unsigned_t value) override;
  bool number_float(number_float_t value, const string_t& text) override;
  bool string(string_t& value) override;
  bool binary(binary_t& value) override;
  bool start_object(size_t size) override;
  bool key(string_t& value) override;
  bool end_object() override;
  bool start_array(size_t size) override;
  bool end_array() override;
  bool parse_error(size_t position,
                   const std::string& token,
                   const nlohmann::json::exception& failure) override;

 protected:
  [[noreturn]] void refuse(std::string_view got) const { throw fault(got); }

  // The format has something else at this place than `got`.
  virtual core::Error fault(std::string_view got) const = 0;
};

}  // namespace adze::formats
