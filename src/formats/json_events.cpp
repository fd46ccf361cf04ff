#include "formats/json_events.h"

#include <fmt/format.h>

#include "core/json.h"
#include "formats/quote_untrusted.h"

namespace adze::formats {

void JsonEvents::read(std::string_view text, std::string_view file) {
  core::check_json_runs(text, file);
  nlohmann::json::sax_parse(text.begin(), text.end(), this);
}

bool JsonEvents::null() {
  refuse("null");
}

bool JsonEvents::boolean(bool value) {
  refuse(value ? "true" : "false");
}

bool JsonEvents::number_integer(number_integer_t value) {
  refuse(fmt::format("{}", value));
}

bool JsonEvents::number_unsigned(number_unsigned_t value) {
  refuse(fmt::format("{}", value));
}

bool JsonEvents::number_float(number_float_t value, const string_t& /*text*/) {
  refuse(fmt::format("{}", value));
}

bool JsonEvents::string(string_t& value) {
  refuse("string " + quote_untrusted(value));
}

bool JsonEvents::binary(binary_t& /*value*/) {
  refuse("binary data");
}

bool JsonEvents::start_object(size_t /*size*/) {
  refuse("an object");
}

bool JsonEvents::key(string_t& value) {
  refuse("key " + quote_untrusted(value));
}

bool JsonEvents::end_object() {
  refuse("the end of the object");
}

bool JsonEvents::start_array(size_t /*size*/) {
  refuse("an array");
}

bool JsonEvents::end_array() {
  refuse("the end of the array");
}

bool JsonEvents::parse_error(size_t position,
                             const std::string& token,
                             const nlohmann::json::exception& /*failure*/) {
  refuse(fmt::format("{} at byte {}, which is no JSON", quote_untrusted(token), position));
}

}  // namespace adze::formats
