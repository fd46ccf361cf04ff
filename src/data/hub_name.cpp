#include "data/hub_name.h"

#include <algorithm>

#include <fmt/format.h>

namespace adze::data {
namespace {

bool is_letter_or_digit(char character) {
  return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
         (character >= '0' && character <= '9');
}

// One half of a repository's name; a revision may have slashes between such parts.
bool is_name_part(std::string_view part) {
  return !part.empty() && part.size() <= 100 && part[0] != '.' && part[0] != '-' &&
         std::all_of(part.begin(), part.end(), [](char character) {
           return is_letter_or_digit(character) || character == '.' || character == '_' ||
                  character == '-';
         });
}

bool is_revision(std::string_view revision) {
  if (revision.size() > 200) {
    return false;
  }
  for (size_t begin = 0;;) {
    const size_t slash = revision.find('/', begin);
    if (!is_name_part(revision.substr(begin, slash - begin))) {
      return false;
    }
    if (slash == std::string_view::npos) {
      return true;
    }
    begin = slash + 1;
  }
}

}  // namespace

std::string HubName::model() const {
  return repository.substr(repository.find('/') + 1);
}

std::string HubName::text() const {
  return revision == "main" ? repository : repository + "@" + revision;
}

std::optional<HubName> parse_hub_name(std::string_view text) {
  HubName name;
  if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    name.file = text.substr(colon + 1);
    text = text.substr(0, colon);
    if (!is_hub_path(name.file)) {
      return std::nullopt;
    }
  }
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    name.revision = text.substr(at + 1);
    text = text.substr(0, at);
    if (!is_revision(name.revision)) {
      return std::nullopt;
    }
  }
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos || !is_name_part(text.substr(0, slash)) ||
      !is_name_part(text.substr(slash + 1))) {
    return std::nullopt;
  }
  name.repository = text;
  return name;
}

bool is_hub_path(std::string_view path) {
  if (path.size() > 500) {
    return false;
  }
  for (size_t i = 0; i < path.size(); ++i) {
    const auto byte = static_cast<unsigned char>(path[i]);
    const auto next = static_cast<unsigned char>(i + 1 < path.size() ? path[i + 1] : 0);
    // C2 80 to C2 9F are the controls of Latin-1 in UTF-8, which some terminals obey.
    if (byte < 0x20 || byte == 0x7f || byte == '\\' ||
        (byte == 0xc2 && next >= 0x80 && next < 0xa0)) {
      return false;
    }
  }
  for (size_t begin = 0;;) {
    const size_t slash = path.find('/', begin);
    const std::string_view part = path.substr(begin, slash - begin);
    if (part.empty() || part.size() > 255 || part == "." || part == "..") {
      return false;
    }
    if (slash == std::string_view::npos) {
      return true;
    }
    begin = slash + 1;
  }
}

std::string url_escaped(std::string_view text, std::string_view kept) {
  std::string escaped;
  for (const char character : text) {
    if (is_letter_or_digit(character) ||
        std::string_view("-._~").find(character) != std::string_view::npos ||
        kept.find(character) != std::string_view::npos) {
      escaped += character;
    } else {
      escaped += fmt::format("%{:02X}", static_cast<unsigned char>(character));
    }
  }
  return escaped;
}

}  // namespace adze::data
